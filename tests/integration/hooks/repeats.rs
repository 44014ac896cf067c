//! The kubelet repeats its calls, shortens them and gives them up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crihook::sim::STOP_TAKES;
use tokio::task::JoinHandle;

use super::*;

fn stop(node: &Node, id: &str, timeout: i64) -> JoinHandle<Result<(), tonic::Status>> {
    let (cri, id) = (node.cri.clone(), id.to_owned());
    tokio::spawn(async move { cri.stop(&id, timeout).await })
}

async fn succeeds(call: JoinHandle<Result<(), tonic::Status>>) {
    within("the answer", call).await.expect("no panic").expect("stopped");
}

fn drain(server: &HookServer) -> String {
    policy("drain-web", &[webhook("drain", "PreStop", server, &json!({"timeout": "10m"}))])
}

#[tokio::test]
async fn a_second_stop_joins_the_hook_in_progress() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Held);
    place.write("a.yaml", &drain(&server));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    let first = stop(&node, &web.id, 60);
    server.wait(1).await;
    let second = stop(&node, &web.id, 60);
    node.wait_in_flight("StopContainer", 2.0).await;
    assert!(node.heard("StopContainer").is_empty(), "both wait");
    server.release();
    succeeds(first).await;
    succeeds(second).await;
    assert_eq!((server.delivered().len(), node.runs("drain").await.len()), (1, 1));
    assert_eq!(node.heard("StopContainer").len(), 2, "each is passed on");
}

#[tokio::test]
async fn a_hook_that_has_succeeded_is_not_run_again_while_the_container_takes_its_time() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &drain(&server));
    let node = place.start().await;
    let web = node.running("web", &[(STOP_TAKES, "1h")]).await;
    let first = stop(&node, &web.id, 300);
    node.wait_heard("StopContainer", 1).await;
    first.abort();
    within("the second stop", node.cri.stop(&web.id, 1)).await.expect("stopped");
    assert_eq!(server.delivered().len(), 1);
    assert_eq!(node.stop_timeouts()[1], 1, "where nothing ran, nothing is changed");
}

#[tokio::test]
async fn a_hook_that_has_failed_is_run_again_by_the_next_stop() {
    let place = Place::new();
    let times = AtomicUsize::new(0);
    let server = place.server("hook", move |_| match times.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Status(500, "not yet"),
        _ => Reply::Ok,
    });
    place.write("a.yaml", &drain(&server));
    let node = place.start().await;
    let web = node.running("web", &[(STOP_TAKES, "1h")]).await;
    let first = stop(&node, &web.id, 300);
    node.wait_heard("StopContainer", 1).await;
    first.abort();
    let second = stop(&node, &web.id, 300);
    node.wait_heard("StopContainer", 2).await;
    second.abort();
    within("the third stop", node.cri.stop(&web.id, 1)).await.expect("stopped");
    let outcomes: Vec<_> = node.ended("drain", 2).await.iter().map(|run| run["outcome"].clone()).collect();
    assert_eq!((outcomes, server.delivered().len()), (vec![json!("failed"), json!("succeeded")], 2));
}

#[tokio::test]
async fn a_stop_that_comes_back_with_a_shorter_timeout_shortens_the_hook() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Hang);
    place.write("a.yaml", &drain(&server));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    let first = stop(&node, &web.id, 600);
    server.wait(1).await;
    let begun = Instant::now();
    let second = stop(&node, &web.id, 1);
    succeeds(second).await;
    succeeds(first).await;
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert_eq!(node.outcome("drain").await["outcome"], "timed_out");
    assert_eq!(server.delivered().len(), 1);
}

/// As a force delete does it: the long stop is cancelled, and one without grace follows.
#[tokio::test]
async fn a_cancelled_stop_cancels_its_hook() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Hang);
    place.write("a.yaml", &drain(&server));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    let first = stop(&node, &web.id, 600);
    server.wait(1).await;
    first.abort();
    server.wait_left(1).await;
    assert_eq!(node.outcome("drain").await["outcome"], "cancelled");
    assert!(node.heard("StopContainer").is_empty(), "nobody waits for it any more");
    within("the forced stop", node.cri.stop(&web.id, 0)).await.expect("stopped");
    assert_eq!((node.stop_timeouts(), server.delivered().len()), (vec![0], 1));
}

#[tokio::test]
async fn a_hook_goes_on_as_long_as_one_of_its_calls_is_left() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Held);
    place.write("a.yaml", &drain(&server));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    let first = stop(&node, &web.id, 60);
    server.wait(1).await;
    let asked = node.heard("ContainerStatus").len();
    let second = stop(&node, &web.id, 60);
    // The last thing before it joins is the question whether the container runs.
    node.wait_heard("ContainerStatus", asked + 1).await;
    node.runs("drain").await;
    first.abort();
    node.wait_in_flight("StopContainer", 1.0).await;
    server.release();
    succeeds(second).await;
    assert_eq!((server.delivered().len(), server.left()), (1, 0));
    assert_eq!(node.outcome("drain").await["outcome"], "succeeded");
}

#[tokio::test]
async fn post_points_follow_success_only_and_once_however_often_a_call_is_repeated() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    let points = [
        "PostStartContainer",
        "PostStopContainer",
        "PostRemoveContainer",
        "PostStopPodSandbox",
        "PostRemovePodSandbox",
    ];
    let hooks = points.map(|point| webhook(&point.to_lowercase(), point, &server, &json!({"mode": "Blocking"})));
    place.write("a.yaml", &policy("watch-web", &hooks));
    let node = place.start().await;
    let web = node.created("web", &[]).await;
    let fails_once = |method: &str| node.runtime.fail_next(method, 1).expect("a method");

    fails_once("StartContainer");
    assert_eq!(node.cri.start(&web.id).await.expect_err("refused").code(), tonic::Code::Internal);
    assert!(server.points().is_empty(), "{:?}", server.points());
    node.cri.start(&web.id).await.expect("started");
    assert_eq!(server.points(), &points[..1]);
    node.cri.start(&web.id).await.expect_err("it runs already");

    for (method, seen) in [("StopContainer", 2), ("RemoveContainer", 3), ("StopPodSandbox", 4), ("RemovePodSandbox", 5)]
    {
        fails_once(method);
        for nth in 0..3 {
            let answer = match method {
                "StopContainer" => node.cri.stop(&web.id, 5).await,
                "RemoveContainer" => node.cri.remove(&web.id).await,
                "StopPodSandbox" => node.cri.stop_pod(&web.sandbox).await,
                _ => node.cri.remove_pod(&web.sandbox).await,
            };
            assert_eq!(answer.is_err(), nth == 0, "{method}: {answer:?}");
            assert_eq!(server.points().len(), if nth == 0 { seen - 1 } else { seen }, "{method}, call {nth}");
        }
    }
    assert_eq!(server.points(), points);
}

#[tokio::test]
async fn every_update_of_resources_is_an_event_of_its_own() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    let hooks = ["PreUpdateContainerResources", "PostUpdateContainerResources"]
        .map(|point| webhook(&point.to_lowercase(), point, &server, &json!({"mode": "Blocking"})));
    place.write("a.yaml", &policy("watch-web", &hooks));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    for shares in [100, 200, 300] {
        node.cri.update(&web.id, shares).await.expect("updated");
    }
    let ids: std::collections::BTreeSet<_> = server.delivered().iter().map(|seen| seen.id().to_owned()).collect();
    assert_eq!((server.delivered().len(), ids.len()), (6, 6));
}

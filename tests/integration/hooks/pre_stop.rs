//! `PreStop`: to its end before the runtime hears of the stop, out of the grace period, and never in the way of the stop.

use std::time::{Duration, Instant};

use crihook::cri::v1::ContainerState;
use crihook::sim::EXIT_AFTER;

use super::*;

/// A node whose pods have one `PreStop` hook at this server.
async fn node_with(place: &Place, server: &HookServer, more: &Value) -> Node {
    place.write("a.yaml", &policy("drain-web", &[webhook("drain", "PreStop", server, more)]));
    place.start().await
}

#[tokio::test]
async fn the_runtime_hears_of_the_stop_after_the_hook_is_done() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Held);
    let node = node_with(&place, &server, &json!({"timeout": "60s"})).await;
    let web = node.running("web", &[]).await;
    let (cri, id) = (node.cri.clone(), web.id.clone());
    let call = tokio::spawn(async move { cri.stop(&id, 60).await });
    let delivered = server.wait(1).await.remove(0);
    assert_eq!(delivered.point(), "PreStopContainer");
    let grace = delivered.document["data"]["graceSeconds"].as_u64();
    assert!(grace.is_some_and(|grace| (50..=60).contains(&grace)), "the hook knows what is left: {grace:?}");
    node.cri.version().await.expect("an answer, by which the stop would have come through");
    assert!(!call.is_finished() && node.heard("StopContainer").is_empty(), "the hook is not done");
    assert_eq!(node.cri.state(&web.id).await, ContainerState::ContainerRunning);
    server.release();
    within("the answer", call).await.expect("no panic").expect("stopped");
    assert_eq!(node.cri.state(&web.id).await, ContainerState::ContainerExited);
    assert_eq!(node.outcome("drain").await["outcome"], "succeeded");
}

#[tokio::test]
async fn three_seconds_of_ten_leave_seven_to_the_runtime() {
    let place = Place::new();
    place.write("a.yaml", &policy("drain-web", &[hook("wait", "PreStop", &json!({"sleep": {"seconds": 3}}))]));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    node.cri.stop(&web.id, 10).await.expect("stopped");
    assert_eq!(node.stop_timeouts(), [7]);
    assert_eq!(node.outcome("wait").await["outcome"], "succeeded");
}

#[tokio::test]
async fn a_hook_that_hangs_is_cut_when_the_grace_is_used_up_and_two_seconds_are_left_to_the_runtime() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Hang);
    let node = node_with(&place, &server, &json!({"timeout": "60s"})).await;
    let (web, short) = (node.running("web", &[]).await, node.running("short", &[]).await);
    let begun = Instant::now();
    let (long_stop, short_stop) = tokio::join!(node.cri.stop(&web.id, 3), node.cri.stop(&short.id, 1));
    long_stop.expect("stopped");
    short_stop.expect("stopped");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(2900) && took < Duration::from_secs(30), "{took:?}");
    let mut forwarded = node.stop_timeouts();
    forwarded.sort_unstable();
    assert_eq!(forwarded, [1, 2], "never more than was asked for");
    let outcomes: Vec<_> = node.ended("drain", 2).await.iter().map(|run| run["outcome"].clone()).collect();
    assert_eq!(outcomes, ["timed_out", "timed_out"]);
}

#[tokio::test]
async fn all_hooks_share_one_grace() {
    let place = Place::new();
    let hooks = ["first", "second", "third"].map(|name| hook(name, "PreStop", &json!({"sleep": {"seconds": 2}})));
    place.write("a.yaml", &policy("drain-web", &hooks));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    let begun = Instant::now();
    node.cri.stop(&web.id, 3).await.expect("stopped");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(node.stop_timeouts(), [2]);
    let mut outcomes = Vec::new();
    for name in ["first", "second", "third"] {
        outcomes.push(node.outcome(name).await["outcome"].clone());
    }
    assert_eq!(outcomes, ["succeeded", "timed_out", "timed_out"]);
}

#[tokio::test]
async fn a_stop_without_grace_runs_no_hook_and_is_not_changed() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    let node = node_with(&place, &server, &plain()).await;
    let web = node.running("web", &[]).await;
    node.cri.stop(&web.id, 0).await.expect("stopped");
    assert_eq!(node.stop_timeouts(), [0]);
    assert_eq!(node.cri.state(&web.id).await, ContainerState::ContainerExited);
    assert_eq!((server.delivered().len(), node.runs("drain").await.len()), (0, 0));
}

#[tokio::test]
async fn the_stop_goes_on_whatever_the_hook_did() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Status(500, "cannot drain"));
    let broken = [
        webhook("refused", "PreStop", &server, &plain()),
        hook("nobody", "PreStop", &json!({"webhook": {"url": format!("unix://{}:/", place.path("absent").display())}})),
        hook("missing", "PreStop", &json!({"exec": {"command": ["/no/such/program"]}})),
        hook("nowhere", "PreStop", &json!({"command": {"command": ["/no/such/program"]}})),
    ];
    place.write("a.yaml", &policy("drain-web", &broken));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    within("the stop", node.cri.stop(&web.id, 30)).await.expect("stopped");
    assert_eq!(node.cri.state(&web.id).await, ContainerState::ContainerExited);
    for name in ["refused", "nobody", "missing", "nowhere"] {
        let run = node.outcome(name).await;
        assert_eq!(run["outcome"], "failed", "{run}");
    }
    assert_eq!(node.runs("refused").await[0]["attempts"][0]["body"], "cannot drain");
}

#[tokio::test]
async fn a_container_that_has_exited_is_stopped_without_hooks() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    let node = node_with(&place, &server, &plain()).await;
    let web = node.running("web", &[(EXIT_AFTER, "1ms")]).await;
    until("the container's own end", || async {
        let state = node.cri.state(&web.id).await;
        if state == ContainerState::ContainerExited { Ok(()) } else { Err(state) }
    })
    .await;
    node.cri.stop(&web.id, 10).await.expect("stopped");
    assert_eq!((node.stop_timeouts(), server.delivered().len()), (vec![10], 0));
}

/// A container that may be running is drained.
#[tokio::test]
async fn the_hook_runs_when_the_runtime_cannot_say_whether_the_container_does() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    let node = node_with(&place, &server, &plain()).await;
    let web = node.running("web", &[]).await;
    node.runtime.fail_next("ContainerStatus", 10).expect("a method");
    node.cri.stop(&web.id, 10).await.expect("stopped");
    assert_eq!((node.stop_timeouts(), server.points()), (vec![10], vec!["PreStopContainer".to_owned()]));
}

#[tokio::test]
async fn a_stop_in_progress_is_finished_with_its_hook_when_crihook_is_told_to_end() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Held);
    let mut node = node_with(&place, &server, &json!({"timeout": "60s"})).await;
    let web = node.running("web", &[]).await;
    let (cri, id) = (node.cri.clone(), web.id.clone());
    let call = tokio::spawn(async move { cri.stop(&id, 60).await });
    server.wait(1).await;
    node.crihook.signal(nix::sys::signal::Signal::SIGTERM);
    until("the end of the listener", || async {
        let connected = tokio::net::UnixStream::connect(node.front()).await;
        if connected.is_ok() { Err("it still listens") } else { Ok(()) }
    })
    .await;
    assert!(node.crihook.running() && !call.is_finished(), "it waits for the hook");
    server.release();
    within("the answer", call).await.expect("no panic").expect("stopped");
    assert_eq!(within("the exit", node.crihook.exit()).await, Some(0));
    assert_eq!((node.stop_timeouts().len(), server.left()), (1, 0));
}

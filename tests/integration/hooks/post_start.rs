//! `PostStart`: right after the container has started, in the background unless it is asked to block.

use std::time::{Duration, Instant};

use crihook::cri::v1::ContainerState;

use super::*;

#[tokio::test]
async fn a_background_hook_follows_the_start_at_once_and_does_not_delay_its_answer() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Held);
    place.write("a.yaml", &policy("announce-web", &[webhook("announce", "PostStart", &server, &plain())]));
    let node = place.start().await;
    let web = node.created("web", &[]).await;
    within("the answer, while the hook's server is silent", node.cri.start(&web.id)).await.expect("started");
    let delivered = server.wait(1).await.remove(0);
    assert_eq!((delivered.point(), delivered.path.as_str()), ("PostStartContainer", "/v1/events"));
    assert!(node.heard("StartContainer")[0].at < delivered.at, "first the runtime, then the hook");
    assert_eq!((delivered.pod(), &delivered.container()["name"]), ("web", &json!("main")));
    assert_eq!(delivered.container()["id"], *web.id);
    server.release();
    let run = node.outcome("announce").await;
    assert_eq!((&run["outcome"], &run["policy"]), (&json!("succeeded"), &json!("announce-web")));
    assert_eq!((&run["point"], &run["attempts"][0]["httpStatus"]), (&json!("PostStartContainer"), &json!(200)));
}

#[tokio::test]
async fn a_blocking_hook_holds_the_answer_until_it_is_done() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Held);
    let warm = webhook("warm", "PostStart", &server, &json!({"mode": "Blocking", "timeout": "60s"}));
    place.write("a.yaml", &policy("warm-web", &[warm]));
    let node = place.start().await;
    let web = node.created("web", &[]).await;
    let (cri, id) = (node.cri.clone(), web.id.clone());
    let call = tokio::spawn(async move { cri.start(&id).await });
    server.wait(1).await;
    assert_eq!(node.cri.state(&web.id).await, ContainerState::ContainerRunning, "the runtime has started it before");
    assert!(!call.is_finished(), "the hook is not done");
    server.release();
    within("the answer", call).await.expect("no panic").expect("started");
    assert_eq!(node.outcome("warm").await["outcome"], "succeeded");
}

#[tokio::test]
async fn a_blocking_hook_that_hangs_is_cut_at_its_timeout_and_ignored() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Hang);
    let warm = webhook("warm", "PostStart", &server, &json!({"mode": "Blocking", "timeout": "400ms"}));
    place.write("a.yaml", &policy("warm-web", &[warm]));
    let node = place.start().await;
    let web = node.created("web", &[]).await;
    let begun = Instant::now();
    node.cri.start(&web.id).await.expect("started all the same");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(390) && took < Duration::from_secs(20), "{took:?}");
    assert_eq!(node.outcome("warm").await["outcome"], "timed_out");
    server.wait_left(1).await;
    assert_eq!(node.cri.state(&web.id).await, ContainerState::ContainerRunning);
}

/// The kubelet's deadline is for the runtime, too: what hooks may use ends the reserve (5 s) before it.
#[tokio::test]
async fn a_blocking_hook_ends_before_the_deadline_of_its_call() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Hang);
    let warm = webhook("warm", "PostStart", &server, &json!({"mode": "Blocking", "timeout": "10m"}));
    place.write("a.yaml", &policy("warm-web", &[warm]));
    let node = place.start().await;
    let web = node.created("web", &[]).await;
    let limit = Duration::from_secs(6);
    node.cri.start_within(&web.id, limit).await.expect("within its deadline");
    assert_eq!(node.outcome("warm").await["outcome"], "timed_out");
}

#[tokio::test]
async fn a_blocking_hook_that_must_not_fail_and_does_stops_the_container_and_fails_the_start() {
    let place = Place::new();
    let (server, drain) =
        (place.answering("hook", Reply::Status(503, "not today")), place.answering("drain", Reply::Ok));
    let mut warm = webhook("warm", "PostStart", &server, &json!({"mode": "Blocking", "failurePolicy": "Fail"}));
    warm["webhook"] = json!({"url": server.url("/?token=t0psecret"), "headers": {"authorization": "Bearer s3cr3t"}});
    place.write("a.yaml", &policy("warm-web", &[warm, webhook("drain", "PreStop", &drain, &plain())]));
    let node = place.start().await;
    let web = node.created("web", &[("io.kubernetes.pod.terminationGracePeriod", "20")]).await;
    let status = node.cri.start(&web.id).await.expect_err("the hook has failed");
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status}");
    let told = status.message();
    assert!(told.starts_with("crihook: ") && tells(told, &["`warm-web`", "`warm`", "503"]), "{told}");
    assert!(!told.contains("s3cr3t") && !told.contains("t0psecret"), "{told}");
    assert_eq!(node.cri.state(&web.id).await, ContainerState::ContainerExited);
    let (drained, stops) = (drain.delivered(), node.heard("StopContainer"));
    assert_eq!((drained.len(), stops.len()), (1, 1));
    assert!(drained[0].at < stops[0].at, "PreStop runs before this stop, too");
    assert!((15..=20).contains(&node.stop_timeouts()[0]), "its grace: {:?}", node.stop_timeouts());
}

/// Nobody waits for the start any more, but a container that must not run without its hook does not go on running.
#[tokio::test]
async fn a_container_is_stopped_to_the_end_though_the_start_was_cancelled_meanwhile() {
    let place = Place::new();
    let (server, drain) = (place.answering("hook", Reply::Status(503, "no")), place.answering("drain", Reply::Held));
    let warm = webhook("warm", "PostStart", &server, &json!({"mode": "Blocking", "failurePolicy": "Fail"}));
    let drained = webhook("drain", "PreStop", &drain, &json!({"timeout": "60s"}));
    place.write("a.yaml", &policy("warm-web", &[warm, drained]));
    let node = place.start().await;
    let web = node.created("web", &[]).await;
    let (cri, id) = (node.cri.clone(), web.id.clone());
    let call = tokio::spawn(async move { cri.start(&id).await });
    drain.wait(1).await;
    call.abort();
    node.wait_in_flight("StartContainer", 0.0).await;
    drain.release();
    until("the end of the container", || async {
        let state = node.cri.state(&web.id).await;
        if state == ContainerState::ContainerExited { Ok(()) } else { Err(state) }
    })
    .await;
    assert_eq!(node.outcome("drain").await["outcome"], "succeeded");
}

#[tokio::test]
async fn runs_of_a_container_that_still_wait_are_abandoned_when_it_is_stopped() {
    let place = Place::new();
    let (server, after) = (place.answering("hook", Reply::Hang), place.answering("after", Reply::Ok));
    let hooks = [
        webhook("slow", "PostStart", &server, &json!({"timeout": "60s"})),
        webhook("after", "PostStart", &after, &plain()),
        webhook("drain", "PreStop", &after, &plain()),
    ];
    place.write("a.yaml", &policy("announce-web", &hooks));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    server.wait(1).await;
    within("the stop", node.cri.stop(&web.id, 10)).await.expect("stopped");
    assert_eq!(node.outcome("after").await["outcome"], "abandoned");
    assert_eq!(after.points(), ["PreStopContainer"], "what was abandoned is not delivered any more");
}

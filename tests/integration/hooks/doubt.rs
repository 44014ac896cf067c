//! Calls that nobody hears the end of: what was promised for after them is kept if the runtime has done them, and else never was.

use std::time::Duration;

use crihook::sim::Options;
use tonic::Code;

use super::*;

/// A node whose runtime does what `method` asks at once and says so after far longer than anybody waits.
async fn silent(place: &Place, method: &str) -> Node {
    let options = Options::default().answer_late(method, Duration::from_mins(10)).expect("a method of CRI");
    place.start_on(&options, |_| ()).await
}

#[tokio::test]
async fn a_container_that_started_has_its_post_start_though_the_client_went_away() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    let hooks = [
        webhook("announce", "PostStart", &server, &plain()),
        webhook("warm", "PostStart", &server, &json!({"mode": "Blocking"})),
    ];
    place.write("a.yaml", &policy("announce-web", &hooks));
    let node = silent(&place, "StartContainer").await;
    let made = node.created("web", &[]).await;
    let gone = node.cri.start_within(&made.id, Duration::from_millis(300)).await.expect_err("nobody answers");
    assert!(matches!(gone.code(), Code::DeadlineExceeded | Code::Cancelled), "{gone:?}");
    for hook in ["announce", "warm"] {
        assert_eq!(node.outcome(hook).await["outcome"], "succeeded", "{hook}");
    }
    assert_eq!(server.delivered().len(), 2);
}

#[tokio::test]
async fn a_sandbox_that_was_made_has_its_hooks_with_its_id_though_the_client_went_away() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &policy("announce-web", &[webhook("announce", "PostRunPodSandbox", &server, &plain())]));
    let node = silent(&place, "RunPodSandbox").await;
    let run = node.cri.clone();
    let call = tokio::spawn(async move { run.run_pod(&pod("web")).await });
    node.wait_heard("RunPodSandbox", 1).await;
    call.abort();
    let run = node.outcome("announce").await;
    assert_eq!(run["outcome"], "succeeded");
    let id = run["sandboxId"].as_str().expect("an id");
    assert!(!node.cri.ip(id).await.is_empty(), "it is the sandbox that was made");
    assert_eq!(server.delivered()[0].document["data"]["pod"]["sandboxId"], id);
}

#[tokio::test]
async fn of_a_call_that_the_runtime_refused_nothing_is_promised() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &policy("announce-web", &[webhook("announce", "PostStart", &server, &plain())]));
    let node = place.start().await;
    let made = node.created("web", &[]).await;
    node.runtime.fail_next("StartContainer", 1).expect("a method of CRI");
    node.cri.start(&made.id).await.expect_err("refused");
    until("a history without it", || async {
        let runs = node.runs("announce").await;
        if runs.is_empty() { Ok(()) } else { Err(runs) }
    })
    .await;
    node.cri.start(&made.id).await.expect("started");
    node.outcome("announce").await;
    assert_eq!(server.delivered().len(), 1);
}

/// A node that is brought up to date: both are replaced, and crihook is back first.
#[tokio::test]
async fn a_container_that_started_has_its_post_start_though_crihook_and_the_runtime_both_died() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    let hooks = [
        webhook("announce", "PostStart", &server, &plain()),
        webhook("warm", "PostStart", &server, &json!({"mode": "Blocking"})),
    ];
    place.write("a.yaml", &policy("announce-web", &hooks));
    let mut node = silent(&place, "StartContainer").await;
    let made = node.created("web", &[]).await;
    let (start, id) = (node.cri.clone(), made.id.clone());
    let call = tokio::spawn(async move { start.start(&id).await });
    node.wait_heard("StartContainer", 1).await;
    node.crihook.kill();
    call.await.expect("no panic").expect_err("the call died with crihook");
    node.lose_runtime().await;
    node.restart().await;
    node.wait_metric("crihook_upstream_up", &[], 0.0).await;
    assert!(server.delivered().is_empty(), "nobody can know yet");

    node.find_runtime();
    for hook in ["announce", "warm"] {
        assert_eq!(node.outcome(hook).await["outcome"], "succeeded", "{hook}");
    }
    let told = server.delivered();
    assert!(told.len() == 2 && told.iter().all(|told| told.container()["id"] == *made.id), "{told:?}");
}

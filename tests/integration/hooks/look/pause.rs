//! `crihook pause` and `resume`: hooks off and on, calls as ever.

use super::*;

/// Hooks before and after a start, and their server.
fn hooks(place: &Place, reply: Reply) -> HookServer {
    let server = place.server("hook", move |seen| if seen.hook() == "first" { reply.clone() } else { Reply::Ok });
    let hooks = [
        webhook("guard", "PreStartContainer", &server, &plain()),
        webhook("first", "PostStart", &server, &plain()),
        webhook("second", "PostStart", &server, &plain()),
    ];
    place.write("a.yaml", &policy("web", &hooks));
    server
}

#[tokio::test]
async fn a_pause_outlives_a_restart_and_calls_pass_without_hooks() {
    let place = Place::new();
    let server = hooks(&place, Reply::Ok);
    let mut node = place.start().await;
    let said = ask_first(&place, &["pause", "--reason", "moving the hook server"]).await.text();
    assert_eq!(said, "hooks are paused: moving the hook server\n");
    node.restart().await;

    node.running("web-0", &[]).await;
    let status = ask_first(&place, &["status"]).await.text();
    assert!(tells(&status, &["! hooks: paused: moving the hook server", "`crihook resume`"]), "{status}");
    let (code, ready) = node.readiness().await;
    assert!(code == 200 && tells(&ready, &["paused since", "moving the hook server"]), "{ready}");
    node.wait_metric("crihook_hooks_paused", &[], 1.0).await;
    let said = ask(&place, &["pause"]).await.text();
    assert_eq!(said, "hooks were paused already: moving the hook server\n");

    let resumed = ask(&place, &["resume", "-o", "json"]).await.document();
    assert_eq!((&resumed["changed"], &resumed["paused"]["reason"]), (&json!(true), &json!("moving the hook server")));
    assert_eq!(ask(&place, &["resume"]).await.text(), "hooks were on already\n");
    node.wait_metric("crihook_hooks_paused", &[], 0.0).await;
    node.running("web-1", &[]).await;
    let delivered = server.wait(3).await;
    assert!(delivered.iter().all(|seen| seen.pod() == "web-1"), "{delivered:?}");
    node.restart().await;
    let status = ask_first(&place, &["status", "-o", "json"]).await.document();
    assert_eq!(status.get("paused"), None, "neither is the end of a pause forgotten");
}

#[tokio::test]
async fn background_runs_wait_until_hooks_are_on_again() {
    let place = Place::new();
    let server = hooks(&place, Reply::Held);
    let node = place.start().await;
    node.running("web-0", &[]).await;
    server.wait(2).await;
    ask(&place, &["pause"]).await.text();
    server.release();
    assert_eq!(node.outcome("first").await["outcome"], "succeeded", "what is under way goes on");
    let status = ask(&place, &["status", "-o", "json"]).await.document();
    assert_eq!(status["queue"], json!({"waiting": 1, "inFlight": 0}));
    let history = ask(&place, &["history", "--outcome", "pending"]).await.text();
    assert!(tells(&history, &["web/second", "pending"]), "{history}");
    assert_eq!(server.delivered().len(), 2);
    ask(&place, &["resume"]).await.text();
    assert_eq!(node.outcome("second").await["outcome"], "succeeded");
}

#[tokio::test]
async fn a_pause_that_cannot_be_kept_holds_and_says_that_a_restart_ends_it() {
    let place = Place::new();
    std::fs::write(place.path("state"), "").expect("a file in the way");
    let node = place.start().await;
    let said = ask_first(&place, &["pause"]).await;
    assert_eq!((said.code, &*said.out), (Some(0), "hooks are paused\n"));
    assert!(tells(&said.err, &["a restart will not find it so", "state/paused"]), "{said:?}");
    node.wait_metric("crihook_hooks_paused", &[], 1.0).await;
}

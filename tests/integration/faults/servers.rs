//! Hook servers that are gone for longer than anybody tries, and crihook with them.

use serde_json::{Value, json};

use crate::hooks::look::ask;
use crate::hooks::node::Place;
use crate::hooks::server::Reply;
use crate::hooks::{hook, policy};
use crate::wire::peer::until;

/// A hook to a server on the socket `late`, which need not be there.
fn late(place: &Place, retries: &Value) -> String {
    let url = format!("unix://{}:/", place.path("late").display());
    let hook = hook("announce", "PostStart", &json!({"webhook": {"url": url}, "retries": retries}));
    policy("announce-web", &[hook])
}

#[tokio::test]
async fn what_failed_for_good_outlives_crihook_and_can_be_replayed_when_its_server_is_back() {
    let place = Place::new();
    place.write("a.yaml", &late(&place, &json!({"attempts": 3, "backoff": "10ms"})));
    let mut node = place.start().await;
    node.running("web", &[]).await;
    let failed = node.outcome("announce").await;
    let id = failed["id"].as_str().expect("an id").to_owned();
    assert_eq!((&failed["outcome"], failed["attempts"].as_array().map(Vec::len)), (&json!("failed"), Some(3)));

    node.restart().await;
    let server = place.answering("late", Reply::Ok);
    node.running("later", &[]).await;
    server.wait(1).await;
    assert_eq!(server.delivered()[0].pod(), "later", "what failed is not tried again by itself");
    let kept = ask(&place, &["history", "show", &id]).await.text();
    assert!(["announce-web", "web", "failed", "attempt"].iter().all(|word| kept.contains(word)), "{kept}");

    let run = ask(&place, &["replay", &id, "-o", "json"]).await.document();
    assert_eq!((&run["outcome"], &run["replayOf"]), (&json!("succeeded"), &json!(id)));
    assert_eq!((server.delivered()[1].pod(), &server.delivered()[1].document["replayof"]), ("web", &json!(id)));
    node.restart().await;
    assert_eq!(node.runs("announce").await.len(), 3, "the failure, the one after it, and the replay");
}

#[tokio::test]
async fn what_waits_for_a_server_is_delivered_by_the_next_crihook_and_has_used_no_attempt() {
    let place = Place::new();
    place.write("a.yaml", &late(&place, &json!({"attempts": 1})));
    let mut node = place.start().await;
    for n in 0..5 {
        node.running(&format!("web-{n}"), &[]).await;
    }
    node.ended("announce", 5).await;
    node.wait_metric("crihook_hook_breaker_open", &[("policy", "announce-web")], 1.0).await;
    node.running("waits", &[]).await;
    let waiting = until("a run that waits", || async {
        let runs = node.runs("announce").await;
        runs.iter().find(|run| run["pod"] == "waits").cloned().ok_or(runs)
    })
    .await;
    assert_eq!((&waiting["outcome"], &waiting["started"]), (&Value::Null, &json!(0)));

    let server = place.answering("late", Reply::Ok);
    node.restart().await;
    let delivered = server.wait(1).await;
    assert_eq!((delivered[0].pod(), delivered[0].attempt()), ("waits", 1));
    assert_eq!(delivered[0].id(), waiting["id"]);
    let runs = node.ended("announce", 6).await;
    assert_eq!(runs.iter().filter(|run| run["outcome"] == "failed").count(), 5);
}

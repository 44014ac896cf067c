//! `crihook replay`: a hook is run again for an event of the past.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[tokio::test]
async fn a_replay_is_delivered_as_a_new_event_that_names_the_old_one() {
    let place = Place::new();
    let well = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&well);
    let server = place
        .server("hook", move |_| if answers.load(Ordering::SeqCst) { Reply::Ok } else { Reply::Status(500, "no") });
    place.write("a.yaml", &policy("announce-web", &[webhook("announce", "PostStart", &server, &plain())]));
    let node = place.start().await;
    node.running("web-0", &[]).await;
    let old = node.outcome("announce").await["id"].as_str().expect("an id").to_owned();

    let said = ask(&place, &["replay", &old]).await;
    assert_eq!(said.code, Some(1), "a replay that fails is a failure");
    assert!(tells(&said.out, &["failed", "500"]), "{said:?}");
    assert!(tells(&said.err, &["replays", &old[old.len() - 8..]]), "{said:?}");
    well.store(true, Ordering::SeqCst);
    let run = {
        let said = ask(&place, &["replay", &old[old.len() - 8..], "-o", "json"]).await;
        said.document()
    };
    assert_eq!((&run["outcome"], &run["replayOf"]), (&json!("succeeded"), &json!(old)));

    let delivered = server.delivered();
    let ids: Vec<_> = delivered.iter().map(super::super::server::Delivered::id).collect();
    assert_eq!((ids.len(), ids[0], ids[2]), (3, &*old, run["id"].as_str().expect("an id")));
    assert_ne!(ids[1], ids[2]);
    let of: Vec<_> = delivered.iter().map(|seen| seen.document["replayof"].clone()).collect();
    assert_eq!(of, [Value::Null, json!(old), json!(old)]);
    let first = &delivered[0].document["data"];
    assert_eq!(&delivered[2].document["data"], first, "the event is the same");
    assert_eq!(delivered[2].document["time"], delivered[0].document["time"]);
    assert_page("history_of_replays", &place, &ask(&place, &["history"]).await.text());
}

#[tokio::test]
async fn who_does_not_wait_is_told_the_id_of_the_replay() {
    let place = Place::new();
    let server = place.server("hook", |seen| if seen.document["replayof"].is_null() { Reply::Ok } else { Reply::Held });
    place.write("a.yaml", &policy("announce-web", &[webhook("announce", "PostStart", &server, &plain())]));
    let node = place.start().await;
    node.running("web-0", &[]).await;
    let old = node.outcome("announce").await["id"].clone();
    let old = old.as_str().expect("an id");
    let begun = ask(&place, &["replay", "--no-wait", "-o", "json", old]).await.document();
    assert_eq!(begun["replayOf"], old);
    server.wait(2).await;
    let shown = ask(&place, &["history", "show", begun["id"].as_str().expect("an id")]).await.text();
    assert!(tells(&shown, &["replay of", old, "running"]), "{shown}");
    server.release();
    assert_eq!(node.ended("announce", 2).await[1]["outcome"], "succeeded");
}

#[tokio::test]
async fn what_cannot_be_replayed_is_refused_with_the_reason() {
    let place = Place::new();
    let server = place.server("hook", |seen| if seen.pod() == "held" { Reply::Held } else { Reply::Ok });
    place.write("a.yaml", &policy("announce-web", &[webhook("announce", "PostStart", &server, &plain())]));
    let node = place.start().await;
    node.running("web-0", &[]).await;
    let id = node.outcome("announce").await["id"].as_str().expect("an id").to_owned();
    node.running("held", &[]).await;
    server.wait(2).await;
    let pending = node.runs("announce").await[1]["id"].as_str().expect("an id").to_owned();

    let said = ask(&place, &["replay", &pending]).await.refused(1);
    assert!(tells(&said, &[&pending, "has not ended"]), "{said}");
    assert!(ask(&place, &["replay", "ffffffff"]).await.refused(1).contains("no run"));
    ask(&place, &["pause"]).await.text();
    assert!(ask(&place, &["replay", &id]).await.refused(1).contains("`crihook resume`"));
    ask(&place, &["resume"]).await.text();
    place.write("a.yaml", &policy("announce-web", &[webhook("another", "PostStart", &server, &plain())]));
    until("the new policies", || async {
        let said = ask(&place, &["replay", &id]).await;
        if tells(&said.err, &["announce-web", "announce", "PostStartContainer"]) && said.code == Some(1) {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
}

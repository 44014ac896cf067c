//! Deliveries are tried again under the same id, and a server that is down is left in peace and found again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

#[tokio::test]
async fn attempts_rise_under_one_id_until_one_succeeds() {
    let place = Place::new();
    let server = place.server("hook", |seen| match seen.attempt() {
        1 => Reply::Status(500, "not yet"),
        2 => Reply::Status(404, "not here"),
        _ => Reply::Ok,
    });
    let retries = json!({"retries": {"attempts": 5, "backoff": "10ms", "maxBackoff": "20ms"}});
    place.write("a.yaml", &policy("announce-web", &[webhook("announce", "PostStart", &server, &retries)]));
    let node = place.start().await;
    node.running("web", &[]).await;
    let run = node.outcome("announce").await;
    assert_eq!(run["outcome"], "succeeded");
    let delivered = server.delivered();
    let attempts: Vec<_> = delivered.iter().map(super::server::Delivered::attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    assert!(delivered.iter().all(|seen| !seen.id().is_empty() && seen.id() == delivered[0].id()));
    let told: Vec<_> = run["attempts"].as_array().expect("attempts").iter().map(|one| one["number"].clone()).collect();
    assert_eq!(told, [1, 2, 3]);
    assert_eq!(run["attempts"][0]["httpStatus"], 500);
    assert_eq!(run["attempts"][0]["body"], "not yet");
}

#[tokio::test]
async fn a_command_knows_which_attempt_it_is_and_of_which_event() {
    let place = Place::new();
    let file = place.path("attempts");
    let script = format!("echo $ATTEMPT $EVENT_ID $POD_NAME $0 >> {}; test $ATTEMPT = 3", file.display());
    let more = json!({
        "command": {"command": ["/bin/sh", "-c", script, "$(ATTEMPT)-$(POD_NAME)"]},
        "retries": {"attempts": 3, "backoff": "10ms"},
    });
    place.write("a.yaml", &policy("announce-web", &[hook("announce", "PostStart", &more)]));
    let node = place.start().await;
    node.running("web", &[]).await;
    assert_eq!(node.outcome("announce").await["outcome"], "succeeded");
    let text = std::fs::read_to_string(&file).expect("what the command wrote");
    let lines: Vec<Vec<_>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let id = lines[0][1];
    assert!(!id.is_empty());
    let expected = ["1", "2", "3"].map(|n| vec![n.to_owned(), id.into(), "web".into(), format!("{n}-web")]);
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_hook_fails_when_its_attempts_are_used_up() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Status(500, "never"));
    let retries = json!({"retries": {"attempts": 3, "backoff": "5ms"}});
    place.write("a.yaml", &policy("warm-web", &[webhook("warm", "PreStartContainer", &server, &retries)]));
    let node = place.start().await;
    node.running("web", &[]).await;
    let run = node.outcome("warm").await;
    assert_eq!((&run["outcome"], server.delivered().len()), (&json!("failed"), 3));
    let labels = [("policy", "warm-web"), ("hook", "warm"), ("result", "failed")];
    node.wait_metric("crihook_hook_attempts_total", &labels, 3.0).await;
}

#[tokio::test]
async fn the_breaker_opens_after_five_failures_and_closes_when_the_server_is_back() {
    let place = Place::new();
    let well = Arc::new(AtomicBool::new(false));
    let answers = well.clone();
    let server = place
        .server("hook", move |_| if answers.load(Ordering::SeqCst) { Reply::Ok } else { Reply::Status(503, "down") });
    let hooks = [
        webhook("announce", "PostRunPodSandbox", &server, &json!({"retries": {"attempts": 1}})),
        webhook("guard", "PreStartContainer", &server, &json!({"timeout": "60s"})),
    ];
    place.write("a.yaml", &policy("watch-web", &hooks));
    let node = place.start().await;
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(node.created(&format!("web-{n}"), &[]).await);
        server.wait(n + 1).await;
    }
    for name in ["announce", "guard"] {
        node.wait_metric("crihook_hook_breaker_open", &[("policy", "watch-web"), ("hook", name)], 1.0).await;
    }
    // One in the background waits and keeps its attempt; a blocking one fails at once.
    node.cri.run_pod(&pod("waits")).await.expect("a sandbox");
    within("the start", node.cri.start(&made[0].id)).await.expect("ignored");
    assert_eq!(node.outcome("guard").await["outcome"], "failed");
    assert_eq!(server.delivered().len(), 5, "the server is left in peace");
    well.store(true, Ordering::SeqCst);
    let announced = node.ended("announce", 6).await;
    assert_eq!(announced[5]["outcome"], "succeeded", "by a probe, some ten seconds later");
    node.wait_metric("crihook_hook_breaker_open", &[("policy", "watch-web")], 0.0).await;
    node.cri.start(&made[1].id).await.expect("started");
    assert_eq!(server.points().last().map(String::as_str), Some("PreStartContainer"), "and all is as before");
}

#[tokio::test]
async fn a_server_that_is_started_later_is_found() {
    let place = Place::new();
    let more = json!({
        "webhook": {"url": format!("unix://{}:/", place.path("late").display())},
        "retries": {"attempts": 1000, "backoff": "20ms", "maxBackoff": "50ms"},
    });
    place.write("a.yaml", &policy("announce-web", &[hook("announce", "PostStart", &more)]));
    let node = place.start().await;
    node.running("web", &[]).await;
    until("a failed attempt", || async {
        let page = node.metrics().await;
        let failed = page.sum("crihook_hook_attempts_total", &[("hook", "announce"), ("result", "failed")]);
        if failed >= 1.0 { Ok(()) } else { Err(page.text) }
    })
    .await;
    let server = place.answering("late", Reply::Ok);
    assert_eq!(node.outcome("announce").await["outcome"], "succeeded");
    assert!(server.delivered()[0].attempt() > 1);
}

#[tokio::test]
async fn a_redelivery_never_goes_beyond_the_grace() {
    let place = Place::new();
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    let server = place.server("hook", move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Reply::Status(500, "no")
    });
    let retries = json!({"retries": {"attempts": 1000, "backoff": "100ms", "maxBackoff": "200ms"}});
    let drain = webhook("drain", "PreStop", &server, &retries);
    place.write("a.yaml", &policy("drain-web", &[drain]));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    let begun = std::time::Instant::now();
    node.cri.stop(&web.id, 2).await.expect("stopped");
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(tries.load(Ordering::SeqCst) > 1, "it was tried again");
    assert_eq!(node.stop_timeouts(), [2]);
}

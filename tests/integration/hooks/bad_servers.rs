//! Hook servers that misbehave: each run ends, is called failed, and costs nobody else anything.

use super::*;

const RESIDENT: u64 = 64 << 20;

fn hooks(url: &str) -> String {
    let more = json!({"webhook": {"url": url}, "timeout": "2s"});
    policy("announce-web", &[hook("announce", "PostStart", &more)])
}

/// A container is started with such a server at hand; what became of the run.
async fn run_with(reply: Reply, tcp: bool) -> (Value, HookServer) {
    let place = Place::new();
    let server = if tcp {
        let reply = reply.clone();
        HookServer::tcp(move |_| reply.clone()).await
    } else {
        place.answering("hook", reply)
    };
    place.write("a.yaml", &hooks(&server.url("/v1/events")));
    let node = place.start().await;
    node.running("first", &[]).await;
    let before = node.crihook.resident();
    let run = within("the end of the run", node.outcome("announce")).await;
    let grown = node.crihook.resident().saturating_sub(before);
    assert!(grown < RESIDENT, "{} MiB", grown >> 20);
    (run, server)
}

#[tokio::test]
async fn one_that_closes_has_failed() {
    for tcp in [false, true] {
        let (run, _server) = run_with(Reply::Close, tcp).await;
        assert_eq!(run["outcome"], "failed", "{run}");
    }
}

#[tokio::test]
async fn one_that_answers_garbage_has_failed() {
    for tcp in [false, true] {
        let (run, _server) = run_with(Reply::Garbage, tcp).await;
        assert_eq!(run["outcome"], "failed", "{run}");
    }
}

/// The status is the answer. Of the body only the beginning is read and kept.
#[tokio::test]
async fn one_that_streams_without_end_is_left_after_the_first_kilobytes() {
    for tcp in [false, true] {
        let (run, _server) = run_with(Reply::Endless, tcp).await;
        assert_eq!(run["outcome"], "succeeded", "{run}");
        assert_eq!(run["attempts"][0]["body"].as_str().map(str::len), Some(4096));
    }
}

#[tokio::test]
async fn one_that_redirects_in_a_circle_has_failed() {
    let (run, server) = run_with(Reply::Redirect("/v1/events".into()), true).await;
    assert_eq!(run["outcome"], "failed", "{run}");
    assert!((2..=20).contains(&server.delivered().len()), "{} requests", server.delivered().len());
}

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let elsewhere = HookServer::tcp(|_| Reply::Ok).await;
    // Another name is another host.
    let to = format!("http://localhost:{}/stolen", elsewhere.port());
    let (run, server) = run_with(Reply::Redirect(to), true).await;
    assert_eq!((server.delivered().len(), elsewhere.delivered().len()), (1, 0));
    assert_eq!(run["attempts"][0]["httpStatus"], 307);
}

#[tokio::test]
async fn one_that_hangs_is_cut_at_the_timeout() {
    for tcp in [false, true] {
        let (run, server) = run_with(Reply::Hang, tcp).await;
        assert_eq!(run["outcome"], "timed_out", "{run}");
        server.wait_left(1).await;
    }
}

#[tokio::test]
async fn one_that_nobody_listens_at_has_failed() {
    let place = Place::new();
    let port = HookServer::tcp(|_| Reply::Ok).await.port();
    place.write("a.yaml", &hooks(&format!("http://127.0.0.1:{port}/")));
    let node = place.start().await;
    node.running("web", &[]).await;
    let run = node.outcome("announce").await;
    assert_eq!(run["outcome"], "failed");
    let message = run["attempts"][0]["message"].as_str().unwrap_or_default();
    assert!(tells(message, &["refused"]), "{message}");
}

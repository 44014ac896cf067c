//! `crihook history --follow`: runs as they end.

use std::process::Child;
use std::sync::{Arc, Mutex};

use super::*;

/// A command that goes on, and the lines that it has printed so far.
struct Going {
    child: Child,
    out: Lines,
    err: Lines,
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Going {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut child =
            command(place, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (out, err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        Self { out: collect(out), err: collect(err), child }
    }

    /// Waits for the first line of standard output that holds all of `words`.
    async fn prints(&self, words: &[&str]) -> String {
        found(&self.out, words).await
    }

    /// As [`Going::prints`], for what it says beside that.
    async fn says(&self, words: &[&str]) -> String {
        found(&self.err, words).await
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(from: impl std::io::Read + Send + 'static) -> Lines {
    use std::io::{BufRead, BufReader};
    let lines = Lines::default();
    let sink = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            sink.lock().expect("no panic while it is held").push(line);
        }
    });
    lines
}

async fn found(lines: &Lines, words: &[&str]) -> String {
    until(&format!("a line with {words:?}"), || async {
        let lines = lines.lock().expect("no panic while it is held").clone();
        lines.iter().find(|line| tells(line, words)).cloned().ok_or(lines)
    })
    .await
}

/// A node with a hook after the start, whose server says no to pods that are called so.
async fn announcing(place: &Place) -> (Node, HookServer) {
    let server = place.server("hook", |seen| match seen.pod() {
        "bad" => Reply::Status(500, "no"),
        "held" => Reply::Held,
        _ => Reply::Ok,
    });
    place.write("a.yaml", &policy("announce-web", &[webhook("announce", "PostStart", &server, &plain())]));
    (place.start().await, server)
}

#[tokio::test]
async fn a_run_that_ends_is_printed_by_whoever_follows() {
    let place = Place::new();
    let (node, server) = announcing(&place).await;
    node.running("before", &[]).await;
    node.outcome("announce").await;
    node.running("held", &[]).await;
    server.wait(2).await;
    let everything = Going::start(&place, &["history", "--follow"]);
    let failures = Going::start(&place, &["history", "-f", "--outcome", "failed", "-o", "json"]);
    everything.prints(&["ENDED", "NAMESPACE/POD", "OUTCOME"]).await;
    everything.prints(&["payments/before", "announce-web/announce", "succeeded"]).await;
    server.release();
    everything.prints(&["payments/held", "succeeded"]).await;
    node.running("bad", &[]).await;
    everything.prints(&["payments/bad", "failed", "500"]).await;
    let line = failures.prints(&["bad"]).await;
    let run: Value = serde_json::from_str(&line).expect("a document a line");
    assert_eq!((&run["outcome"], &run["attempts"][0]["body"]), (&json!("failed"), &json!("no")));
    let printed = failures.out.lock().expect("no panic while it is held").len();
    assert_eq!(printed, 1, "the others have not failed");
}

#[tokio::test]
async fn a_crihook_that_is_restarted_is_followed_again() {
    let place = Place::new();
    let (mut node, _server) = announcing(&place).await;
    node.running("before", &[]).await;
    node.outcome("announce").await;
    let going = Going::start(&place, &["history", "--follow"]);
    going.prints(&["payments/before"]).await;
    node.restart().await;
    going.says(&["the crihook that was followed is ending"]).await;
    going.says(&["following the next one"]).await;
    node.running("after", &[]).await;
    going.prints(&["payments/after", "succeeded"]).await;
    let printed = going.out.lock().expect("no panic while it is held").clone();
    assert_eq!(printed.iter().filter(|line| line.contains("payments/before")).count(), 1, "{printed:?}");
}

#[tokio::test]
async fn what_can_never_come_cannot_be_followed() {
    let place = Place::new();
    let said = ask(&place, &["history", "--follow", "--outcome", "pending"]).await.refused(2);
    assert!(tells(&said, &["--outcome pending", "as they end"]), "{said}");
    let said = ask(&place, &["history", "--follow"]).await.refused(1);
    assert!(said.contains("no such socket"), "the first crihook is not waited for: {said}");
}

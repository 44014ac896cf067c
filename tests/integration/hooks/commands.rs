//! Commands on the node, as bad as commands can be.

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;

/// A process that has written its id into a file.
async fn process_in(file: &Path) -> i32 {
    until(&format!("a process id in {}", file.display()), || async {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.trim().parse::<i32>().map_err(|_| text)
    })
    .await
}

/// Waits until there is no such process.
async fn gone(pid: i32) {
    until(&format!("the end of process {pid}"), || async {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // One that nobody has waited for yet is dead all the same.
        if stat.is_empty() || stat.contains(") Z ") { Ok(()) } else { Err(stat) }
    })
    .await;
}

/// A policy with a script. In it `$$$$` is the shell's `$$`: policies have their own use for dollars.
fn command(name: &str, on: &str, script: &str, more: &Value) -> String {
    let mut command = hook(name, on, more);
    command["command"] = json!({"command": ["/bin/sh", "-c", script]});
    policy(&format!("{name}-web"), &[command])
}

#[tokio::test]
async fn a_cancelled_stop_kills_its_command_and_every_descendant() {
    let place = Place::new();
    let (own, child) = (place.path("own"), place.path("child"));
    let script = format!(
        "echo $$$$ > {}; setsid sh -c 'trap \"\" TERM HUP; echo $$$$ > {}; while :; do sleep 1; done' & wait",
        own.display(),
        child.display()
    );
    place.write("a.yaml", &command("drain", "PreStop", &script, &json!({"timeout": "10m"})));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    let (cri, id) = (node.cri.clone(), web.id.clone());
    let call = tokio::spawn(async move { cri.stop(&id, 600).await });
    let (own, child) = (process_in(&own).await, process_in(&child).await);
    call.abort();
    gone(own).await;
    gone(child).await;
    assert_eq!(node.outcome("drain").await["outcome"], "cancelled");
}

#[tokio::test]
async fn what_ignores_every_signal_and_forks_away_ends_at_the_timeout() {
    let place = Place::new();
    let child = place.path("child");
    let script = format!(
        "trap '' TERM HUP INT; (setsid sh -c 'trap \"\" TERM; echo $$$$ > {}; while :; do sleep 1; done' &); while :; do sleep 1; done",
        child.display()
    );
    place.write("a.yaml", &command("stubborn", "PostStart", &script, &json!({"timeout": "1s", "mode": "Blocking"})));
    let node = place.start().await;
    let begun = Instant::now();
    node.running("web", &[]).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    gone(process_in(&child).await).await;
    assert_eq!(node.outcome("stubborn").await["outcome"], "timed_out");
}

#[tokio::test]
async fn what_a_command_leaves_behind_goes_with_it() {
    let place = Place::new();
    let child = place.path("child");
    let script = format!(
        "(setsid sh -c 'echo $$$$ > {0}; exec sleep 1000' > /dev/null 2>&1 &); while [ ! -s {0} ]; do sleep 0.01; done; echo done",
        child.display()
    );
    place.write("a.yaml", &command("detach", "PostStart", &script, &json!({"timeout": "60s"})));
    let node = place.start().await;
    node.running("web", &[]).await;
    let run = node.outcome("detach").await;
    assert_eq!((&run["outcome"], &run["attempts"][0]["stdout"]), (&json!("succeeded"), &json!("done\n")));
    gone(process_in(&child).await).await;
}

#[tokio::test]
async fn of_masses_of_output_the_last_64_kib_are_kept() {
    let place = Place::new();
    let script =
        "head -c 300000000 /dev/zero | tr '\\0' x; head -c 1000000 /dev/zero | tr '\\0' y >&2; echo the end; exit 3";
    place.write("a.yaml", &command("loud", "PostStart", script, &json!({"timeout": "60s"})));
    let node = place.start().await;
    node.running("web", &[]).await;
    let before = node.crihook.resident();
    let run = node.outcome("loud").await;
    let grown = node.crihook.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB", grown >> 20);
    let attempt = &run["attempts"][0];
    assert_eq!((&run["outcome"], &attempt["exitCode"]), (&json!("failed"), &json!(3)));
    let (stdout, stderr) =
        (attempt["stdout"].as_str().unwrap_or_default(), attempt["stderr"].as_str().unwrap_or_default());
    assert_eq!((stdout.len(), stderr.len()), (65_536, 65_536));
    assert!(stdout.ends_with("xxxthe end\n") && stderr.ends_with("yyy"));
}

#[tokio::test]
async fn an_endless_writer_is_cut_at_the_timeout() {
    let place = Place::new();
    place.write("a.yaml", &command("loud", "PostStart", "exec yes", &json!({"timeout": "1s"})));
    let node = place.start().await;
    node.running("web", &[]).await;
    let run = node.outcome("loud").await;
    assert_eq!(run["outcome"], "timed_out");
    assert!(node.crihook.resident() < 128 << 20, "{} MiB", node.crihook.resident() >> 20);
}

#[tokio::test]
async fn a_command_reads_the_event_and_sees_nothing_of_crihooks_own_environment() {
    let place = Place::new();
    let (document, environment) = (place.path("document"), place.path("environment"));
    let script = format!("cat > {}; env > {}", document.display(), environment.display());
    let mut look = hook("look", "PostStart", &plain());
    look["command"] = json!({"command": ["/bin/sh", "-c", script], "env": {"TOKEN": "s3cr3t"}});
    place.write("a.yaml", &policy("look-web", &[look]));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    let run = node.outcome("look").await;
    assert_eq!(run["outcome"], "succeeded", "{run}");
    let document: Value = serde_json::from_str(&std::fs::read_to_string(&document).expect("a document")).expect("JSON");
    assert_eq!((&document["id"], &document["data"]["container"]["id"]), (&run["id"], &json!(web.id)));
    let environment = std::fs::read_to_string(&environment).expect("an environment");
    for line in ["POD_NAME=web", "POD_NAMESPACE=payments", "CONTAINER_NAME=main", "TOKEN=s3cr3t", "ATTEMPT=1"] {
        assert!(environment.lines().any(|held| held == line), "{line}: {environment}");
    }
    // Cargo runs this test with a lot in its environment.
    assert!(!environment.contains("CARGO"), "{environment}");
    let everywhere = format!("{run}\n{}\n{}", node.crihook.log().join("\n"), node.metrics().await.text);
    assert!(!everywhere.contains("s3cr3t"));
}

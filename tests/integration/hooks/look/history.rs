//! `crihook history`: what hooks have done, told to people and to programs.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// A node on which one hook failed three times, and another one printed something and failed.
async fn troubled(place: &Place) -> Node {
    let server = place.server("hook", |seen| match seen.attempt() {
        1 => Reply::Status(503, "warming up\n"),
        2 => Reply::Close,
        _ => Reply::Status(500, "no room for \u{1b}[31mweb\n"),
    });
    let retries = json!({"retries": {"attempts": 3, "backoff": "5ms"}});
    let script = "echo cache is empty; echo hunter2 >&2; exit 3";
    let warm = hook("warm", "PostStart", &json!({"command": {"command": ["/bin/sh", "-c", script]}}));
    let hooks = [webhook("announce", "PreStartContainer", &server, &retries), warm];
    place.write("a.yaml", &policy("web", &hooks));
    let node = place.start().await;
    node.running("web-0", &[]).await;
    node.outcome("announce").await;
    node.outcome("warm").await;
    node
}

/// The id of the one run of a hook.
async fn id_of(node: &Node, hook: &str) -> String {
    node.outcome(hook).await["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn history_tells_which_hooks_have_failed_and_why() {
    let place = Place::new();
    let _node = troubled(&place).await;
    assert_page("history", &place, &ask(&place, &["history"]).await.text());
}

#[tokio::test]
async fn show_tells_each_attempt_and_what_came_of_it() {
    let place = Place::new();
    let node = troubled(&place).await;
    let id = id_of(&node, "announce").await;
    // As the list has it: the end of the id.
    let shown = ask(&place, &["history", "show", &id[id.len() - 8..]]).await.text();
    assert_page("show_webhook", &place, &shown);
    let id = id_of(&node, "warm").await;
    assert_page("show_command", &place, &ask(&place, &["history", "show", &id]).await.text());
}

#[tokio::test]
async fn programs_get_documents_with_the_keys_that_the_readme_has() {
    let place = Place::new();
    let node = troubled(&place).await;
    let list = ask(&place, &["history", "-o", "json"]).await.document();
    let runs = list.as_array().expect("a list");
    let of = |hook: &str| runs.iter().find(|run| run["hook"] == hook).expect("its run");
    let keys = |document: &Value| sorted(document.as_object().expect("an object").keys().cloned());
    let of_a_run = [
        "attempts",
        "container",
        "containerId",
        "createdAt",
        "endedAt",
        "handler",
        "hook",
        "id",
        "mode",
        "namespace",
        "outcome",
        "pod",
        "point",
        "policy",
        "reason",
        "sandboxId",
        "started",
        "startedAt",
    ];
    assert_eq!(keys(of("announce")), of_a_run);
    let of_an_attempt = ["duration", "exitCode", "message", "number", "result", "startedAt", "stderr", "stdout"];
    assert_eq!(keys(&of("warm")["attempts"][0]), of_an_attempt);
    let one = ask(&place, &["history", "show", &id_of(&node, "warm").await, "-o", "json"]).await.document();
    assert_eq!(&one, of("warm"));
}

#[tokio::test]
async fn only_what_is_asked_for_is_shown() {
    let place = Place::new();
    let server = place.server("hook", |seen| if seen.pod() == "bad" { Reply::Status(500, "no") } else { Reply::Ok });
    let hooks =
        [webhook("announce", "PostStart", &server, &plain()), webhook("admit", "PreStartContainer", &server, &plain())];
    place.write("a.yaml", &policy_for("all", &json!({}), &hooks));
    let node = place.start().await;
    let good = node.running("good", &[]).await;
    node.running("bad", &[]).await;
    let mut elsewhere = pod("elsewhere");
    elsewhere.metadata.as_mut().expect("metadata").namespace = "infra".into();
    elsewhere.labels.insert("io.kubernetes.pod.namespace".into(), "infra".into());
    node.running_as(&elsewhere, &container("side", &[])).await;
    node.ended("announce", 3).await;
    let of = |arguments: &'static str| {
        let place = &place;
        async move {
            let arguments: Vec<&str> = ["history", "-o", "json"].into_iter().chain(arguments.split(' ')).collect();
            let found = ask(place, &arguments).await.document();
            let name = |run: &Value| format!("{}/{}", run["pod"].as_str().unwrap(), run["hook"].as_str().unwrap());
            let mut found: Vec<_> = found.as_array().expect("a list").iter().map(name).collect();
            // What follows a call is written down before what precedes it is done.
            found.sort();
            found.join(" ")
        }
    };
    let bad = "bad/admit bad/announce";
    assert_eq!(of("-n infra").await, "elsewhere/admit elsewhere/announce");
    assert_eq!(of("--namespace payments --pod bad").await, bad);
    assert_eq!(of("--container side").await, "elsewhere/admit elsewhere/announce");
    assert_eq!(of("--outcome failed").await, bad);
    assert_eq!(of("--point PreStartContainer --outcome failed").await, "bad/admit");
    assert_eq!(of("--point PostStart --pod good").await, "good/announce", "the short name of a point");
    assert_eq!(of("--hook admit").await, "bad/admit elsewhere/admit good/admit");
    assert_eq!(of("--policy none").await, "");
    assert_eq!(of("--hook announce --since 1h --limit 1").await, "elsewhere/announce", "the newest");
    assert_eq!(of("--since 2999-01-01T00:00:00Z").await, "");
    assert_eq!(of("--outcome pending").await, "");
    let by_id = ask(&place, &["history", "--container", &good.id, "-o", "json"]).await.document();
    assert_eq!(by_id.as_array().map(Vec::len), Some(2));

    let nothing = ask(&place, &["history", "--policy", "none"]).await;
    assert_eq!((nothing.code, &*nothing.out, &*nothing.err), (Some(0), "", "crihook: no runs\n"));
}

#[tokio::test]
async fn a_part_of_an_id_that_several_runs_have_names_them() {
    let place = Place::new();
    let node = troubled(&place).await;
    let [first, second] = [id_of(&node, "announce").await, id_of(&node, "warm").await];
    // Ids begin with the time.
    let said = ask(&place, &["history", "show", &first[..6]]).await.refused(1);
    assert!(tells(&said, &[&first[..6], &first, &second]), "{said}");
    let said = ask(&place, &["history", "show", "00000000"]).await.refused(1);
    assert!(tells(&said, &["no run", "00000000"]), "{said}");
    for wrong in ["web", "abc"] {
        let said = ask(&place, &["history", "show", wrong]).await.refused(2);
        assert!(tells(&said, &[wrong, "4 characters or more"]), "{said}");
    }
    let said = ask(&place, &["history", "--since", "yesterday"]).await.refused(2);
    assert!(tells(&said, &["yesterday", "1h30m"]), "{said}");
    let said = ask(&place, &["history", "--outcome", "bad"]).await.refused(2);
    assert!(tells(&said, &["timed_out", "pending"]), "{said}");
}

#[tokio::test]
async fn what_hooks_print_leaves_crihook_by_the_admin_socket_alone() {
    let place = Place::new();
    let node = troubled(&place).await;
    let mode = std::fs::metadata(place.path("admin.sock")).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let address = node.crihook.metrics_addr().await;
    for path in ["/v1/runs", "/v1/status", "/v1/runs?follow=true", &format!("/v1/runs/{}", id_of(&node, "warm").await)]
    {
        assert_eq!(get(&address, path).await.0, 404, "{path}");
    }
    let elsewhere = [
        node.metrics().await.text,
        node.readiness().await.1,
        get(&address, "/").await.1,
        node.crihook.log().join("\n"),
    ];
    for text in elsewhere {
        assert!(!text.contains("hunter2") && !text.contains("cache is empty") && !text.contains("no room"), "{text}");
    }
    let table = ask(&place, &["history"]).await.text();
    assert!(!table.contains("hunter2"), "the list has reasons, not output: {table}");
}

#[tokio::test]
async fn a_socket_that_nobody_serves_is_told_with_what_to_do() {
    let place = Place::new();
    let said = ask(&place, &["history"]).await.refused(1);
    assert!(tells(&said, &["admin.sock", "no such socket", "systemctl status crihook", "--admin-socket"]), "{said}");
    drop(std::os::unix::net::UnixListener::bind(place.path("admin.sock")).expect("a socket"));
    let said = ask(&place, &["status"]).await.refused(1);
    assert!(tells(&said, &["admin.sock", "is gone", "systemctl status crihook"]), "{said}");
    std::fs::write(place.path("config.yaml"), "adminsocket: /x\n").expect("a file");
    let config = place.path("config.yaml");
    let mut command = bare();
    command.args(["status", "--config"]).arg(config);
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(tells(&said, &["config.yaml:1:1", "adminSocket", "--admin-socket"]), "{said}");
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let place = Place::new();
    let _node = troubled(&place).await;
    for arguments in [&["history", "-o", "json"][..], &["history", "--follow", "--limit", "50"], &["status"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut child = command(&place, arguments).stdout(writer).stderr(Stdio::piped()).spawn().expect("it runs");
        let mut said = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        assert_eq!((child.wait().expect("it ends").code(), &*said), (Some(0), ""), "{arguments:?}");
    }
}

//! `failurePolicy`: where a call may fail by a hook, what it then says, and where it never does.

use tonic::{Code, Status};

use super::*;

/// The calls that may fail before the runtime hears of them.
const CALLS: [&str; 4] = ["RunPodSandbox", "CreateContainer", "StartContainer", "UpdateContainerResources"];

/// Makes the calls of a pod's beginning up to `last`, and gives what that one got.
async fn until_call(node: &Node, last: &str) -> Result<(), Status> {
    let (web, main) = (pod("web"), container("main", &[]));
    let sandbox = match node.cri.run_pod(&web).await {
        Ok(sandbox) if last != "RunPodSandbox" => sandbox,
        done => return done.map(drop),
    };
    let id = match node.cri.create(&sandbox, &main, &web).await {
        Ok(id) if last != "CreateContainer" => id,
        done => return done.map(drop),
    };
    node.cri.start(&id).await?;
    if last == "StartContainer" { Ok(()) } else { node.cri.update(&id, 512).await }
}

fn guard(place: &Place, call: &str, server: &HookServer, failure_policy: &str) {
    let mut guard = webhook("guard", &format!("Pre{call}"), server, &json!({"failurePolicy": failure_policy}));
    guard["webhook"] = json!({"url": server.url("/?token=t0psecret"), "headers": {"authorization": "Bearer s3cr3t"}});
    place.write("a.yaml", &policy("admission", &[guard]));
}

#[tokio::test]
async fn a_failed_hook_rejects_the_call_with_its_names_and_its_cause_and_no_secret() {
    for call in CALLS {
        let place = Place::new();
        let server = place.answering("hook", Reply::Status(403, "too late in the day"));
        guard(&place, call, &server, "Fail");
        let node = place.start().await;
        let status = until_call(&node, call).await.expect_err("the hook has failed");
        assert_eq!(status.code(), Code::FailedPrecondition, "{call}: {status}");
        let told = status.message();
        assert!(told.starts_with("crihook: ") && tells(told, &["`admission`", "`guard`", "403"]), "{told}");
        assert!(node.heard(call).is_empty(), "the runtime never hears of {call}");
        assert_eq!(server.points(), [format!("Pre{call}")]);
        assert_eq!(server.delivered()[0].headers["authorization"], "Bearer s3cr3t", "the server itself is told");
        let run = node.outcome("guard").await;
        assert_eq!(run["outcome"], "failed");
        let everywhere = format!("{told}\n{}\n{}", node.crihook.log().join("\n"), node.metrics().await.text);
        assert!(!everywhere.contains("s3cr3t") && !everywhere.contains("t0psecret"), "{call}");
    }
}

#[tokio::test]
async fn a_rejected_call_can_be_repeated_and_passes_when_the_hook_does() {
    let place = Place::new();
    let server = place.server("hook", |seen| match seen.pod() {
        "early" => Reply::Status(403, "no"),
        _ => Reply::Ok,
    });
    guard(&place, "RunPodSandbox", &server, "Fail");
    let node = place.start().await;
    for _ in 0..2 {
        let status = node.cri.run_pod(&pod("early")).await.expect_err("the hook has failed");
        assert_eq!(status.code(), Code::FailedPrecondition);
    }
    assert_eq!(server.delivered().len(), 2, "what has failed runs again");
    node.cri.run_pod(&pod("late")).await.expect("a sandbox");
    assert_eq!(node.heard("RunPodSandbox").len(), 1);
}

#[tokio::test]
async fn an_ignored_failure_lets_the_call_pass() {
    for call in CALLS {
        let place = Place::new();
        let server = place.answering("hook", Reply::Status(500, "broken"));
        guard(&place, call, &server, "Ignore");
        let node = place.start().await;
        until_call(&node, call).await.expect("it passes");
        assert_eq!(node.outcome("guard").await["outcome"], "failed");
        assert_eq!(node.heard(call).len(), 1);
    }
}

#[tokio::test]
async fn a_hook_in_need_reaches_kube_system_only_if_that_is_named() {
    for (namespaces, rejected) in [(json!(["kube-*", "payments"]), false), (json!(["kube-system"]), true)] {
        let place = Place::new();
        let server = place.answering("hook", Reply::Status(403, "no"));
        let guard = webhook("guard", "PreRunPodSandbox", &server, &json!({"failurePolicy": "Fail"}));
        place.write("a.yaml", &policy_for("admission", &json!({"namespaces": namespaces}), &[guard]));
        let node = place.start().await;
        let answer = node.cri.run_pod(&cri::pod_in("kube-system", "dns")).await;
        assert_eq!(answer.is_err(), rejected, "{namespaces}: {answer:?}");
    }
}

#[tokio::test]
async fn a_hook_that_cannot_be_reached_or_started_rejects_with_the_reason() {
    let place = Place::new();
    let absent = place.path("absent.sock");
    let handlers = [
        ("no-server", json!({"webhook": {"url": format!("unix://{}:/", absent.display())}})),
        ("no-program", json!({"command": {"command": ["/no/such/program"]}})),
        ("bad-exit", json!({"command": {"command": ["/bin/sh", "-c", "exit 7"]}})),
        ("too-slow", json!({"command": {"command": ["/bin/sleep", "600"]}, "timeout": "300ms"})),
    ];
    for (name, handler) in &handlers {
        let guard = hook("guard", "PreRunPodSandbox", handler);
        let matching = json!({"namespaces": ["payments"], "podSelector": {"matchLabels": {"app": name}}});
        let mut guard = guard;
        guard["failurePolicy"] = json!("Fail");
        place.write(&format!("{name}.yaml"), &policy_for(name, &matching, &[guard]));
    }
    let node = place.start().await;
    for ((name, _), cause) in handlers.iter().zip(["absent.sock", "/no/such/program", "7", "300ms"]) {
        let status = node.cri.run_pod(&pod(name)).await.expect_err("the hook has failed");
        assert!(tells(status.message(), &[name, "`guard`", cause]), "{name}: {status}");
    }
    assert!(node.heard("RunPodSandbox").is_empty());
}

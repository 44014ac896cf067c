//! Handlers that go into the pod: `exec` through the runtime, `httpGet` and `tcpSocket` to the pod's address.
//!
//! The embedded runtime gives pods addresses of whatever network it is told. Here that is a part of the loopback network, all of
//! whose addresses can be listened at.

use std::net::Ipv4Addr;

use crihook::cri::v1::{
    ExecSyncRequest, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
};
use crihook::sim::{Heard, STOP_TAKES};

use super::*;

const PORTS: &str = "io.kubernetes.container.ports";

fn exec(name: &str, on: &str, command: &[&str], more: &Value) -> Value {
    let mut exec = hook(name, on, more);
    exec["exec"] = json!({"command": command});
    exec
}

/// The last attempt of a hook's only run, with the run's outcome.
async fn last_attempt(node: &Node, hook: &str) -> (Value, Value) {
    let run = node.outcome(hook).await;
    let attempts = run["attempts"].as_array().expect("attempts");
    (run["outcome"].clone(), attempts.last().cloned().unwrap_or_default())
}

#[tokio::test]
async fn exec_runs_in_the_container_and_its_output_and_exit_code_are_kept() {
    let place = Place::new();
    let hooks = [
        exec("speaks", "PostStart", &["/bin/echo", "$(POD_NAME)", "$(CONTAINER_NAME)", "$$(POD_NAME)"], &plain()),
        exec("fails", "PostStart", &["sh", "-c", "exit 7"], &plain()),
        exec("missing", "PostStart", &["/no/such/program"], &plain()),
        exec("hangs", "PostStart", &["sleep", "600"], &json!({"timeout": "1s"})),
        exec("loud", "PostStart", &["noise", "5000000"], &plain()),
    ];
    place.write("a.yaml", &policy("exec-web", &hooks));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    let (outcome, attempt) = last_attempt(&node, "speaks").await;
    assert_eq!((outcome, &attempt["exitCode"]), (json!("succeeded"), &json!(0)));
    assert_eq!(attempt["stdout"], "web main $(POD_NAME)\n");
    let (outcome, attempt) = last_attempt(&node, "fails").await;
    assert_eq!((outcome, &attempt["exitCode"]), (json!("failed"), &json!(7)));
    let (outcome, attempt) = last_attempt(&node, "missing").await;
    assert_eq!((outcome, &attempt["exitCode"]), (json!("failed"), &Value::Null));
    assert!(tells(attempt["message"].as_str().unwrap_or_default(), &["/no/such/program"]), "{attempt}");
    let (outcome, _) = last_attempt(&node, "hangs").await;
    assert_eq!(outcome, "timed_out");
    let (outcome, attempt) = last_attempt(&node, "loud").await;
    assert_eq!((outcome, attempt["stdout"].as_str().map(str::len)), (json!("succeeded"), Some(65_536)));
    let asked = |heard: &Heard| heard.request::<ExecSyncRequest>().expect("its message");
    let asked: Vec<_> = node.heard("ExecSync").iter().map(asked).collect();
    assert!(asked.iter().all(|request| request.container_id == web.id));
    assert_eq!(asked[0].cmd, ["/bin/echo", "web", "main", "$(POD_NAME)"]);
    assert_eq!(asked[3].timeout, 1, "the runtime kills it at its limit");
}

#[tokio::test]
async fn exec_in_a_container_that_is_killed_meanwhile_says_so() {
    let place = Place::new();
    place.write(
        "a.yaml",
        &policy("exec-web", &[exec("drain", "PreStop", &["sleep", "600"], &json!({"timeout": "10m"}))]),
    );
    let node = place.start().await;
    let web = node.running("web", &[(STOP_TAKES, "1h")]).await;
    let (cri, id) = (node.cri.clone(), web.id.clone());
    let stop = tokio::spawn(async move { cri.stop(&id, 600).await });
    node.wait_heard("ExecSync", 1).await;
    // Past crihook: the container dies under its hook.
    Cri::at(&place.path("runtime.sock")).stop(&web.id, 0).await.expect("killed");
    within("the stop", stop).await.expect("no panic").expect("stopped");
    let (outcome, attempt) = last_attempt(&node, "drain").await;
    assert_eq!(outcome, "failed");
    assert!(tells(attempt["message"].as_str().unwrap_or_default(), &["not running"]), "{attempt}");
}

#[tokio::test]
async fn http_get_reaches_the_pod_by_number_and_by_name_and_404_is_a_failure() {
    let place = Place::new();
    let get = |name: &str, port: Value, path: &str| {
        let get = json!({"port": port, "path": path, "httpHeaders": [{"name": "X-Pod", "value": "$(POD_NAME)"}]});
        hook(name, "PreUpdateContainerResources", &json!({"httpGet": get}))
    };
    let hooks = [
        get("number", json!(18_080), "/warm?pod=$(POD_NAME)"),
        get("name", json!("http"), "/warm"),
        get("absent", json!(18_080), "/absent"),
        get("unnamed", json!("admin"), "/"),
        hook("connects", "PreUpdateContainerResources", &json!({"tcpSocket": {"port": "http"}})),
        hook("refused", "PreUpdateContainerResources", &json!({"tcpSocket": {"port": 18_081}})),
    ];
    place.write("a.yaml", &policy("get-web", &hooks));
    let node = place.start().await;
    node.cri.network("127.88.0.0/16").await;
    let web = node.running("web", &[(PORTS, r#"[{"name":"http","containerPort":18080}]"#)]).await;
    let ip: Ipv4Addr = node.cri.ip(&web.sandbox).await.parse().expect("an address");
    let server = HookServer::at((ip, 18_080), |seen| match seen.path.as_str() {
        "/absent" => Reply::Status(404, "nothing here"),
        _ => Reply::Status(200, "warm"),
    })
    .await;
    node.cri.update(&web.id, 512).await.expect("updated");
    for (name, outcome, status) in [
        ("number", "succeeded", json!(200)),
        ("name", "succeeded", json!(200)),
        ("absent", "failed", json!(404)),
        ("unnamed", "failed", Value::Null),
        ("connects", "succeeded", Value::Null),
        ("refused", "failed", Value::Null),
    ] {
        let (ended, attempt) = last_attempt(&node, name).await;
        assert_eq!((ended, &attempt["httpStatus"]), (json!(outcome), &status), "{name}: {attempt}");
    }
    assert_eq!(node.runs("number").await[0]["attempts"][0]["body"], "warm");
    let paths: Vec<_> = server.delivered().iter().map(|seen| seen.path.clone()).collect();
    assert_eq!(paths, ["/warm?pod=web", "/warm", "/absent"]);
    let seen = server.delivered().remove(0);
    assert_eq!(
        (seen.headers["x-pod"].as_str(), seen.headers["host"].as_str()),
        ("web", format!("{ip}:18080").as_str())
    );
    let told = node.runs("unnamed").await[0]["attempts"][0]["message"].to_string();
    assert!(told.contains("admin"), "{told}");
}

#[tokio::test]
async fn a_pod_on_the_nodes_network_is_reached_at_the_nodes_address() {
    let place = Place::new();
    let server = HookServer::at((Ipv4Addr::new(127, 90, 0, 1), 0), |_| Reply::Ok).await;
    let more = json!({"httpGet": {"port": server.port(), "path": "/warm"}});
    place.write("a.yaml", &policy("get-web", &[hook("warm", "PostStart", &more)]));
    let node = place.configured("hooks: {nodeAddress: 127.90.0.1}\n").await;
    let mut web = pod("web");
    let namespace_options = NamespaceOption { network: NamespaceMode::Node.into(), ..NamespaceOption::default() };
    web.linux = Some(LinuxPodSandboxConfig {
        security_context: Some(LinuxSandboxSecurityContext { namespace_options: Some(namespace_options) }),
        ..LinuxPodSandboxConfig::default()
    });
    node.running_as(&web, &container("main", &[])).await;
    let (outcome, attempt) = last_attempt(&node, "warm").await;
    assert_eq!((outcome, server.delivered().len()), (json!("succeeded"), 1), "{attempt}");
}

#[tokio::test]
async fn a_refused_connection_is_retried_until_the_server_listens() {
    let place = Place::new();
    let more = json!({
        "httpGet": {"port": 18_090, "path": "/"},
        "retries": {"attempts": 1000, "backoff": "20ms", "maxBackoff": "50ms"},
    });
    place.write("a.yaml", &policy("get-web", &[hook("warm", "PostStart", &more)]));
    let node = place.start().await;
    node.cri.network("127.89.0.0/16").await;
    let web = node.running("web", &[]).await;
    until("a failed attempt", || async {
        let page = node.metrics().await;
        let failed = page.sum("crihook_hook_attempts_total", &[("hook", "warm"), ("result", "failed")]);
        if failed >= 1.0 { Ok(()) } else { Err(page.text) }
    })
    .await;
    let ip: Ipv4Addr = node.cri.ip(&web.sandbox).await.parse().expect("an address");
    let _server = HookServer::at((ip, 18_090), |_| Reply::Ok).await;
    assert_eq!(node.outcome("warm").await["outcome"], "succeeded");
}

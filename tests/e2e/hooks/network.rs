//! `httpGet` and `tcpSocket`: to a server in the pod.

use std::net::TcpListener;

use crihook::cri::v1::{LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption};

use super::scene::{Scene, policy};
use crate::node::Series;
use crate::pod::{self, Pod};
use crate::wait::until;

/// Serves /www on a port once it is told to go.
fn server(port: u16) -> String {
    format!(
        "mkdir /www; echo hello from the pod >/www/ok; until test -e /seen/go; do sleep 0.1; done; \
         exec httpd -f -p {port} -h /www"
    )
}

#[tokio::test]
async fn a_server_in_the_pod_is_reached_by_number_and_by_name() {
    let hook = |name: &str, on: &str, handler: &str| format!("name: {name}, on: {on}, {handler}");
    let retries = "retries: {attempts: 1000, backoff: 100ms, maxBackoff: 200ms}";
    let policies = [policy(
        "asks",
        "containers: [server]",
        &[
            &hook("early", "PostStart", &format!("httpGet: {{path: /ok, port: 8080}}, {retries}")),
            &hook("by-name", "PostStart", "httpGet: {path: /ok, port: web}"),
            &hook("absent", "PostStart", "httpGet: {path: /absent, port: 8080}"),
            &hook("connect", "PostStart", "tcpSocket: {port: 8080}"),
            &hook("connect-by-name", "PostStart", "tcpSocket: {port: web}"),
            &hook("refused", "PostStart", "tcpSocket: {port: 8081}"),
            &hook("unnamed", "PostStart", "httpGet: {path: /ok, port: admin}"),
            &hook("farewell", "PreStop", "httpGet: {path: /ok, port: web}"),
        ],
    )];
    let scene = Scene::start(Series::V1_6, &policies).await;
    let ports = r#"[{"name":"web","containerPort":8080,"protocol":"TCP"}]"#;
    let container = scene
        .create("server", &server(8080), |config| {
            config.annotations.insert("io.kubernetes.container.ports".to_owned(), ports.to_owned());
        })
        .await;
    pod::start(&mut scene.client.clone(), &container).await;

    refused_at_first(&scene, "early").await;
    scene.go("server");
    let attempt = scene.ended_as("early", "succeeded").await;
    assert!(attempt["number"].as_u64().unwrap() > 1, "it was tried again: {attempt:#}");
    assert_eq!(
        (&attempt["httpStatus"], &attempt["body"]),
        (&200.into(), &"hello from the pod\n".into()),
        "{attempt:#}"
    );
    let attempt = scene.ended_as("by-name", "succeeded").await;
    assert_eq!(attempt["body"], "hello from the pod\n", "{attempt:#}");
    let attempt = scene.ended_as("absent", "failed").await;
    assert_eq!(attempt["httpStatus"], 404, "{attempt:#}");
    assert!(attempt["message"].as_str().unwrap().contains("404"), "{attempt:#}");
    scene.ended_as("connect", "succeeded").await;
    scene.ended_as("connect-by-name", "succeeded").await;
    let attempt = scene.ended_as("refused", "failed").await;
    let address = scene.pod.address(&mut scene.client.clone()).await;
    let message = attempt["message"].as_str().unwrap();
    assert!(message.contains("refused") && message.contains(&format!("{address}:8081")), "{attempt:#}");
    let attempt = scene.ended_as("unnamed", "failed").await;
    assert!(attempt["message"].as_str().unwrap().contains("admin"), "{attempt:#}");

    pod::stop(&mut scene.client.clone(), &container, 2).await;
    let attempt = scene.ended_as("farewell", "succeeded").await;
    assert_eq!(attempt["httpStatus"], 200, "{attempt:#}");
    scene.close().await;
}

#[tokio::test]
async fn a_pod_on_the_nodes_network_is_reached_at_the_nodes_address() {
    // It cannot be held for the pod, so it was free a moment ago.
    let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let retries = "retries: {attempts: 1000, backoff: 100ms, maxBackoff: 200ms}";
    let policies = [policy(
        "asks",
        "containers: [server]",
        &[
            &format!("name: get, on: PostStart, httpGet: {{path: /ok, port: {port}}}, {retries}"),
            &format!("name: connect, on: PostStart, tcpSocket: {{port: {port}}}"),
        ],
    )];
    let mut scene = Scene::start(Series::V1_6, &policies).await;
    let mut client = scene.client.clone();
    let host = Pod::run_with(&mut client, &scene.node, "host", |config| {
        let namespace_options = Some(NamespaceOption { network: NamespaceMode::Node.into(), ..Default::default() });
        config.hostname.clear();
        config.linux.as_mut().unwrap().security_context = Some(LinuxSandboxSecurityContext { namespace_options });
    })
    .await
    .expect("RunPodSandbox");
    assert_eq!(host.address(&mut client).await, "", "the runtime gives it no address of its own");
    std::mem::replace(&mut scene.pod, host).remove(&mut client).await;
    scene.run("server", &server(port)).await;
    refused_at_first(&scene, "get").await;
    scene.go("server");
    let attempt = scene.ended_as("get", "succeeded").await;
    assert_eq!(attempt["body"], "hello from the pod\n", "{attempt:#}");
    scene.ended_as("connect", "succeeded").await;
    scene.close().await;
}

/// Waits until an attempt of the hook has failed because nobody listened.
async fn refused_at_first(scene: &Scene, hook: &str) {
    until("a refused connection", async || {
        let failed = scene.crihook.sum("crihook_hook_attempts_total", &[("hook", hook), ("result", "failed")]).await;
        if failed > 0 { Ok(()) } else { Err(scene.runs(hook).await) }
    })
    .await;
}

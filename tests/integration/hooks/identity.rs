//! Whom a policy means: by what the kubelet said when it made the container, or by what the runtime knows after a restart.

use crihook::cri::v1::{ContainerConfig, PodSandboxConfig};

use super::*;

/// Policies that a pod of `shaped` matches by one condition each, and one for each condition that fails.
fn conditions(server: &HookServer) -> String {
    let matching = [
        ("by-namespace", json!({"namespaces": ["pay*", "!pay-slow"]})),
        ("by-label", json!({"podSelector": {"matchLabels": {"app": "web"}}})),
        (
            "by-expression",
            json!({"podSelector": {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}]}}),
        ),
        ("by-annotation", json!({"annotations": {"example.com/drain": "true"}})),
        ("by-container", json!({"containers": ["main", "!istio-*"]})),
        ("by-image", json!({"images": ["registry.example/*"]})),
        ("not-namespace", json!({"namespaces": ["*", "!payments"]})),
        ("not-label", json!({"podSelector": {"matchLabels": {"app": "db"}}})),
        ("not-annotation", json!({"annotations": {"example.com/drain": "false"}})),
        ("not-container", json!({"containers": ["!main"]})),
        ("not-image", json!({"images": ["other.example/*"]})),
    ];
    let documents =
        matching.map(|(name, matching)| policy_for(name, &matching, &[webhook(name, "PreStop", server, &plain())]));
    documents.join("---\n")
}

fn shaped() -> (PodSandboxConfig, ContainerConfig) {
    let mut web = pod("web");
    web.labels.insert("tier".into(), "front".into());
    web.annotations.insert("example.com/drain".into(), "true".into());
    (web, container("main", &[]))
}

fn hooks(server: &HookServer) -> Vec<String> {
    server.delivered().iter().map(|seen| seen.hook().to_owned()).collect()
}

const MATCHING: [&str; 6] = ["by-namespace", "by-label", "by-expression", "by-annotation", "by-container", "by-image"];

#[tokio::test]
async fn each_condition_is_asked_of_the_pod_and_the_container() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &conditions(&server));
    let node = place.start().await;
    let (web, main) = shaped();
    let web = node.running_as(&web, &main).await;
    node.cri.stop(&web.id, 30).await.expect("stopped");
    assert_eq!(hooks(&server), MATCHING);
}

#[tokio::test]
async fn a_crihook_that_never_saw_a_container_made_knows_it_all_the_same() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    let mut node = place.start().await;
    let (web, main) = shaped();
    let web = node.running_as(&web, &main).await;
    let other = node.running("other", &[]).await;
    place.write("a.yaml", &conditions(&server));
    node.restart().await;
    node.cri.stop(&web.id, 30).await.expect("stopped");
    assert_eq!(hooks(&server), MATCHING);
    let seen = server.delivered().remove(0);
    assert_eq!((seen.pod(), seen.container()), ("web", &json!({"id": web.id, "name": "main", "image": cri::IMAGE})));
    // A sandbox's own points, and a container that goes with it.
    node.cri.stop_pod(&other.sandbox).await.expect("stopped");
    assert_eq!(hooks(&server)[MATCHING.len()..], ["by-namespace", "by-container", "by-image"]);
}

#[tokio::test]
async fn a_restart_between_creation_and_start_loses_no_hook() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &policy("watch-web", &[webhook("announce", "PostStart", &server, &plain())]));
    let mut node = place.start().await;
    let web = node.created("web", &[]).await;
    node.restart().await;
    node.cri.start(&web.id).await.expect("started");
    assert_eq!(server.wait(1).await[0].container()["id"], *web.id);
}

#[tokio::test]
async fn a_pod_may_opt_out_only_where_the_node_allows_it() {
    for allowed in [false, true] {
        let place = Place::new();
        let server = place.answering("hook", Reply::Ok);
        place.write("a.yaml", &policy("drain-web", &[webhook("drain", "PreStop", &server, &plain())]));
        let node = place.configured(&format!("hooks: {{allowOptOut: {allowed}}}\n")).await;
        let (mut web, main) = shaped();
        web.labels.insert("crihook.dev/ignore".into(), "true".into());
        let web = node.running_as(&web, &main).await;
        node.cri.stop(&web.id, 30).await.expect("stopped");
        assert_eq!(server.delivered().is_empty(), allowed);
        assert_eq!(node.heard("StopContainer").len(), 1);
    }
}

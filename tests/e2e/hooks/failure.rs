//! `failurePolicy: Fail`: what becomes of the call, and what the kubelet gets to show.

use crihook::cri::v1::{ContainerState, ListContainersRequest, ListPodSandboxRequest, StartContainerRequest};
use tonic::{Code, Status};

use super::scene::{POLITE, Scene, policy, shell};
use crate::node::Series;
use crate::pod::{self, Pod};

/// Stands where policies hold credentials, and must show up nowhere.
const SECRET: &str = "dd3f1c";

#[tokio::test]
async fn a_hook_that_must_not_fail_fails_the_call_on_containerd_1_6() {
    a_hook_that_must_not_fail_fails_the_call(Series::V1_6).await;
}

#[tokio::test]
async fn a_hook_that_must_not_fail_fails_the_call_on_containerd_1_7() {
    a_hook_that_must_not_fail_fails_the_call(Series::V1_7).await;
}

async fn a_hook_that_must_not_fail_fails_the_call(series: Series) {
    let refuse = "command: {command: [/bin/sh, -c, 'echo no room >&2; exit 9'], env: {TOKEN: dd3f1c}}";
    let webhook = "webhook: {url: 'http://127.0.0.1:1/v1?token=dd3f1c', headers: {authorization: dd3f1c}}";
    let guard = |hook: &str, on: &str, handler: &str| format!("name: {hook}, on: {on}, failurePolicy: Fail, {handler}");
    let of_pod = "namespaces: [default], podSelector: {matchLabels: {app: unwanted}}";
    let policies = [
        policy("admits", of_pod, &[&guard("quota", "PreRunPodSandbox", refuse)]),
        policy("forgives", "namespaces: [default]", &[&format!("name: grumble, on: PreRunPodSandbox, {refuse}")]),
        policy(
            "creates",
            "namespaces: [default], containers: [uncreated]",
            &[&guard("ask", "PreCreateContainer", webhook)],
        ),
        policy(
            "starts",
            "namespaces: [default], containers: [unstarted]",
            &[&guard("vet", "PreStartContainer", refuse)],
        ),
        policy(
            "warms",
            "namespaces: [default], containers: [cold]",
            &[
                &guard("warm", "PostStart, mode: Blocking", &shell("echo warm >>/seen/lines; exit 6")),
                &format!("name: drain, on: PreStop, {}", shell("echo drained >>/seen/lines")),
            ],
        ),
    ];
    let scene = Scene::start(series, &policies).await;
    let mut client = scene.client.clone();

    let refused = Pod::run_with(&mut client, &scene.node, "unwanted", |_| ()).await.err().expect("no such pod");
    assert_names(&refused, &["admits", "quota", "exit code 9"]);
    let sandboxes = client.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap().into_inner().items;
    let names: Vec<_> = sandboxes.into_iter().map(|sandbox| sandbox.metadata.unwrap().name).collect();
    assert_eq!(names, ["web"], "the runtime has heard of no other pod; and `Ignore` let this one pass");
    let forgiven = scene.runs("grumble").await;
    let forgiven = forgiven.iter().find(|run| run["pod"] == "web").expect("a run for the pod that was let pass");
    assert_eq!(forgiven["outcome"], "failed", "{forgiven:#}");

    let refused = scene.pod.create(&mut client, "uncreated", POLITE).await.unwrap_err();
    assert_names(&refused, &["creates", "ask", "127.0.0.1:1"]);
    let containers = client.runtime.list_containers(ListContainersRequest::default()).await.unwrap().into_inner();
    assert_eq!(containers.containers, [], "the runtime has heard of no container");

    let unstarted = scene.create("unstarted", POLITE, |_| ()).await;
    assert_names(&refused_start(&scene, &unstarted).await, &["starts", "vet", "exit code 9"]);
    assert_eq!(scene.fate(&unstarted).await.0, ContainerState::ContainerCreated);

    let cold = scene.create("cold", POLITE, |_| ()).await;
    assert_names(&refused_start(&scene, &cold).await, &["warms", "warm", "exit code 6"]);
    assert_eq!(scene.fate(&cold).await.0, ContainerState::ContainerExited, "it was stopped");
    let lines: Vec<_> = scene.lines("cold").into_iter().filter(|line| line != "up").collect();
    assert_eq!(lines[..2], ["warm", "drained"], "its PreStop ran, as the kubelet would have it");
    // The kubelet comes to clean up after a start that failed.
    pod::stop(&mut client, &cold, 2).await;
    assert_eq!(scene.runs("drain").await.len(), 1, "it is not repeated");

    let (_, page) = crate::http::get(scene.crihook.metrics, "/metrics").await;
    let runs = format!("{:?}", scene.crihook.runs().await);
    for (place, text) in [("the log", scene.crihook.log()), ("the metrics", page), ("the runs", runs)] {
        assert!(!text.contains(SECRET), "a secret in {place}: {text}");
    }
    scene.close().await;
}

async fn refused_start(scene: &Scene, container: &str) -> Status {
    let request = StartContainerRequest { container_id: container.to_owned() };
    scene.client.clone().runtime.start_container(request).await.unwrap_err()
}

/// The words that the kubelet shows in the pod's events.
fn assert_names(error: &Status, words: &[&str]) {
    assert_eq!(error.code(), Code::FailedPrecondition, "{error:?}");
    assert!(error.message().starts_with("crihook: "), "it says who speaks: {error:?}");
    for word in words {
        assert!(error.message().contains(word), "{word} in {error:?}");
    }
    assert!(!error.message().contains(SECRET), "{error:?}");
}

//! What dies while hooks run in real containers: crihook, with everything that the kubelet does then; and containerd.

use std::process::Command;
use std::time::Duration;

use crihook::cri::v1::{ContainerState, StopContainerRequest, StopPodSandboxRequest};
use serde_json::Value;
use tokio::task::JoinHandle;
use tonic::{Request, Status};

use super::scene::{POLITE, Scene, policy, shell};
use crate::node::Series;
use crate::proxy::Crihook;
use crate::wait::until;

/// In seconds.
const GRACE: i64 = 60;

/// Says which attempt has begun, and ends when the test says so.
fn waiting(name: &str, point: &str, more: &str) -> String {
    let script = "echo begun $(ATTEMPT) >>/seen/lines; until test -e /seen/go; do sleep 0.1; done; echo done $(ATTEMPT) >>/seen/lines";
    format!("name: {name}, on: {point}, timeout: 50s, {more}{}", shell(script))
}

/// Stops it as the kubelet does, on a task of its own.
fn stopping(scene: &Scene, container: &str) -> JoinHandle<Result<(), Status>> {
    let mut request = Request::new(StopContainerRequest { container_id: container.to_owned(), timeout: GRACE });
    request.set_timeout(Duration::from_secs(120 + GRACE.unsigned_abs()));
    let mut client = scene.client.clone();
    tokio::spawn(async move { client.runtime.stop_container(request).await.map(drop) })
}

#[tokio::test]
async fn a_pre_stop_in_the_middle_of_which_crihook_died_is_run_before_the_sandbox_is_stopped_on_containerd_1_6() {
    Box::pin(crihook_dies_in_the_middle_of_a_pre_stop(Series::V1_6)).await;
}

#[tokio::test]
async fn a_pre_stop_in_the_middle_of_which_crihook_died_is_run_before_the_sandbox_is_stopped_on_containerd_1_7() {
    Box::pin(crihook_dies_in_the_middle_of_a_pre_stop(Series::V1_7)).await;
}

async fn crihook_dies_in_the_middle_of_a_pre_stop(series: Series) {
    let mut scene = Scene::start(series, &[policy("drain-web", "", &[&waiting("drain", "PreStop", "")])]).await;
    let container = scene.up("main", POLITE).await;
    let first = stopping(&scene, &container);
    scene.says("main", "begun 1").await;
    scene = scene.succeed(Crihook::crash).await;
    first.await.unwrap().expect_err("the call died with crihook");

    // The kubelet: at once, and without grace.
    let (mut client, sandbox) = (scene.client.clone(), scene.pod.id.clone());
    let swept = tokio::spawn(async move {
        client.runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox }).await.map(drop)
    });
    scene.says("main", "begun 2").await;
    assert_eq!(scene.fate(&container).await.0, ContainerState::ContainerRunning, "its hook goes first");
    scene.go("main");
    swept.await.unwrap().expect("StopPodSandbox");
    assert_eq!(scene.fate(&container).await.0, ContainerState::ContainerExited);
    // Some ten seconds later, the kubelet: once more.
    stopping(&scene, &container).await.unwrap().expect("StopContainer");

    let lines = scene.lines("main");
    assert!(lines.contains(&"done 2".to_owned()) && !lines.contains(&"begun 3".to_owned()), "{lines:?}");
    let run = scene.ended("drain").await;
    assert_eq!(run["outcome"], "succeeded", "{run:#}");
    let results: Vec<_> = run["attempts"].as_array().expect("attempts").iter().map(|one| &one["result"]).collect();
    assert_eq!(results, ["interrupted", "succeeded"], "{run:#}");
    let story = shown(&scene, run["id"].as_str().expect("an id"));
    for word in ["drain-web", "drain", "PreStop", "main", "interrupted", "succeeded"] {
        assert!(story.contains(word), "{word}: {story}");
    }
    scene.close().await;
}

/// What `crihook history show` says.
fn shown(scene: &Scene, run: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crihook"));
    command.args(["history", "show", run, "--admin-socket"]).arg(&scene.crihook.admin);
    let output = command.output().expect("crihook history");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test]
async fn hooks_that_containerd_died_under_are_run_again_when_it_is_back_on_1_6() {
    Box::pin(containerd_dies_under_hooks(Series::V1_6)).await;
}

#[tokio::test]
async fn hooks_that_containerd_died_under_are_run_again_when_it_is_back_on_1_7() {
    Box::pin(containerd_dies_under_hooks(Series::V1_7)).await;
}

async fn containerd_dies_under_hooks(series: Series) {
    let patient = "retries: {attempts: 1000, backoff: 100ms, maxBackoff: 500ms}, ";
    let policies = [
        policy("warm-web", "containers: [starts]", &[&waiting("warm", "PostStart", patient)]),
        policy("drain-web", "containers: [stops]", &[&waiting("drain", "PreStop", patient)]),
    ];
    let mut scene = Scene::start(series, &policies).await;
    let starts = scene.up("starts", POLITE).await;
    let stops = scene.up("stops", POLITE).await;
    let stop = stopping(&scene, &stops);
    for container in ["starts", "stops"] {
        scene.says(container, "begun 1").await;
    }

    scene.node.kill_runtime();
    for container in ["starts", "stops"] {
        // Its first end comes from containerd's, or from what is left of the command in the container.
        scene.go(container);
    }
    until("attempts at a runtime that is not there", async || {
        let failed = async |hook| {
            scene.crihook.sum("crihook_hook_attempts_total", &[("hook", hook), ("result", "failed")]).await
        };
        let failed = (failed("warm").await, failed("drain").await);
        if failed.0 > 1 && failed.1 > 1 { Ok(()) } else { Err(failed) }
    })
    .await;
    scene.node.start_runtime().await;

    for hook in ["warm", "drain"] {
        let attempt = scene.ended_as(hook, "succeeded").await;
        assert!(attempt["number"].as_u64() > Some(1), "{attempt:#}");
    }
    stop.await.unwrap().expect("StopContainer, as if nothing had been");
    assert_eq!(scene.fate(&stops).await, (ContainerState::ContainerExited, 7));
    assert_eq!(scene.fate(&starts).await.0, ContainerState::ContainerRunning, "the container went on");
    let told = |container: &str| scene.lines(container).last().cloned().unwrap_or_default();
    assert!(told("starts").starts_with("done "), "{:?}", scene.lines("starts"));
    assert_eq!(told("stops"), "term");
    assert_ne!(scene.runs("drain").await[0]["attempts"], Value::Null);
    scene.close().await;
}

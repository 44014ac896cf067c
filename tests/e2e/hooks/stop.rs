//! `PreStop`: before the container is stopped, out of its grace.

use std::time::{Duration, Instant};

use crihook::cri::v1::{ContainerState, RemoveContainerRequest, StopPodSandboxRequest};
use serde_json::Value;

use super::scene::{DEAF, POLITE, Scene, policy, shell};
use crate::node::Series;
use crate::pod;
use crate::wait::until;

const EXITED: ContainerState = ContainerState::ContainerExited;
/// 128 and SIGKILL's number.
const KILLED: i32 = 137;

#[tokio::test]
async fn pre_stop_comes_out_of_the_grace_on_containerd_1_6() {
    Box::pin(pre_stop_comes_out_of_the_grace(Series::V1_6)).await;
}

#[tokio::test]
async fn pre_stop_comes_out_of_the_grace_on_containerd_1_7() {
    Box::pin(pre_stop_comes_out_of_the_grace(Series::V1_7)).await;
}

async fn pre_stop_comes_out_of_the_grace(series: Series) {
    let hook = |name: &str, more: &str, script: &str| {
        policy(
            name,
            &format!("containers: [{name}]"),
            &[&format!("name: {name}, on: PreStop, {more}{}", shell(script))],
        )
    };
    let note = |seconds: u32| format!("echo begun >>/seen/lines; sleep {seconds}; echo ended >>/seen/lines; true");
    let policies = [
        hook("drained", "", &note(1)),
        hook("deaf", "", &note(3)),
        hook("hanging", "timeout: 1m, ", "exec sleep 1000004"),
        hook("hasty", "", &note(0)),
        hook("over", "", &note(0)),
        hook("failing", "", "exit 3"),
        policy("missing", "containers: [missing]", &["name: missing, on: PreStop, exec: {command: [/bin/nothing]}"]),
    ];
    let scene = Scene::start(series, &policies).await;
    tokio::join!(
        it_runs_to_its_end_first(&scene),
        a_deaf_container_has_what_is_left(&scene),
        one_that_hangs_is_cut_when_the_grace_is_used_up(&scene),
        without_grace_there_is_none(&scene),
        one_that_has_exited_has_none(&scene),
        the_stop_goes_on_whatever_the_hook_did(&scene),
    );
    scene.close().await;
}

async fn it_runs_to_its_end_first(scene: &Scene) {
    let container = scene.up("drained", POLITE).await;
    stop(scene, &container, 20).await;
    let whole = ["up", "begun", "ended", "term"];
    assert_eq!(scene.lines("drained"), whole, "the runtime stops the container after the hook's end");
    assert_eq!(scene.fate(&container).await, (EXITED, 7));
    // A second of 20, or two on a busy machine.
    assert!([18, 19].contains(&scene.forwarded(&container)), "{}", scene.forwarded(&container));
    stop(scene, &container, 20).await;
    assert_eq!(scene.lines("drained"), whole, "a repeated stop repeats nothing");
    scene.ended_as("drained", "succeeded").await;
}

async fn a_deaf_container_has_what_is_left(scene: &Scene) {
    let container = scene.up("deaf", DEAF).await;
    let took = stop(scene, &container, 5).await;
    // 3 s of the hook and 2 s of the container: not 3 and 5.
    assert!((Duration::from_millis(4_500)..Duration::from_millis(7_500)).contains(&took), "{took:?}");
    assert_eq!(scene.fate(&container).await, (EXITED, KILLED));
    assert_eq!(scene.lines("deaf"), ["up", "begun", "ended"]);
    assert_eq!(scene.forwarded(&container), 2);
    scene.ended_as("deaf", "succeeded").await;
}

async fn one_that_hangs_is_cut_when_the_grace_is_used_up(scene: &Scene) {
    let container = scene.up("hanging", POLITE).await;
    let took = stop(scene, &container, 3).await;
    assert!((Duration::from_millis(2_500)..Duration::from_secs(10)).contains(&took), "{took:?} of a grace of 3 s");
    assert_eq!(scene.fate(&container).await, (EXITED, 7), "there is always time to end well");
    assert_eq!(scene.forwarded(&container), 2);
    let run = scene.ended("hanging").await;
    assert_eq!(run["outcome"], "timed_out", "{run:#}");
    Scene::gone("sleep 1000004").await;
}

async fn without_grace_there_is_none(scene: &Scene) {
    let container = scene.up("hasty", POLITE).await;
    stop(scene, &container, 0).await;
    assert_eq!(scene.fate(&container).await, (EXITED, KILLED));
    assert_eq!(scene.lines("hasty"), ["up"]);
    assert_eq!(scene.forwarded(&container), 0);
    has_not_run(scene, "hasty").await;
}

async fn one_that_has_exited_has_none(scene: &Scene) {
    let container = scene.run("over", "echo up >>/seen/lines; exit 5").await;
    until("its end", async || {
        let fate = scene.fate(&container).await;
        if fate.0 == EXITED { Ok(()) } else { Err(fate) }
    })
    .await;
    stop(scene, &container, 30).await;
    assert_eq!(scene.fate(&container).await, (EXITED, 5));
    has_not_run(scene, "over").await;
}

async fn the_stop_goes_on_whatever_the_hook_did(scene: &Scene) {
    for (name, cause) in [("failing", "exit code 3"), ("missing", "/bin/nothing")] {
        let container = scene.up(name, POLITE).await;
        stop(scene, &container, 20).await;
        assert_eq!(scene.fate(&container).await, (EXITED, 7));
        let attempt = scene.ended_as(name, "failed").await;
        assert!(attempt["message"].as_str().is_some_and(|text| text.contains(cause)), "{attempt:#}");
    }
}

/// A record that says why is welcome, an attempt is not.
async fn has_not_run(scene: &Scene, hook: &str) {
    for run in scene.runs(hook).await {
        assert_eq!((&run["outcome"], &run["attempts"]), (&"abandoned".into(), &Value::Array(Vec::new())), "{run:#}");
    }
}

/// With a grace of `timeout` seconds; gives how long it took.
async fn stop(scene: &Scene, container: &str, timeout: i64) -> Duration {
    let began = Instant::now();
    pod::stop(&mut scene.client.clone(), container, timeout).await;
    began.elapsed()
}

#[tokio::test]
async fn an_unfinished_pre_stop_runs_before_a_pod_or_a_container_is_taken_away() {
    let drain = |seconds: u32| {
        let script = format!("echo begun >>/seen/lines; sleep {seconds}; echo ended >>/seen/lines; true");
        format!("name: drain-{seconds}, on: PreStop, {}", shell(&script))
    };
    let hang = format!("name: hang, on: PreStop, timeout: 1m, {}", shell("exec sleep 1000005"));
    let policies = [
        policy("drains", "containers: [removed, swept]", &[&drain(1)]),
        policy("drains-long", "containers: [left]", &[&drain(4)]),
        policy("hangs", "containers: [stuck]", &[&hang]),
    ];
    let scene = Scene::start(Series::V1_6, &policies).await;
    let mut client = scene.client.clone();
    let remove = async |container: &str| {
        let began = Instant::now();
        let request = RemoveContainerRequest { container_id: container.to_owned() };
        scene.client.clone().runtime.remove_container(request).await.expect("RemoveContainer");
        began.elapsed()
    };

    let removed = scene.up("removed", POLITE).await;
    remove(&removed).await;
    assert_eq!(scene.lines("removed")[..3], ["up", "begun", "ended"], "the hook ran to its end first");
    assert_eq!(pod::status(&mut client, &removed).await.unwrap_err().code(), tonic::Code::NotFound);

    // Nobody has given it a grace, so it is 2 s.
    let took = remove(&scene.up("stuck", POLITE).await).await;
    assert!((Duration::from_millis(1_500)..Duration::from_secs(10)).contains(&took), "{took:?}");
    assert_eq!(scene.ended("hang").await["outcome"], "timed_out");

    let swept = scene.up("swept", POLITE).await;
    // Its stop was given 20 s and then up: most of them are left.
    let left = scene.up("left", POLITE).await;
    let (mut kubelet, container) = (client.clone(), left.clone());
    let stopping = tokio::spawn(async move { pod::stop(&mut kubelet, &container, 20).await });
    scene.says("left", "begun").await;
    stopping.abort();
    stopping.await.unwrap_err();

    client.runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: scene.pod.id.clone() }).await.unwrap();
    for (name, container) in [("swept", swept), ("left", left)] {
        assert_eq!(scene.fate(&container).await.0, EXITED, "{name}");
        assert!(scene.lines(name).contains(&"ended".to_owned()), "{name}: {:?}", scene.lines(name));
    }
    let runs = scene.runs("drain-4").await;
    let outcomes: Vec<_> = runs.iter().map(|run| run["outcome"].as_str().unwrap_or("still running")).collect();
    assert_eq!(outcomes, ["succeeded", "cancelled"], "it had more than 2 s: what was left of the 20");
    scene.close().await;
}

//! `PostStart`: right after the container has started.

use std::time::{Duration, Instant};

use crihook::cri::v1::{ContainerState, StartContainerRequest};

use super::scene::{POLITE, Scene, policy, shell};
use crate::node::Series;
use crate::pod;
use crate::wait::until;

#[tokio::test]
async fn post_start_fires_right_after_the_start_on_containerd_1_6() {
    post_start_fires_right_after_the_start(Series::V1_6).await;
}

#[tokio::test]
async fn post_start_fires_right_after_the_start_on_containerd_1_7() {
    post_start_fires_right_after_the_start(Series::V1_7).await;
}

async fn post_start_fires_right_after_the_start(series: Series) {
    let until_go = "echo begun >>/seen/lines; while ! test -e /seen/go; do sleep 0.1; done; echo ended >>/seen/lines";
    let greet = format!("name: greet, on: PostStart, {}", shell("echo hook >>/seen/lines"));
    let warm = format!("name: warm, on: PostStart, mode: Blocking, timeout: 1m, {}", shell(until_go));
    let hang = format!("name: hang, on: PostStart, mode: Blocking, timeout: 1s, {}", shell("exec sleep 1000003"));
    let never = format!("name: never, on: PostStart, {}", shell("echo hook >>/seen/lines"));
    let policies = [
        policy("greets", "namespaces: [default], containers: [early]", &[&greet]),
        policy("warms", "containers: [held]", &[&warm]),
        policy("hangs", "containers: [stuck]", &[&hang]),
        policy("nothing-started", "containers: [absent]", &[&never]),
    ];
    let scene = Scene::start(series, &policies).await;
    it_does_not_wait_for_the_entrypoint(&scene).await;
    a_blocking_one_holds_the_answer(&scene).await;
    one_that_hangs_is_cut_at_its_timeout(&scene).await;
    a_start_that_failed_has_none(&scene).await;
    scene.close().await;
}

async fn it_does_not_wait_for_the_entrypoint(scene: &Scene) {
    let container =
        scene.run("early", "until test -e /seen/go; do sleep 0.1; done; echo entrypoint >>/seen/lines").await;
    let attempt = scene.ended_as("greet", "succeeded").await;
    assert_eq!((&attempt["number"], &attempt["exitCode"]), (&1.into(), &0.into()), "{attempt:#}");
    assert_eq!(scene.lines("early"), ["hook"], "the entrypoint has not come to its work yet");
    scene.go("early");
    scene.says("early", "entrypoint").await;
    assert_eq!(scene.lines("early"), ["hook", "entrypoint"]);
    let labels = [
        ("policy", "greets"),
        ("hook", "greet"),
        ("point", "PostStartContainer"),
        ("handler", "exec"),
        ("outcome", "succeeded"),
    ];
    assert_eq!(scene.crihook.sum("crihook_hook_runs_total", &labels).await, 1);
    let run = scene.ended("greet").await;
    assert_eq!((&run["policy"], &run["point"]), (&"greets".into(), &"PostStartContainer".into()), "{run:#}");
    assert!(run["id"].as_str().is_some_and(|id| !id.is_empty()), "{run:#}");
    assert_eq!(run["containerId"], container, "{run:#}");
}

async fn a_blocking_one_holds_the_answer(scene: &Scene) {
    let container = scene.create("held", POLITE, |_| ()).await;
    let (mut kubelet, id) = (scene.client.clone(), container.clone());
    let starting = tokio::spawn(async move { pod::start(&mut kubelet, &id).await });
    scene.says("held", "up").await;
    scene.says("held", "begun").await;
    assert_eq!(scene.fate(&container).await.0, ContainerState::ContainerRunning);
    assert!(!starting.is_finished(), "the kubelet's answer waits for the hook");
    scene.go("held");
    starting.await.unwrap();
    assert_eq!(scene.lines("held").last().unwrap(), "ended", "answered once the hook has ended");
}

async fn one_that_hangs_is_cut_at_its_timeout(scene: &Scene) {
    let began = Instant::now();
    let container = scene.run("stuck", POLITE).await;
    let took = began.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&took), "{took:?} with a timeout of 1 s");
    scene.ended_as("hang", "timed_out").await;
    Scene::gone("sleep 1000003").await;
    assert_eq!(scene.fate(&container).await.0, ContainerState::ContainerRunning, "Ignore: it may stay");
}

async fn a_start_that_failed_has_none(scene: &Scene) {
    let container = scene.create("absent", "", |config| config.command = vec!["/bin/nothing".to_owned()]).await;
    let request = StartContainerRequest { container_id: container };
    let error = scene.client.clone().runtime.start_container(request).await.unwrap_err();
    assert!(error.message().contains("/bin/nothing"), "the runtime's own words: {error:?}");
    // What was promised for it is taken back after the answer.
    until("a history without it", async || {
        let runs = scene.runs("never").await;
        if runs.is_empty() { Ok(()) } else { Err(runs) }
    })
    .await;
}

//! What passes by, without a policy: the pod's own hooks, the phases of its life.

use std::collections::BTreeSet;
use std::time::Duration;

use crihook::cri::v1::ContainerState;
use crihook::sim::Options;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::cri::{IMAGE, pod_in};
use super::*;
use crate::wire::peer::Client;
use crate::wire::peer::exposition::Exposition;
use crate::wire::peer::grpc::{message, request};

const NATIVE: &str = "crihook_native_hook_duration_seconds";
const STARTUP: &str = "crihook_pod_startup_duration_seconds";
const TERMINATION: &str = "crihook_container_termination_duration_seconds";

/// As the kubelet writes it down.
const PRE_STOP: (&str, &str) =
    ("io.kubernetes.container.preStopHandler", r#"{"exec":{"command":["sh","-c","sleep 0.2"]}}"#);
const DRAIN: [&str; 3] = ["sh", "-c", "sleep 0.2"];

/// Waits until the histogram `name` with these labels has so many observations.
async fn wait_count(node: &Node, name: &str, labels: &[(&str, &str)], count: f64) {
    node.wait_metric(&format!("{name}_count"), labels, count).await;
}

async fn post(socket: &std::path::Path, path: &str) -> String {
    let mut io = tokio::net::UnixStream::connect(socket).await.expect("the admin socket");
    let request = format!("POST {path} HTTP/1.1\r\nhost: crihook\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    io.write_all(request.as_bytes()).await.expect("the request is taken");
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.expect("an answer in text");
    answer
}

#[tokio::test]
async fn the_pods_own_hooks_are_told_from_probes_and_from_people() {
    let place = Place::new();
    let node = place.start().await;
    let web = node.created("web", &[PRE_STOP]).await;
    node.cri.start(&web.id).await.expect("started");
    // `crictl exec -s` comes over a connection of its own, a probe has a limit of time.
    Cri::at(&node.front()).exec(&web.id, &["true"], 0).await.expect("it ran");
    node.cri.exec(&web.id, &["true"], 1).await.expect("it ran");
    node.cri.exec(&web.id, &["sleep", "0.1"], 0).await.expect("it ran");
    node.cri.exec(&web.id, &["true"], 0).await.expect("it ran");
    node.cri.exec(&web.id, &DRAIN, 0).await.expect("it ran");
    node.cri.stop(&web.id, 10).await.expect("stopped");
    let post_start = [("point", "PostStartContainer"), ("result", "succeeded")];
    let pre_stop = [("point", "PreStopContainer"), ("result", "succeeded")];
    wait_count(&node, NATIVE, &post_start, 1.0).await;
    wait_count(&node, NATIVE, &pre_stop, 1.0).await;
    wait_count(&node, TERMINATION, &[], 1.0).await;
    let page = node.metrics().await;
    assert!((page.sum(&format!("{NATIVE}_count"), &[]) - 2.0).abs() < 0.1, "and nothing else: {}", page.text);
    assert!(page.sum(&format!("{NATIVE}_sum"), &post_start) >= 0.1);
    assert!(page.sum(&format!("{NATIVE}_sum"), &pre_stop) >= 0.2);

    for (hook, point) in [("postStart", "PostStartContainer"), ("preStop", "PreStopContainer")] {
        let run = node.outcome(hook).await;
        let told = [&run["policy"], &run["mode"], &run["handler"], &run["point"], &run["pod"], &run["outcome"]];
        assert_eq!(told, ["(pod)", "Native", "exec", point, "web", "succeeded"], "{run}");
        let attempt = &run["attempts"][0];
        assert_eq!((&attempt["exitCode"], &attempt["stdout"]), (&json!(0), &Value::Null), "{run}");
        assert!(attempt["duration"].as_f64() >= Some(0.1), "{run}");
    }
    let run = node.outcome("preStop").await;
    let path = format!("/v1/runs/{}/replay", run["id"].as_str().expect("an id"));
    let refused = post(&place.path("admin.sock"), &path).await;
    assert!(tells(&refused, &["HTTP/1.1 409", "a hook that the pod itself has", "the kubelet ran it"]), "{refused}");
}

#[tokio::test]
async fn a_hook_that_fails_and_one_that_cannot_be_run_are_told_apart() {
    let place = Place::new();
    let node = place.configured("hooks: {recordNativeOutput: true}").await;
    for (name, command, result, reason) in [
        ("failing", &["exit", "3"][..], "failed", "exit code 3"),
        ("missing", &["/bin/nothing"][..], "error", "the runtime did not run it: Unknown"),
    ] {
        let handler = json!({"exec": {"command": command}}).to_string();
        let pod = node.running(name, &[(PRE_STOP.0, &handler)]).await;
        let _ = node.cri.exec(&pod.id, command, 0).await;
        wait_count(&node, NATIVE, &[("point", "PreStopContainer"), ("result", result)], 1.0).await;
        let run = node.runs("preStop").await.pop().expect("a run");
        assert_eq!((&run["outcome"], &run["reason"]), (&json!("failed"), &json!(reason)), "{run}");
    }
    let talks = node.running("talks", &[]).await;
    node.cri.exec(&talks.id, &["echo", "warm"], 0).await.expect("it ran");
    let run = node.outcome("postStart").await;
    assert_eq!(run["attempts"][0]["stdout"], "warm\n", "since the config wants it: {run}");
}

#[tokio::test]
async fn pre_stop_is_known_after_a_restart_too() {
    let place = Place::new();
    let mut node = place.start().await;
    let web = node.running("web", &[PRE_STOP]).await;
    node.restart().await;
    node.cri.exec(&web.id, &["true"], 0).await.expect("it ran");
    node.cri.exec(&web.id, &DRAIN, 0).await.expect("it ran");
    node.cri.stop(&web.id, 10).await.expect("stopped");
    let run = node.outcome("preStop").await;
    assert_eq!((&run["pod"], &run["container"]), (&json!("web"), &json!("main")), "{run}");
    wait_count(&node, NATIVE, &[], 1.0).await;
    wait_count(&node, TERMINATION, &[("end", "exited")], 1.0).await;
}

#[tokio::test]
async fn the_phases_of_a_start_add_up() {
    let place = Place::new();
    let hook = hook("wait", "PreStartContainer", &json!({"command": {"command": ["/bin/sleep", "0.2"]}}));
    place.write("a.yaml", &policy("slow-start", &[hook]));
    let node = place.start().await;
    let (web, main) = (pod("web"), container("main", &[]));
    let sandbox = node.cri.run_pod(&web).await.expect("a sandbox");
    node.cri.pull_for(&web, IMAGE).await.expect("pulled");
    let id = node.cri.create(&sandbox, &main, &web).await.expect("a container");
    node.cri.start(&id).await.expect("started");
    node.cri.exec(&id, &["sleep", "0.3"], 0).await.expect("PostStart");
    let side = node.cri.create(&sandbox, &container("side", &[]), &web).await.expect("a container");
    node.cri.start(&side).await.expect("started");
    node.cri.exec(&side, &["sleep", "0.4"], 0).await.expect("a PostStart that nothing of the start waits for");
    assert!(node.metrics().await.sum(&format!("{STARTUP}_count"), &[]).abs() < 0.1, "it may go on");
    node.cri.stop_pod(&sandbox).await.expect("stopped");
    wait_count(&node, STARTUP, &[("phase", "total")], 1.0).await;
    let page = node.metrics().await;
    let sum = |phase| page.sum(&format!("{STARTUP}_sum"), &[("phase", phase)]);
    let parts = ["sandbox", "image", "create", "start", "hooks", "other"].map(sum);
    assert!(parts[..4].iter().all(|part| *part > 0.0), "{parts:?}");
    assert!((0.7..).contains(&parts[4]), "two hooks of 0.2 s, a PostStart of 0.3 s: {parts:?}");
    assert!((parts.iter().sum::<f64>() - sum("total")).abs() < 1e-6, "{parts:?} are {}", sum("total"));
    wait_count(&node, "crihook_image_pull_duration_seconds", &[("result", "success")], 2.0).await;
    node.cri.stop_pod(&sandbox).await.expect("stopped");
    node.cri.remove_pod(&sandbox).await.expect("removed");
    wait_count(&node, STARTUP, &[("phase", "total")], 1.0).await;
}

#[tokio::test]
async fn a_container_ends_once_and_by_itself_or_not() {
    let place = Place::new();
    let node = place.start().await;
    let deaf = node.running("deaf", &[("sim.crihook.dev/stop-takes", "1h")]).await;
    node.cri.stop(&deaf.id, 1).await.expect("stopped");
    wait_count(&node, TERMINATION, &[("end", "killed")], 1.0).await;
    let polite = node.running("polite", &[]).await;
    node.cri.stop(&polite.id, 10).await.expect("stopped");
    node.cri.stop(&polite.id, 10).await.expect("stopped again");
    wait_count(&node, TERMINATION, &[("end", "exited")], 1.0).await;

    let early = node.running("early", &[("sim.crihook.dev/exit-after", "1ms")]).await;
    until("its own end", || async {
        let state = node.cri.state(&early.id).await;
        if state == ContainerState::ContainerExited { Ok(()) } else { Err(state) }
    })
    .await;
    let asked = node.heard("ContainerStatus").len();
    node.cri.stop(&early.id, 10).await.expect("stopped");
    node.wait_heard("ContainerStatus", asked + 1).await;
    let silent = node.running("silent", &[]).await;
    node.runtime.fail_next("ContainerStatus", 1).expect("a method");
    node.cri.stop(&silent.id, 10).await.expect("stopped");
    wait_count(&node, TERMINATION, &[("end", "unknown")], 1.0).await;
    wait_count(&node, TERMINATION, &[], 3.0).await;
    let page = node.metrics().await;
    assert!(page.sum("crihook_container_grace_used_ratio_sum", &[]) >= 1.0, "the deaf one has used all of it");
    assert!((page.sum("crihook_container_grace_period_seconds_sum", &[]) - 21.0).abs() < 0.1, "{}", page.text);
}

#[tokio::test]
async fn a_pull_that_fails_and_one_that_is_given_up_are_told_apart() {
    let place = Place::new();
    let options = Options::default().delay("PullImage", Duration::from_secs(1)).expect("a method");
    let node = place.start_on(&options, |_| ()).await;
    let name = "crihook_image_pull_duration_seconds";
    wait_count(&node, name, &[("result", "success")], 1.0).await;
    node.runtime.fail_next("PullImage", 1).expect("a method");
    node.cri.pull_for(&pod("web"), IMAGE).await.expect_err("it failed");
    wait_count(&node, name, &[("result", "error")], 1.0).await;
    let cri = node.cri.clone();
    let pull = tokio::spawn(async move { cri.pull_for(&pod("web"), IMAGE).await });
    node.wait_in_flight("PullImage", 1.0).await;
    pull.abort();
    wait_count(&node, name, &[("result", "cancelled")], 1.0).await;
}

/// The names and labels of all series.
fn series(page: &Exposition) -> BTreeSet<String> {
    let all = page.all("").map(|(name, labels, _)| format!("{name}{labels:?}"));
    all.filter(|series| !series.starts_with("process_")).collect()
}

#[tokio::test]
async fn nobody_can_invent_series() {
    const MANY: usize = 10_000;
    let place = Place::new();
    let node = place.start().await;
    let client = Client::connect(&node.front()).await;
    let invented = async |name: String| {
        let path = format!("/runtime.v1.RuntimeService/{name}");
        within("an answer", client.call(request(&path), message(0, b"x"))).await;
    };
    let live = async |name: String| {
        let config = pod_in(&format!("namespace-of-{name}"), &name);
        let sandbox = node.cri.run_pod(&config).await.expect("a sandbox");
        let named = container(&name, &[PRE_STOP]);
        let id = node.cri.create(&sandbox, &named, &config).await.expect("a container");
        node.cri.start(&id).await.expect("started");
        node.cri.exec(&id, &["true"], 0).await.expect("it ran");
        node.cri.stop(&id, 10).await.expect("stopped");
        node.cri.stop_pod(&sandbox).await.expect("stopped");
        node.cri.remove_pod(&sandbox).await.expect("removed");
    };
    live("first".into()).await;
    invented("First".into()).await;
    wait_count(&node, TERMINATION, &[], 1.0).await;
    let before = series(&node.metrics().await);
    futures_util::stream::iter(0..MANY).for_each_concurrent(64, |n| invented(format!("Invented{n}"))).await;
    let many = futures_util::stream::iter(0..MANY).for_each_concurrent(64, async |n| {
        // All ten thousand make a sandbox; every tenth lives to its end.
        let name = format!("pod-{n}");
        if n % 10 == 0 {
            return live(name).await;
        }
        let sandbox = node.cri.run_pod(&pod_in(&format!("namespace-of-{name}"), &name)).await.expect("a sandbox");
        node.cri.remove_pod(&sandbox).await.expect("removed");
    });
    many.await;
    wait_count(&node, STARTUP, &[("phase", "total")], 1_001.0).await;
    let after = series(&node.metrics().await);
    let new: Vec<_> = after.difference(&before).collect();
    assert_eq!((after.len(), new), (before.len(), Vec::new()));
}

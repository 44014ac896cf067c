//! `exec`: in the container, as if one of its own processes; what became of it can be read afterwards.

use std::collections::BTreeMap;

use super::scene::{POLITE, Scene, policy, shell};
use crate::node::Series;
use crate::pod;

#[tokio::test]
async fn exec_runs_in_the_container_and_tells_what_became_of_it_on_containerd_1_6() {
    exec_runs_in_the_container_and_tells_what_became_of_it(Series::V1_6).await;
}

#[tokio::test]
async fn exec_runs_in_the_container_and_tells_what_became_of_it_on_containerd_1_7() {
    exec_runs_in_the_container_and_tells_what_became_of_it(Series::V1_7).await;
}

async fn exec_runs_in_the_container_and_tells_what_became_of_it(series: Series) {
    let hook = |name: &str, handler: &str| format!("name: {name}, on: PostStart, {handler}");
    let policies = [
        policy("looks", "containers: [inside]", &[&hook("where", &shell(WHERE))]),
        policy(
            "ends",
            "containers: [inside]",
            &[
                &hook("fine", "exec: {command: [echo, '$(POD_NAMESPACE)/$(POD_NAME)/$(CONTAINER_NAME)', $$(POD_IP)]}"),
                &hook("unhappy", &shell("echo out; echo err >&2; exit 42")),
                &hook("missing", "exec: {command: [/bin/nothing]}"),
                &hook("talkative", &shell("dd if=/dev/zero bs=1000 count=100 2>/dev/null | tr '\\0' x; echo end")),
            ],
        ),
        policy(
            "dies",
            "containers: [doomed]",
            &[&hook("killed", &shell("echo begun >>/seen/lines; exec sleep 1000006"))],
        ),
    ];
    let scene = Scene::start(series, &policies).await;
    let container = scene
        .run("inside", &format!("echo $$ >/seen/pid; echo from the image >/tmp/mark; touch /seen/go; {POLITE}"))
        .await;
    it_shares_the_containers_namespaces_and_cgroup(&scene, &container).await;
    output_and_exit_code_are_kept(&scene).await;
    failures_are_told_apart(&scene).await;
    scene.close().await;
}

/// Once the entrypoint has said where it is: `name=own,the entrypoint's` a line for each namespace, and the rest.
const WHERE: &str = "until test -e /seen/go; do sleep 0.1; done; read pid </seen/pid
for name in mnt pid net uts ipc; do
  echo $name=`readlink /proc/self/ns/$name`,`readlink /proc/$pid/ns/$name`
done
echo cgroup=`sort /proc/self/cgroup | tr '\\n' ' '`,`sort /proc/$pid/cgroup | tr '\\n' ' '`
echo host=`hostname`,web
echo file=`cat /tmp/mark`,from the image";

async fn it_shares_the_containers_namespaces_and_cgroup(scene: &Scene, container: &str) {
    let attempt = scene.ended_as("where", "succeeded").await;
    let stdout = attempt["stdout"].as_str().unwrap();
    let told: BTreeMap<_, _> = stdout.lines().map(|line| line.split_once('=').unwrap()).collect();
    assert_eq!(told.len(), 8, "{stdout}");
    for (what, values) in &told {
        let (own, entrypoints) = values.split_once(',').unwrap();
        assert_eq!(own.trim(), entrypoints.trim(), "{what}");
        assert!(!own.is_empty(), "{what}");
        if !["host", "file", "cgroup"].contains(what) {
            let here = std::fs::read_link(format!("/proc/self/ns/{what}")).unwrap();
            assert_ne!(own, here.display().to_string(), "{what} is not the machine's");
        }
    }
    // The path is seen in full unless cgroups have a namespace of their own (cgroup v2).
    assert!(told["cgroup"].contains(container) || told["cgroup"].starts_with("0::/ ,"), "{stdout}");
}

async fn output_and_exit_code_are_kept(scene: &Scene) {
    let attempt = scene.ended_as("fine", "succeeded").await;
    assert_eq!(attempt["stdout"], "default/web/inside $(POD_IP)\n", "{attempt:#}");
    assert_eq!(attempt["exitCode"], 0, "{attempt:#}");
    let attempt = scene.ended_as("unhappy", "failed").await;
    assert_eq!((&attempt["stdout"], &attempt["stderr"]), (&"out\n".into(), &"err\n".into()), "{attempt:#}");
    assert_eq!(attempt["exitCode"], 42, "{attempt:#}");
    let attempt = scene.ended_as("talkative", "succeeded").await;
    let stdout = attempt["stdout"].as_str().unwrap();
    assert_eq!(stdout.len(), 64 << 10, "the last 64 KiB");
    assert!(stdout.ends_with("xend\n"));
}

async fn failures_are_told_apart(scene: &Scene) {
    let message = |attempt: &serde_json::Value| attempt["message"].as_str().expect("a message").to_owned();
    let unhappy = message(&scene.ended_as("unhappy", "failed").await);
    assert!(unhappy.contains("exit code 42"), "{unhappy}");

    let attempt = scene.ended_as("missing", "failed").await;
    let missing = message(&attempt);
    assert!(missing.contains("/bin/nothing") && missing.contains("cannot be started"), "{missing}");
    assert_eq!(attempt["exitCode"], serde_json::Value::Null, "nothing has ended: {attempt:#}");

    // Past crihook, as a crash would have it: crihook must find out by itself.
    let doomed = scene.run("doomed", POLITE).await;
    scene.says("doomed", "begun").await;
    pod::stop(&mut scene.direct.clone(), &doomed, 0).await;
    let run = scene.ended("killed").await;
    assert_ne!(run["outcome"], "succeeded", "{run:#}");
    let killed = message(run["attempts"].as_array().and_then(|all| all.last()).expect("an attempt"));
    assert!(killed.contains("not running"), "{killed}");
}

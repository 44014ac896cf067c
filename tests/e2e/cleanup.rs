//! The tests' own promise: whatever becomes of a test, the machine is as it was.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::hooks::scene::{policy, shell};
use crate::leftovers::Traces;
use crate::node::{Node, Series};
use crate::pod::{DEAF, Pod};
use crate::proxy::Crihook;
use crate::wait::until;

#[tokio::test]
async fn a_test_that_panics_leaves_nothing_behind() {
    let mut traces: Option<Traces> = None;
    let failing_test = async {
        let node = Node::start(Series::V1_7).await;
        // Hooks that hang: one in the container, and one on the node that leaves its process group.
        let follow = format!("tail -f {}/containerd.log", node.path().display());
        let detach = format!("command: {{command: [/bin/sh, -c, 'setsid {follow} & exec {follow}']}}");
        let policies = policy(
            "hangs",
            "",
            &[
                &format!("name: outside, on: PostRunPodSandbox, timeout: 8s, {detach}"),
                &format!("name: inside, on: PostStart, timeout: 8s, {}", shell("exec sleep 2000000")),
            ],
        );
        let crihook = Crihook::with_policies(&node, &policies, &[]).await;
        let mut client = crihook.client().await;
        let pod = Pod::run(&mut client, &node, "orphan").await;
        pod.start(&mut client, "main", DEAF).await;
        let kinds = [
            ("/sys/class/net/", 1),
            ("/sys/fs/cgroup/", 1),
            ("containerd --config", 1),
            ("containerd-shim", 1),
            ("sleep 1000000", 1),
            ("sleep 2000000", 1),
            ("tail -f", 2),
            ("crihook serve", 1),
        ];
        until("traces of every kind", async || {
            let there = node.traces().remaining();
            let seen = |kind: &str| there.iter().filter(|trace| trace.contains(kind)).count();
            if kinds.iter().all(|(kind, least)| seen(kind) >= *least) { Ok(()) } else { Err(there) }
        })
        .await;
        traces = Some(node.traces());
        panic!("as a failed assertion does");
    };
    let panic = AssertUnwindSafe(failing_test).catch_unwind().await.unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"as a failed assertion does"), "{:?}", panic.downcast_ref::<String>());
    assert_eq!(traces.unwrap().remaining(), Vec::<String>::new());
}

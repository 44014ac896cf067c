//! The tests' own promise: whatever becomes of a test, the machine is as it was.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::leftovers::Traces;
use crate::node::{Node, Series};
use crate::pod::{DEAF, Pod};
use crate::proxy::Crihook;

#[tokio::test]
async fn a_test_that_panics_leaves_nothing_behind() {
    let mut traces: Option<Traces> = None;
    let failing_test = async {
        let node = Node::start(Series::V1_7).await;
        let crihook = Crihook::start(&node).await;
        let mut client = crihook.client().await;
        let pod = Pod::run(&mut client, &node, "orphan").await;
        pod.start(&mut client, "main", DEAF).await;
        let there = node.traces().remaining();
        for kind in
            ["/sys/class/net/", "/sys/fs/cgroup/", "containerd --config", "containerd-shim", "sleep", "crihook serve"]
        {
            assert!(there.iter().any(|trace| trace.contains(kind)), "a check that sees {kind}: {there:?}");
        }
        traces = Some(node.traces());
        panic!("as a failed assertion does");
    };
    let panic = AssertUnwindSafe(failing_test).catch_unwind().await.unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"as a failed assertion does"), "{:?}", panic.downcast_ref::<String>());
    assert_eq!(traces.unwrap().remaining(), Vec::<String>::new());
}

//! crihook is upgraded while containerd stops a container, which takes its time.

use crihook::cri::v1::{ContainerState, VersionRequest};

use crate::node::{Node, Series};
use crate::pod::{self, POLITE, Pod};
use crate::proxy::Crihook;
use crate::wait::until;

/// Goes on within its grace until it is let go.
const SLOW: &str =
    "trap 'touch /tmp/told; until test -e /tmp/let-go; do sleep 0.1; done; exit 7' TERM; sleep 1000000 & wait";
const EXITED: ContainerState = ContainerState::ContainerExited;

#[tokio::test]
async fn calls_on_both_sides_of_an_upgrade_succeed_on_containerd_1_7() {
    let node = Node::start(Series::V1_7).await;
    let mut crihook = Crihook::start(&node).await;
    let mut client = crihook.client().await;
    let pod = Pod::run(&mut client, &node, "upgraded").await;
    let slow = pod.start(&mut client, "slow", SLOW).await;
    let polite = pod.start(&mut client, "polite", POLITE).await;
    let first = crihook.pid();
    assert!(first.is_some());

    let (mut kubelet, container) = (client.clone(), slow.clone());
    let stopping = tokio::spawn(async move { pod::stop(&mut kubelet, &container, 60).await });
    let mut direct = node.direct().await;
    until("the container to be told", async || {
        let answer = pod::exec(&mut direct, &slow, "test -e /tmp/told").await.map_err(|error| error.to_string())?;
        if answer.exit_code == 0 { Ok(()) } else { Err(answer.exit_code.to_string()) }
    })
    .await;
    crihook.upgrade().await;
    assert_eq!(crihook.pid(), first, "the old process finishes the call");

    let mut client = crihook.client().await;
    client.runtime.version(VersionRequest::default()).await.expect("Version");
    pod::stop(&mut client, &polite, 30).await;
    let answer = pod::exec(&mut client, &slow, "touch /tmp/let-go").await.expect("ExecSync");
    assert_eq!(answer.exit_code, 0);
    stopping.await.expect("the call in the old process");
    for container in [slow, polite] {
        let status = pod::status(&mut client, &container).await.unwrap();
        assert_eq!((status.state(), status.exit_code), (EXITED, 7), "with all of its grace");
    }
    until("the old process to end", async || crihook.pid().map_or(Ok(()), Err)).await;
    pod.remove(&mut client).await;
    crihook.stop();
}

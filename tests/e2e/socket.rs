//! Who may talk to the runtime may talk to crihook, and nobody else.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::node::{GROUP, Node, Series};
use crate::proxy::Crihook;
use crate::wait::until;

#[tokio::test]
async fn the_socket_has_the_mode_and_the_owner_of_the_runtimes() {
    let node = Node::start(Series::V1_6).await;
    let crihook = Crihook::start(&node).await;
    let runtime = access(&node.runtime_socket());
    assert_eq!(runtime.2, GROUP, "containerd's socket is not root's alone");
    assert_eq!(access(&crihook.socket), runtime);
    crihook.stop();
}

#[tokio::test]
async fn the_socket_is_roots_alone_until_there_is_a_runtime_to_follow() {
    let mut node = Node::start(Series::V1_6).await;
    node.kill_runtime();
    fs::remove_file(node.runtime_socket()).unwrap();
    let crihook = Crihook::start(&node).await;
    let (mode, owner, group) = access(&crihook.socket);
    assert_eq!((mode & 0o777, owner, group), (0o600, 0, 0));

    node.start_runtime().await;
    let runtime = access(&node.runtime_socket());
    until("the runtime's mode and owner", async || {
        let seen = access(&crihook.socket);
        if seen == runtime { Ok(()) } else { Err(seen) }
    })
    .await;
    crihook.stop();
}

/// Mode, user and group.
fn access(path: &Path) -> (u32, u32, u32) {
    fs::metadata(path).map(|data| (data.mode(), data.uid(), data.gid())).unwrap()
}

//! Who may talk to the runtime may talk to crihook, and nobody else.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::node::{GROUP, Node, Series};
use crate::proxy::Crihook;

#[tokio::test]
async fn the_socket_has_the_mode_and_the_owner_of_the_runtimes() {
    let node = Node::start(Series::V1_6).await;
    let crihook = Crihook::start(&node).await;
    let access = |path: &Path| fs::metadata(path).map(|data| (data.mode(), data.uid(), data.gid())).unwrap();
    let runtime = access(&node.runtime_socket());
    assert_eq!(runtime.2, GROUP, "containerd's socket is not root's alone");
    assert_eq!(access(&crihook.socket), runtime);
    crihook.stop();
}

//! What systemd hears of an upgrade, and a socket that is systemd's.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crihook::sim::Options;
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use tokio::net::UnixStream;

use super::kubelet::failure;
use super::{Stage, until};
use crate::wire::peer::process::{Flags, bare};

/// systemd's end of `NOTIFY_SOCKET`.
struct Manager(UnixDatagram);

impl Manager {
    /// A stage with one.
    async fn over(options: &Options, change: impl FnOnce(&mut Flags)) -> (Stage, Self) {
        let mut manager = None;
        let stage = Stage::with(options, |flags, directory| {
            let socket = UnixDatagram::bind(directory.join("notify")).expect("a socket");
            socket.set_nonblocking(true).expect("a socket");
            manager = Some(Self(socket));
            flags.env("NOTIFY_SOCKET", directory.join("notify"));
            change(flags);
        })
        .await;
        (stage, manager.expect("the closure ran"))
    }

    /// What is heard next.
    async fn hears(&self) -> String {
        until("a notification", || async {
            let mut message = [0; 4096];
            let length = self.0.recv(&mut message).map_err(|error| error.kind())?;
            Ok::<_, std::io::ErrorKind>(String::from_utf8_lossy(&message[..length]).trim_end().to_owned())
        })
        .await
    }

    /// What was heard by now.
    fn heard(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let next = || self.0.recv(&mut message).ok().map(|length| String::from_utf8_lossy(&message[..length]).into());
        std::iter::from_fn(next).collect()
    }
}

#[tokio::test]
async fn the_new_process_becomes_the_main_one_and_nothing_stops() {
    let (stage, manager) = Manager::over(&Options::default(), |_| ()).await;
    assert_eq!(manager.hears().await, "READY=1");
    for _ in 0..2 {
        let next = stage.upgrade().await;
        stage.processes_are(&[next]).await;
        assert_eq!(
            manager.hears().await,
            format!("MAINPID={next}"),
            "of the old one, which is the main one until then"
        );
        assert_eq!(manager.hears().await, "READY=1", "of the new one");
    }
    assert_eq!(manager.heard(), [""; 0]);
    kill(stage.processes()[0], Signal::SIGTERM).expect("it runs");
    assert_eq!(manager.hears().await, "STOPPING=1");
}

#[tokio::test]
async fn an_upgrade_that_fails_is_not_heard_of_and_one_that_is_taken_back_is() {
    let slow = Options::default().answer_late("StopContainer", Duration::from_secs(2)).expect("a method");
    let (stage, manager) = Manager::over(&slow, |_| ()).await;
    assert_eq!(manager.hears().await, "READY=1");
    stage.install_script("exit 1");
    stage.refused(&[]).await;
    assert_eq!(manager.heard(), [""; 0]);
    stage.install_crihook();
    let container = stage.node.running("web", &[]).await.id;
    let kubelet = stage.kubelet().await;
    let (stopped, ()) = tokio::join!(kubelet.stop(&container), async {
        stage.node.wait_heard("StopContainer", 1).await;
        let next = stage.upgrade().await;
        assert_eq!(manager.hears().await, format!("MAINPID={next}"));
        assert_eq!(manager.hears().await, "READY=1");
        kill(next, Signal::SIGKILL).expect("it runs");
        assert_eq!(manager.hears().await, format!("MAINPID={}", stage.first()));
    });
    assert_eq!(failure(&stopped), None);
    assert_eq!(manager.heard(), [""; 0]);
}

#[tokio::test]
async fn the_watchdog_is_fed_by_the_new_process() {
    let (stage, manager) = Manager::over(&Options::default(), |flags| {
        flags.env("WATCHDOG_USEC", "400000");
    })
    .await;
    let next = stage.upgrade().await;
    stage.processes_are(&[next]).await;
    manager.heard();
    assert_eq!(manager.hears().await, "WATCHDOG=1");
}

#[tokio::test]
async fn a_watchdog_of_another_process_is_not_fed_after_an_upgrade_either() {
    let (stage, manager) = Manager::over(&Options::default(), |flags| {
        flags.env("WATCHDOG_USEC", "1").env("WATCHDOG_PID", "1");
    })
    .await;
    let next = stage.upgrade().await;
    stage.processes_are(&[next]).await;
    kill(next, Signal::SIGTERM).expect("it runs");
    stage.processes_are(&[]).await;
    let heard: Vec<_> = manager.heard().concat().lines().map(str::to_owned).collect();
    assert_eq!(heard, ["READY=1", &format!("MAINPID={next}"), "READY=1", "STOPPING=1"]);
}

/// A stage whose crihook is started with sockets that systemd has bound at these paths.
async fn activated(name: &[&str], paths: &[&str], change: impl FnOnce(&mut Flags, &Path)) -> Stage {
    Stage::with(&Options::default(), |flags, directory| {
        let mut launcher = vec!["systemd-socket-activate".into()];
        launcher.extend(name.iter().map(Into::into));
        launcher.extend(paths.iter().map(|path| format!("--listen={}", directory.join(path).display()).into()));
        flags.through(launcher);
        change(flags, directory);
        // It starts the service for the first client.
        let socket = directory.join(paths[0]);
        tokio::spawn(async move { until("the socket", || UnixStream::connect(&socket)).await });
    })
    .await
}

/// All that a service must not change about systemd's socket.
fn file(path: PathBuf) -> (u64, u32, u32) {
    let found = fs::symlink_metadata(path).expect("a socket");
    (found.ino(), found.permissions().mode(), found.uid())
}

#[tokio::test]
async fn a_socket_of_systemd_is_served_and_left_as_it_is_over_upgrades() {
    let stage = activated(&["--fdname=cri"], &["front.sock"], |_, _| ()).await;
    // The runtime's, which crihook's own socket would imitate, are others.
    let mode = fs::metadata(stage.path("runtime.sock")).expect("a socket").permissions().mode();
    let before = file(stage.node.front());
    fs::set_permissions(stage.node.front(), fs::Permissions::from_mode(0o640)).expect("its mode");
    assert_ne!(mode & 0o777, 0o640);
    let mut last = stage.first();
    for _ in 0..2 {
        assert_eq!(failure(&stage.kubelet().await.version().await), None);
        last = stage.upgrade().await;
        stage.processes_are(&[last]).await;
    }
    stage.said("the runtime answers").await;
    assert_eq!(failure(&stage.kubelet().await.version().await), None);
    let after = file(stage.node.front());
    assert_eq!((after.0, after.1 & 0o777, after.2), (before.0, 0o640, before.2));
    kill(last, Signal::SIGTERM).expect("it runs");
    stage.processes_are(&[]).await;
    assert_eq!(file(stage.node.front()), after, "it is systemd's to take away");
    assert!(!stage.path("admin.sock").exists());
}

#[tokio::test]
async fn the_only_socket_of_systemd_needs_no_name_and_is_where_crihook_listens() {
    let stage = activated(&[], &["front.sock"], |flags, directory| {
        flags.set("--listen", directory.join("elsewhere.sock"));
    })
    .await;
    assert_eq!(failure(&stage.kubelet().await.version().await), None);
    assert!(!stage.path("elsewhere.sock").exists());
    let mut command = tokio::process::Command::from(bare());
    let status = command.args(["status", "-o", "json", "--admin-socket"]).arg(stage.path("admin.sock")).output();
    let status: Value = serde_json::from_slice(&status.await.expect("crihook").stdout).expect("a document");
    assert_eq!(status["listen"], format!("unix://{}", stage.node.front().display()));
}

#[tokio::test]
async fn sockets_of_systemd_without_the_name_are_left_alone_and_it_is_said() {
    let stage = activated(&["--fdname=a:b"], &["a.sock", "b.sock"], |_, _| ()).await;
    stage.said("none of the 2 sockets of systemd has FileDescriptorName=cri").await;
    assert_eq!(failure(&stage.kubelet().await.version().await), None, "at its own");
}

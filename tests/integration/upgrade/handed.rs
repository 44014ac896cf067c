//! What goes from one process to the next, and what does not.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use crihook::sim::Options;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixStream;

use super::kubelet::failure;
use super::{Kubelet, Stage, until};
use crate::hooks::server::{HookServer, Reply};
use crate::hooks::{plain, policy, webhook};
use crate::wire::peer::Client;
use crate::wire::peer::grpc::{message, request};
use crate::wire::peer::record::End;

/// The name and value of each variable that a process was started with.
fn environment(pid: Pid) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/environ")).expect("it runs");
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn arguments(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it runs")
}

fn standard_input(pid: Pid) -> String {
    fs::read_link(format!("/proc/{pid}/fd/0")).expect("it runs").display().to_string()
}

#[tokio::test]
async fn arguments_and_environment_stay_but_for_what_was_meant_for_one_process() {
    let stage = Stage::with(&Options::default(), |flags, _| {
        flags.env("LISTEN_PID", "1").env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "cri").env("WATCHDOG_PID", "1");
    })
    .await;
    let before = arguments(stage.first());
    let next = stage.upgrade().await;
    assert_eq!(arguments(next), before);
    let environment = environment(next);
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
        assert!(!environment.contains_key(name), "{name}");
    }
    assert_eq!(environment["PATH"], std::env::var("PATH").expect("text"));
    assert_eq!(standard_input(next), "/dev/null");
}

#[tokio::test]
async fn the_sockets_stay_what_they_are() {
    let stage = Stage::start().await;
    let sockets = [stage.node.front(), stage.path("admin.sock")];
    let inodes = || sockets.each_ref().map(|path| fs::symlink_metadata(path).expect("a socket").ino());
    let (before, metrics) = (inodes(), stage.node.crihook.metrics_addr().await);
    let next = stage.upgrade().await;
    stage.processes_are(&[next]).await;
    assert_eq!(inodes(), before, "no file was taken away and made anew");
    let (code, page) = crate::wire::peer::exposition::get(&metrics, "/metrics").await;
    assert_eq!(code, 200, "{page}");
    kill(next, Signal::SIGTERM).expect("it runs");
    stage.processes_are(&[]).await;
    assert!(sockets.iter().all(|path| !path.exists()), "who has them in the end takes them away");
}

#[tokio::test]
async fn a_socket_whose_file_is_gone_is_bound_anew() {
    let stage = Stage::start().await;
    fs::remove_file(stage.node.front()).expect("a socket");
    let next = stage.upgrade().await;
    stage.processes_are(&[next]).await;
    assert_eq!(failure(&stage.kubelet().await.version().await), None);
}

/// Hung up on, its call would have failed; a GOAWAY sends it elsewhere.
#[tokio::test]
async fn a_client_that_has_connected_and_not_spoken_yet_is_answered_by_the_old_process() {
    let stage = Stage::start().await;
    stage.node.wait_metric("crihook_cri_connections", &[("side", "downstream")], 1.0).await;
    let silent = UnixStream::connect(stage.node.front()).await.expect("a connection");
    stage.node.wait_metric("crihook_cri_connections", &[("side", "downstream")], 2.0).await;
    let first = stage.first();
    stage.upgrade().await;
    assert!(stage.processes().contains(&first), "it waits for the client");
    let client = Client::over(silent, 64 << 20).await.expect("HTTP/2");
    let request = request("/runtime.v1.RuntimeService/Version");
    let answer = client.call(request, message(0, b"")).await;
    assert!(answer.end == End::GoneAway(0) || failure(&answer).is_none(), "{answer:?}");
}

#[tokio::test]
async fn a_binary_that_was_replaced_is_what_is_started() {
    let stage = Stage::start().await;
    // As package managers do it: another file under the same name.
    let copy = stage.path("another");
    fs::copy(env!("CARGO_BIN_EXE_crihook"), &copy).expect("a copy");
    stage.install(&copy);
    let next = stage.upgrade().await;
    let image = |pid: Pid| fs::read_link(format!("/proc/{pid}/exe")).expect("it runs");
    assert_eq!(image(next), copy);
    fs::remove_file(&copy).expect("a file");
    stage.install_crihook();
    let last = stage.upgrade().await;
    assert_eq!(image(last).to_str(), Some(env!("CARGO_BIN_EXE_crihook")));
}

#[tokio::test]
async fn sigusr2_upgrades_too() {
    let stage = Stage::start().await;
    let first = stage.first();
    stage.node.crihook.signal(Signal::SIGUSR2);
    until("another process", || async {
        let found = stage.processes();
        if found.len() == 1 && found[0] != first { Ok(()) } else { Err(found) }
    })
    .await;
    assert_eq!(failure(&stage.kubelet().await.version().await), None);
}

#[tokio::test]
async fn sockets_that_the_new_config_has_elsewhere_are_bound_there() {
    let stage = Stage::with(&Options::default(), |flags, directory| {
        flags.without("--listen").without("--admin-socket").set("--config", directory.join("config.yaml"));
        configure(directory, "front.sock", "admin.sock");
    })
    .await;
    configure(&stage.path(""), "other.sock", "admin.sock");
    let next = stage.upgrade().await;
    stage.processes_are(&[next]).await;
    let kubelet = Kubelet::connect(&stage.path("other.sock")).await;
    assert_eq!(failure(&kubelet.version().await), None);
    assert!(!stage.node.front().exists(), "the old one took with it what nobody has taken over");
    assert!(UnixStream::connect(stage.path("admin.sock")).await.is_ok());
}

fn configure(directory: &std::path::Path, listen: &str, admin: &str) {
    let path = |name: &str| directory.join(name).display().to_string();
    let text = format!("listen: {}\nadminSocket: {}\n", path(listen), path(admin));
    fs::write(directory.join("config.yaml"), text).expect("a file");
}

#[tokio::test]
async fn runs_in_flight_stay_and_policies_are_read_anew() {
    let mut servers = None;
    let stage = Stage::with(&Options::default(), |_, directory| {
        let held = HookServer::unix(&directory.join("held"), |_| Reply::Held);
        let new = HookServer::unix(&directory.join("new"), |_| Reply::Ok);
        let hooks = [webhook("held", "PostStart", &held, &plain()), webhook("next", "PostStart", &held, &plain())];
        fs::write(directory.join("hooks.d/a.yaml"), policy("old", &hooks)).expect("a file");
        servers = Some((held, new));
    })
    .await;
    let (held, new) = servers.expect("the closure ran");
    let first = stage.first();
    stage.node.running("one", &[]).await;
    held.wait(1).await;
    // Another directory would be noticed without an upgrade, too.
    let next = stage.upgrade().await;
    fs::write(stage.path("hooks.d/a.yaml"), policy("new", &[webhook("new", "PostStart", &new, &plain())]))
        .expect("a file");
    stage.processes_are(&[first, next]).await;
    held.release();
    held.wait(2).await;
    held.release();
    stage.processes_are(&[next]).await;
    let hooks: Vec<_> = held.delivered().iter().map(|delivered| delivered.hook().to_owned()).collect();
    assert_eq!(hooks, ["held", "next"], "once each, and what was queued, too");
    let pods = AtomicUsize::new(0);
    until("the new policies hold", || async {
        stage.node.running(&format!("late-{}", pods.fetch_add(1, Ordering::Relaxed)), &[]).await;
        if new.delivered().is_empty() { Err("they do not") } else { Ok(()) }
    })
    .await;
}

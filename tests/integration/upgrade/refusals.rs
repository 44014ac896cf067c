//! A new process that is no good: the old one goes on as if nothing had been asked, and says why.

use std::time::Duration;

use crihook::sim::Options;
use nix::sys::signal::Signal;

use super::kubelet::failure;
use super::{Stage, until};

/// Asks for an upgrade that must not come about while calls pass, on one connection, from before to after it.
async fn refused(stage: &Stage, arguments: &[&str]) -> String {
    let (kubelet, first) = (stage.kubelet().await, stage.first());
    let asked = stage.refused(arguments);
    tokio::pin!(asked);
    let why = loop {
        assert_eq!(failure(&kubelet.version().await), None);
        tokio::select! {
            biased;
            why = &mut asked => break why,
            () = std::future::ready(()) => {}
        }
    };
    assert_eq!(failure(&kubelet.version().await), None);
    stage.processes_are(&[first]).await;
    let told = why.trim_start_matches("crihook: ").trim_end();
    stage.said(&told.replace('"', "\\\"")).await;
    why
}

async fn upgrades_still(stage: &Stage) {
    stage.install_crihook();
    let next = stage.upgrade().await;
    assert_eq!(failure(&stage.kubelet().await.version().await), None);
    stage.processes_are(&[next]).await;
}

#[tokio::test]
async fn a_binary_that_crashes_changes_nothing() {
    let stage = Stage::start().await;
    stage.install_script("kill -SEGV $$");
    let why = refused(&stage, &[]).await;
    assert!(why.contains("the new process ended before it was ready (signal: 11 (SIGSEGV)"), "{why}");
    stage.install_script("echo 'no such flag' >&2; exit 2");
    let why = refused(&stage, &[]).await;
    assert!(why.contains("the new process ended before it was ready (exit status: 2)"), "{why}");
    stage.said("no such flag").await;
    upgrades_still(&stage).await;
}

#[tokio::test]
async fn a_binary_that_hangs_is_killed_when_its_time_is_over() {
    let stage = Stage::start().await;
    // With the mark of this stage, so that it would be found if it were left.
    stage.install_script("while :; do sleep 0.1; done");
    let why = refused(&stage, &["--timeout", "1s"]).await;
    assert!(why.contains("the new process was not ready within 1s, and was killed"), "{why}");
    upgrades_still(&stage).await;
}

#[tokio::test]
async fn a_binary_that_is_not_there_changes_nothing() {
    let stage = Stage::start().await;
    stage.install(&stage.path("nothing"));
    let why = refused(&stage, &[]).await;
    let program = stage.path("crihook");
    assert!(why.contains(&format!("cannot start {}: No such file or directory", program.display())), "{why}");
    upgrades_still(&stage).await;
}

#[tokio::test]
async fn a_config_that_is_wrong_by_now_is_told_with_its_place() {
    let stage = Stage::with(&Options::default(), |flags, directory| {
        let config = directory.join("config.yaml");
        std::fs::write(&config, "logLevel: info\n").expect("a file");
        flags.set("--config", config);
    })
    .await;
    let config = stage.path("config.yaml");
    std::fs::write(&config, "logLevel: info\ndrainTimeuot: 10m\n").expect("a file");
    let why = refused(&stage, &[]).await;
    assert!(why.contains("the new process refuses: "), "{why}");
    assert!(why.contains(&format!("{}:2:1: unknown key `drainTimeuot`", config.display())), "{why}");
    std::fs::write(&config, "logLevel: info\n").expect("a file");
    upgrades_still(&stage).await;
}

#[tokio::test]
async fn a_socket_that_cannot_be_had_is_told() {
    let stage = Stage::with(&Options::default(), |flags, directory| {
        flags.without("--listen").set("--config", directory.join("config.yaml"));
        let listen = directory.join("front.sock");
        std::fs::write(directory.join("config.yaml"), format!("listen: {}\n", listen.display())).expect("a file");
    })
    .await;
    std::fs::write(stage.path("config.yaml"), "listen: /no/such/directory/crihook.sock\n").expect("a file");
    let why = refused(&stage, &[]).await;
    assert!(why.contains("the new process refuses: cannot listen on /no/such/directory/crihook.sock"), "{why}");
}

#[tokio::test]
async fn one_upgrade_at_a_time() {
    let stage = Stage::start().await;
    let go = stage.path("go");
    stage.install_script(&format!(
        "until [ -e {} ]; do sleep 0.02; done; exec {} \"$@\"",
        go.display(),
        env!("CARGO_BIN_EXE_crihook")
    ));
    let (done, ()) = tokio::join!(stage.ask(&[]), async {
        stage.said("upgrading").await;
        let why = stage.refused(&[]).await;
        assert!(why.contains("an upgrade is under way already"), "{why}");
        std::fs::write(&go, "").expect("a file");
    });
    assert!(done.status.success(), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stdout).contains(" serves, after "), "{done:?}");
}

#[tokio::test]
async fn what_ends_is_not_upgraded_and_what_is_told_to_end_does_not_wait_for_an_upgrade() {
    let slow = Options::default().answer_late("StopContainer", Duration::from_secs(2)).expect("a method");
    let stage = Stage::with(&slow, |_, _| ()).await;
    let container = stage.node.running("web", &[]).await.id;
    let kubelet = stage.kubelet().await;
    let (stopped, ()) = tokio::join!(kubelet.stop(&container), async {
        stage.node.wait_in_flight("StopContainer", 1.0).await;
        stage.install_script("while :; do sleep 0.1; done");
        let asked = async {
            let why = stage.refused(&[]).await;
            assert!(why.contains("crihook is ending, and cannot be upgraded"), "{why}");
        };
        tokio::join!(asked, async {
            stage.said("upgrading").await;
            stage.node.crihook.signal(Signal::SIGTERM);
        });
        let why = stage.refused(&[]).await;
        assert!(why.contains("crihook is ending, and cannot be upgraded"), "{why}");
    });
    assert_eq!(failure(&stopped), None, "the call in flight has its time");
    stage.processes_are(&[]).await;
    until("the socket is taken away", || async { if stage.node.front().exists() { Err(()) } else { Ok(()) } }).await;
}

//! The new process dies, or is told to stop, while the old one still has calls to finish.

use std::time::Duration;

use crihook::sim::Options;
use nix::sys::signal::{Signal, kill};
use tokio::net::UnixStream;

use super::kubelet::failure;
use super::{Kubelet, Stage, until};

/// A stage whose runtime takes its time to stop a container, and such a call.
async fn busy(late: Duration) -> (Stage, Kubelet, String) {
    let slow = Options::default().answer_late("StopContainer", late).expect("a method");
    let stage = Stage::with(&slow, |_, _| ()).await;
    let container = stage.node.running("web", &[]).await.id;
    let kubelet = stage.kubelet().await;
    (stage, kubelet, container)
}

/// Runs `script` once the call that the runtime takes its time for is in flight; both must succeed.
async fn during_a_stop(stage: &Stage, kubelet: &Kubelet, container: &str, script: impl Future<Output = ()>) {
    let before = stage.node.heard("StopContainer").len();
    let (stopped, ()) = tokio::join!(kubelet.stop(container), async {
        stage.node.wait_heard("StopContainer", before + 1).await;
        script.await;
    });
    assert_eq!(failure(&stopped), None);
}

async fn serves(stage: &Stage) {
    let kubelet = stage.kubelet().await;
    for _ in 0..10 {
        assert_eq!(failure(&kubelet.version().await), None);
    }
}

#[tokio::test]
async fn the_old_process_accepts_again_when_the_new_one_dies() {
    let (stage, kubelet, container) = busy(Duration::from_secs(3)).await;
    let first = stage.first();
    during_a_stop(&stage, &kubelet, &container, async {
        for _ in 0..2 {
            let next = stage.upgrade().await;
            serves(&stage).await;
            kill(next, Signal::SIGKILL).expect("it runs");
            stage.said("serving again").await;
            serves(&stage).await;
            stage.processes_are(&[first]).await;
        }
    })
    .await;
    // It goes on for good, with all that belongs to it.
    serves(&stage).await;
    assert_eq!(failure(&kubelet.version().await), None, "on a connection that came after the GOAWAY");
    assert_eq!(stage.node.readiness().await.0, 200);
    let last = stage.upgrade().await;
    stage.processes_are(&[last]).await;
    assert!(stage.node.front().exists() && stage.path("admin.sock").exists());
}

#[tokio::test]
async fn nothing_is_taken_back_from_one_that_is_told_to_stop() {
    let (stage, kubelet, container) = busy(Duration::from_secs(3)).await;
    let (first, other) = (stage.first(), stage.node.running("other", &[]).await.id);
    during_a_stop(&stage, &kubelet, &container, async {
        let next = stage.upgrade().await;
        let kubelet = stage.kubelet().await;
        let stop = async {
            kill(next, Signal::SIGTERM).expect("it runs");
            until("no client waits for an answer that never comes", || async {
                if UnixStream::connect(stage.node.front()).await.is_err() { Ok(()) } else { Err("it is queued") }
            })
            .await;
            let left = stage.processes();
            assert!(left.contains(&first) && left.contains(&next), "each finishes a call: {left:?}");
        };
        during_a_stop(&stage, &kubelet, &other, stop).await;
    })
    .await;
    stage.processes_are(&[]).await;
    assert!(
        !stage.node.front().exists() && !stage.path("admin.sock").exists(),
        "the last one takes its sockets with it"
    );
}

#[tokio::test]
async fn of_a_chain_only_the_last_one_serves_whoever_dies() {
    let (stage, kubelet, container) = busy(Duration::from_secs(3)).await;
    let first = stage.first();
    let other = stage.node.running("other", &[]).await.id;
    let chain = async {
        let middle = stage.upgrade().await;
        let kubelet = stage.kubelet().await;
        let (cut, ()) = tokio::join!(kubelet.stop(&other), async {
            stage.node.wait_heard("StopContainer", 2).await;
            let last = stage.upgrade().await;
            stage.processes_are(&[first, middle, last]).await;
            kill(middle, Signal::SIGKILL).expect("it finishes a call");
            stage.processes_are(&[first, last]).await;
            serves(&stage).await;
        });
        assert!(failure(&cut).is_some(), "it was in the process that was killed");
    };
    during_a_stop(&stage, &kubelet, &container, Box::pin(chain)).await;
    until("the first one ends when its call has", || async {
        let left = stage.processes();
        if left.len() == 1 && left[0] != first { Ok(()) } else { Err(left) }
    })
    .await;
    assert!(!stage.node.crihook.log().iter().any(|line| line.contains("serving again")));
    serves(&stage).await;
}

#[tokio::test]
async fn sigterm_ends_the_old_process_in_its_order_and_a_second_one_at_once() {
    let (stage, kubelet, container) = busy(Duration::from_mins(1)).await;
    let (first, other) = (stage.first(), stage.node.running("other", &[]).await.id);
    let stops = tokio::spawn(async move { tokio::join!(kubelet.stop(&container), kubelet.stop(&other)) });
    stage.node.wait_heard("StopContainer", 2).await;
    let next = stage.upgrade().await;
    kill(first, Signal::SIGTERM).expect("it has calls");
    serves(&stage).await;
    assert!(stage.processes().contains(&first), "it waits for its calls");
    kill(first, Signal::SIGTERM).expect("it has calls");
    stage.processes_are(&[next]).await;
    let (one, two) = stops.await.expect("no panic");
    assert!([one, two].iter().all(|answer| failure(answer).is_some()), "no success was invented");
    assert!(stage.node.front().exists() && stage.path("admin.sock").exists(), "they are the new one's");
    serves(&stage).await;
}

#[tokio::test]
async fn calls_that_outlast_the_drain_timeout_end_with_the_old_process() {
    let slow = Options::default().answer_late("StopContainer", Duration::from_mins(1)).expect("a method");
    let stage = Stage::with(&slow, |flags, _| {
        flags.set("--drain-timeout", "500ms");
    })
    .await;
    let container = stage.node.running("web", &[]).await.id;
    let kubelet = stage.kubelet().await;
    let stopped = tokio::spawn(async move { kubelet.stop(&container).await });
    stage.node.wait_heard("StopContainer", 1).await;
    let next = stage.upgrade().await;
    let stopped = stopped.await.expect("no panic");
    assert!(failure(&stopped).is_some(), "no success was invented: {stopped:?}");
    stage.processes_are(&[next]).await;
    serves(&stage).await;
}

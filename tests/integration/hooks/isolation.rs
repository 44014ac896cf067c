//! What hangs delays only whom it was asked about.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::*;

/// More than run at once, so that some wait for their turn.
const STUCK: usize = 100;

#[tokio::test]
async fn calls_of_others_are_not_delayed_while_a_hundred_runs_are_stuck() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Hang);
    let hooks = [
        webhook("stuck", "PostStart", &server, &json!({"timeout": "10m"})),
        webhook("stopping", "PreStop", &server, &json!({"timeout": "10m"})),
    ];
    place.write("a.yaml", &policy("stuck", &hooks));
    let node = place.start().await;
    let mut stops = JoinSet::new();
    for n in 0..STUCK {
        let web = node.running(&format!("web-{n}"), &[]).await;
        let cri = node.cri.clone();
        stops.spawn(async move { cri.stop(&web.id, 600).await });
    }
    node.wait_in_flight("StopContainer", 100.0).await;
    let mut slowest = Duration::ZERO;
    for n in 0..50 {
        let begun = Instant::now();
        let (free, main) = (cri::pod_in("free", &format!("free-{n}")), container("main", &[]));
        let free = within("calls of another namespace", node.running_as(&free, &main)).await;
        node.cri.stop(&free.id, 10).await.expect("stopped");
        node.cri.remove(&free.id).await.expect("removed");
        node.cri.stop_pod(&free.sandbox).await.expect("stopped");
        node.cri.version().await.expect("an answer");
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    assert_eq!(stops.len(), STUCK);
    assert!(stops.try_join_next().is_none(), "and those are still stuck");
    assert!((2..=128).contains(&server.peak()), "at once: {}", server.peak());
}

#[tokio::test]
async fn hooks_of_other_servers_run_while_one_server_hangs() {
    let place = Place::new();
    let (hangs, answers) = (place.answering("hangs", Reply::Hang), place.answering("answers", Reply::Ok));
    let at =
        |server| ["PreStop", "PostStart"].map(|on| webhook(&on.to_lowercase(), on, server, &json!({"timeout": "10m"})));
    place.write("a.yaml", &policy_for("hangs", &json!({"namespaces": ["sick"]}), &at(&hangs)));
    place.write("b.yaml", &policy_for("answers", &json!({"namespaces": ["well"]}), &at(&answers)));
    let node = place.start().await;
    let main = container("main", &[]);
    let mut stops = JoinSet::new();
    for n in 0..STUCK {
        let sick = node.running_as(&cri::pod_in("sick", &format!("sick-{n}")), &main).await;
        let cri = node.cri.clone();
        stops.spawn(async move { cri.stop(&sick.id, 600).await });
    }
    node.wait_in_flight("StopContainer", 100.0).await;
    hangs.wait(2).await;
    for n in 0..10 {
        let well = node.running_as(&cri::pod_in("well", &format!("well-{n}")), &main).await;
        answers.wait(2 * n + 1).await;
        within("the stop", node.cri.stop(&well.id, 600)).await.expect("stopped");
        assert_eq!(answers.points().last().map(String::as_str), Some("PreStopContainer"));
    }
    assert_eq!(node.heard("StopContainer").len(), 10, "the others still wait for their server");
}

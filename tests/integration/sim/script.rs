//! The scripted kubelet, straight at the embedded runtime.

use std::collections::BTreeMap;

use super::*;
use crihook::sim::kubelet::Kubelet;

#[tokio::test]
async fn the_script_makes_the_same_calls_in_every_round_whatever_else_runs_there() {
    let mut sim = Sim::start();
    let (foreign, _) = sim.pod(&[]).await;
    let mut kubelet = Kubelet::new(&sim.socket(), Duration::ZERO);
    kubelet.start().await.unwrap();
    let mut totals = vec![sim.runtime.calls()];
    for round in 0..3 {
        kubelet.run_pod(round).await.unwrap();
        totals.push(sim.runtime.calls());
    }
    let rounds: Vec<BTreeMap<_, _>> = totals
        .windows(2)
        .map(|pair| pair[1].iter().map(|(method, n)| (*method, n - pair[0].get(method).unwrap_or(&0))).collect())
        .collect();
    assert_eq!(rounds[0], rounds[1]);
    assert_eq!(rounds[1], rounds[2]);
    for once in ["RunPodSandbox", "StopPodSandbox", "RemovePodSandbox", "UpdateContainerResources"] {
        assert_eq!(rounds[0][once], 1, "{once}");
    }
    for twice in ["PullImage", "CreateContainer", "StartContainer", "StopContainer", "RemoveContainer"] {
        assert_eq!(rounds[0][twice], 2, "{twice}");
    }
    assert_eq!(totals[3]["GetContainerEvents"], 1, "one stream for all rounds");
    let left = sim.pods.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap().into_inner().items;
    assert_eq!(left.iter().map(|item| &item.id).collect::<Vec<_>>(), [&foreign], "its own are gone");
}

#[tokio::test]
async fn the_script_notices_when_an_answer_is_not_what_a_kubelet_needs() {
    let mut sim = Sim::start();
    let mut kubelet = Kubelet::new(&sim.socket(), Duration::ZERO);
    kubelet.start().await.unwrap();
    sim.pull("registry.example/payments/web:2.7.1").await;
    let failure = kubelet.run_pod(0).await.unwrap_err();
    assert_eq!(failure.to_string(), "image_status: the image is here already");
}

#[tokio::test]
async fn the_script_says_which_call_failed_and_how() {
    let directory = tempfile::tempdir().unwrap();
    let mut kubelet = Kubelet::new(&directory.path().join("absent.sock"), Duration::ZERO);
    let failure = kubelet.start().await.unwrap_err().to_string();
    assert!(failure.starts_with("version: Unavailable: "), "{failure}");
}

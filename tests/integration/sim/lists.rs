//! Filters, and ids by their beginning.

use super::*;

/// Two pods with a container each; the second pod is stopped.
async fn two_pods(sim: &mut Sim) -> [(String, String); 2] {
    sim.pull("busybox").await;
    let mut pods = Vec::new();
    for name in ["web", "db"] {
        let sandbox = sim.sandbox(pod(name)).await;
        let id = sim.run(&sandbox, container(&format!("main-of-{name}"))).await;
        pods.push((sandbox, id));
    }
    sim.pods.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pods[1].0.clone() }).await.unwrap();
    pods.try_into().expect("two")
}

async fn sandboxes(sim: &mut Sim, filter: PodSandboxFilter) -> Vec<String> {
    let request = ListPodSandboxRequest { filter: Some(filter) };
    sim.pods.list_pod_sandbox(request).await.unwrap().into_inner().items.into_iter().map(|item| item.id).collect()
}

async fn containers(sim: &mut Sim, filter: ContainerFilter) -> Vec<String> {
    let request = ListContainersRequest { filter: Some(filter) };
    sim.pods.list_containers(request).await.unwrap().into_inner().containers.into_iter().map(|item| item.id).collect()
}

#[tokio::test]
async fn sandboxes_are_filtered_by_id_state_and_labels() {
    let mut sim = Sim::start();
    let [(web, _), (db, _)] = two_pods(&mut sim).await;
    let all = sandboxes(&mut sim, PodSandboxFilter::default()).await;
    assert_eq!(all.len(), 2);
    let state = |state: PodSandboxState| Some(PodSandboxStateValue { state: state.into() });
    let ready = PodSandboxFilter { state: state(PodSandboxState::SandboxReady), ..Default::default() };
    assert_eq!(sandboxes(&mut sim, ready).await, [web.as_str()]);
    let stopped = PodSandboxFilter { state: state(PodSandboxState::SandboxNotready), ..Default::default() };
    assert_eq!(sandboxes(&mut sim, stopped).await, [db.as_str()]);
    let labelled = PodSandboxFilter { label_selector: map(&[("app", "db")]), ..Default::default() };
    assert_eq!(sandboxes(&mut sim, labelled).await, [db.as_str()]);
    let by_prefix = PodSandboxFilter { id: web[..13].into(), ..Default::default() };
    assert_eq!(sandboxes(&mut sim, by_prefix).await, [web.as_str()]);
    let both = PodSandboxFilter { id: web, label_selector: map(&[("app", "db")]), ..Default::default() };
    assert!(sandboxes(&mut sim, both).await.is_empty(), "all that is given must hold");
    let unknown = PodSandboxFilter { id: "f00".repeat(20), ..Default::default() };
    assert!(sandboxes(&mut sim, unknown).await.is_empty(), "no error");
}

#[tokio::test]
async fn containers_are_filtered_by_id_state_sandbox_and_labels() {
    let mut sim = Sim::start();
    let [(web, in_web), (db, in_db)] = two_pods(&mut sim).await;
    assert_eq!(containers(&mut sim, ContainerFilter::default()).await.len(), 2);
    let running = Some(ContainerStateValue { state: ContainerState::ContainerRunning.into() });
    let by_state = ContainerFilter { state: running, ..Default::default() };
    assert_eq!(containers(&mut sim, by_state).await, [in_web.as_str()]);
    let by_sandbox = ContainerFilter { pod_sandbox_id: db[..10].into(), ..Default::default() };
    assert_eq!(containers(&mut sim, by_sandbox).await, [in_db.as_str()]);
    let by_label = ContainerFilter { label_selector: map(&[("container", "main-of-web")]), ..Default::default() };
    assert_eq!(containers(&mut sim, by_label).await, [in_web.as_str()]);
    let contradiction = ContainerFilter { id: in_db.clone(), pod_sandbox_id: web.clone(), ..Default::default() };
    assert!(containers(&mut sim, contradiction).await.is_empty());
    let unknown = ContainerFilter { id: "f00".repeat(20), ..Default::default() };
    assert!(containers(&mut sim, unknown).await.is_empty());
}

#[tokio::test]
async fn statistics_are_listed_of_what_runs_by_the_same_filters() {
    let mut sim = Sim::start();
    let [(web, in_web), (db, _)] = two_pods(&mut sim).await;
    let all = sim.pods.list_container_stats(ListContainerStatsRequest::default()).await.unwrap().into_inner().stats;
    let ids: Vec<_> = all.into_iter().map(|stats| stats.attributes.unwrap().id).collect();
    assert_eq!(ids, [in_web]);
    let filter = Some(ContainerStatsFilter { pod_sandbox_id: db, ..Default::default() });
    let none = sim.pods.list_container_stats(ListContainerStatsRequest { filter }).await.unwrap().into_inner().stats;
    assert!(none.is_empty());
    let pods = sim.pods.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await.unwrap().into_inner().stats;
    let ids: Vec<_> = pods.into_iter().map(|stats| stats.attributes.unwrap().id).collect();
    assert_eq!(ids, [web]);
}

#[tokio::test]
async fn an_id_may_be_given_by_its_beginning_while_that_is_one_only() {
    let mut sim = Sim::start();
    let (sandbox, main) = sim.pod(&[]).await;
    assert_eq!(sim.status(&main[..13]).await.unwrap().id, main);
    assert!(sim.exec(&main[..13], &["true"], 0).await.is_ok());

    // Sixteen first digits cannot keep seventeen containers apart.
    let mut ids = vec![main];
    for n in 0..16 {
        ids.push(sim.create(&sandbox, container(&format!("c{n}"))).await.unwrap());
    }
    ids.sort();
    let twins = ids.windows(2).find(|pair| pair[0][..1] == pair[1][..1]).expect("two that begin alike");
    let ambiguous = sim.status(&twins[0][..1]).await.unwrap_err();
    assert_eq!(ambiguous.code(), tonic::Code::Unknown);
    assert!(ambiguous.message().contains("more than one"), "{ambiguous}");
    assert_eq!(sim.stop("", 0).await.unwrap_err().code(), tonic::Code::InvalidArgument);
}

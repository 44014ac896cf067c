//! Events: in the order of what happened, each with the pod as it then was.

use super::*;
use ContainerEventType::{
    ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted, ContainerStartedEvent as Started,
    ContainerStoppedEvent as Stopped,
};
use ContainerState::{ContainerCreated, ContainerExited, ContainerRunning};
use tonic::Streaming;

async fn next(events: &mut Streaming<ContainerEventResponse>) -> ContainerEventResponse {
    tokio::time::timeout(LONG, events.message()).await.expect("an event").unwrap().expect("the stream goes on")
}

#[tokio::test]
async fn a_pods_life_is_told_in_its_order_to_every_subscriber() {
    let mut sim = Sim::start();
    let mut watchers = Vec::new();
    for _ in 0..2 {
        watchers.push(sim.pods.get_container_events(GetEventsRequest {}).await.unwrap().into_inner());
    }
    let (sandbox, main) = sim.pod(&[]).await;
    sim.stop(&main, 1).await.unwrap();
    sim.stop(&main, 1).await.unwrap();
    sim.pods.remove_container(RemoveContainerRequest { container_id: main.clone() }).await.unwrap();
    sim.pods.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.clone() }).await.unwrap();
    sim.pods.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox.clone() }).await.unwrap();
    let expected = [
        (&sandbox, Created),
        (&sandbox, Started),
        (&main, Created),
        (&main, Started),
        (&main, Stopped),
        (&main, Deleted),
        (&sandbox, Stopped),
        (&sandbox, Deleted),
    ];
    for events in &mut watchers {
        let mut last = 0;
        for (id, what) in expected {
            let event = next(events).await;
            assert_eq!((&event.container_id, event.container_event_type()), (id, what));
            assert!(event.created_at >= last, "time goes back");
            last = event.created_at;
            assert_eq!(event.pod_sandbox_status.expect("the pod").metadata.unwrap().name, "web");
        }
    }
}

#[tokio::test]
async fn an_event_shows_the_containers_as_they_then_were() {
    let mut sim = Sim::start();
    let mut events = sim.pods.get_container_events(GetEventsRequest {}).await.unwrap().into_inner();
    let (_, main) = sim.pod(&[]).await;
    sim.pods.remove_container(RemoveContainerRequest { container_id: main }).await.unwrap();
    let mut states = Vec::new();
    for _ in 0..6 {
        let event = next(&mut events).await;
        states.push(event.containers_statuses.iter().map(ContainerStatus::state).collect::<Vec<_>>());
    }
    let expected: [&[ContainerState]; 6] =
        [&[], &[], &[ContainerCreated], &[ContainerRunning], &[ContainerExited], &[]];
    assert_eq!(states, expected);
}

#[tokio::test]
async fn a_subscriber_that_never_reads_harms_nobody() {
    let mut sim = Sim::start();
    let _deaf = sim.pods.get_container_events(GetEventsRequest {}).await.unwrap();
    let (sandbox, _) = sim.pod(&[]).await;
    for n in 0..600 {
        let id = sim.create(&sandbox, container(&format!("c{n}"))).await.unwrap();
        sim.pods.remove_container(RemoveContainerRequest { container_id: id }).await.unwrap();
    }
    let mut events = sim.pods.get_container_events(GetEventsRequest {}).await.unwrap().into_inner();
    let last = sim.create(&sandbox, container("last")).await.unwrap();
    assert_eq!(next(&mut events).await.container_id, last);
}

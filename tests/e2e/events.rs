//! `GetContainerEvents`: a stream for as long as the kubelet lives, on containerd 1.7; unknown to 1.6.

use crihook::cri::v1::ContainerEventType::{
    ContainerCreatedEvent, ContainerDeletedEvent, ContainerStartedEvent, ContainerStoppedEvent,
};
use crihook::cri::v1::{ContainerEventResponse, GetEventsRequest, RemoveContainerRequest, StopContainerRequest};
use tonic::{Code, Streaming};

use crate::node::{Node, Series};
use crate::pod::{POLITE, Pod};
use crate::proxy::Crihook;
use crate::wait::PATIENCE;

#[tokio::test]
async fn events_arrive_in_order_on_containerd_1_7() {
    let node = Node::start(Series::V1_7).await;
    let crihook = Crihook::start(&node).await;
    let mut client = crihook.client().await;

    // The answer's headers come with the first event, and only then one knows that containerd is listening.
    let mut subscriber = client.clone();
    let subscription = tokio::spawn(async move { subscriber.runtime.get_container_events(GetEventsRequest {}).await });
    let mut attempt = 0;
    while !subscription.is_finished() {
        attempt += 1;
        assert!(attempt < 20, "no event of {attempt} pods");
        Pod::run(&mut client, &node, &format!("first-{attempt}")).await.remove(&mut client).await;
    }
    let mut events = subscription.await.unwrap().expect("GetContainerEvents").into_inner();

    let pod = Pod::run(&mut client, &node, "watched").await;
    let container_id = pod.start(&mut client, "main", POLITE).await;
    let stop = StopContainerRequest { container_id: container_id.clone(), timeout: 30 };
    client.runtime.stop_container(stop).await.unwrap();
    let remove = RemoveContainerRequest { container_id: container_id.clone() };
    client.runtime.remove_container(remove).await.unwrap();

    let seen = until_deleted(&mut events, &container_id).await;
    let kinds: Vec<_> = seen.iter().map(ContainerEventResponse::container_event_type).collect();
    assert_eq!(kinds, [ContainerCreatedEvent, ContainerStartedEvent, ContainerStoppedEvent, ContainerDeletedEvent]);
    assert_eq!(seen[0].pod_sandbox_status.as_ref().unwrap().id, pod.id);

    drop(events);
    pod.remove(&mut client).await;
    crihook.stop();
}

/// The events of one container, up to the one that says that it is gone.
async fn until_deleted(events: &mut Streaming<ContainerEventResponse>, container: &str) -> Vec<ContainerEventResponse> {
    let mut seen = Vec::new();
    loop {
        let event = tokio::time::timeout(PATIENCE, events.message()).await;
        let event = event.unwrap_or_else(|_| panic!("no more events after {seen:?}"));
        let event = event.expect("the stream").expect("more events");
        if event.container_id == container {
            let last = event.container_event_type() == ContainerDeletedEvent;
            seen.push(event);
            if last {
                return seen;
            }
        }
    }
}

#[tokio::test]
async fn events_are_unimplemented_on_containerd_1_6_in_its_own_words() {
    let node = Node::start(Series::V1_6).await;
    let crihook = Crihook::start(&node).await;
    let mut answers = Vec::new();
    for mut client in [node.direct().await, crihook.client().await] {
        answers.push(client.runtime.get_container_events(GetEventsRequest {}).await.unwrap_err());
    }
    assert_eq!(answers[0].code(), Code::Unimplemented);
    crate::errors::assert_same(&answers[0], &answers[1]);
    crihook.stop();
}

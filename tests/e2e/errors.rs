//! The runtime's errors arrive in its own words: the kubelet decides by their codes and even by how a message begins.

use crihook::cri::v1::{
    ContainerStatsRequest, ImageSpec, PodSandboxStatusRequest, PullImageRequest, StartContainerRequest,
};
use tonic::{Code, Status};

use crate::client::Client;
use crate::node::{Node, Series};
use crate::pod::{self, Pod};
use crate::proxy::Crihook;

#[tokio::test]
async fn errors_are_those_of_containerd_1_6() {
    errors_are_those_of_containerd(Series::V1_6).await;
}

#[tokio::test]
async fn errors_are_those_of_containerd_1_7() {
    errors_are_those_of_containerd(Series::V1_7).await;
}

async fn errors_are_those_of_containerd(series: Series) {
    let node = Node::start(series).await;
    let crihook = Crihook::start(&node).await;
    let mut direct = node.direct().await;
    let pod = Pod::run(&mut direct, &node, "here").await;
    pod.create(&mut direct, "twin", "true").await.unwrap();
    let expected = errors(&mut direct, &pod).await;
    let seen = errors(&mut crihook.client().await, &pod).await;
    assert_eq!(expected.iter().filter(|error| error.code() == Code::NotFound).count(), 5, "{expected:?}");
    assert!(expected.iter().any(|error| error.code() == Code::Unimplemented), "{expected:?}");
    for (expected, seen) in expected.iter().zip(&seen) {
        assert_same(expected, seen);
    }
    pod.remove(&mut direct).await;
    crihook.stop();
}

/// What becomes of calls that must fail.
async fn errors(client: &mut Client, pod: &Pod) -> Vec<Status> {
    let absent = || "0123456789".to_owned();
    let unnamed = Some(ImageSpec { image: "NOT a name".to_owned(), ..Default::default() });
    let pull = PullImageRequest { image: unnamed, ..Default::default() };
    let invented = client.call::<_, PullImageRequest>("/runtime.v1.RuntimeService/Invented", ());
    vec![
        invented.await.unwrap_err(),
        pod::status(client, &absent()).await.unwrap_err(),
        pod::exec(client, &absent(), "true").await.unwrap_err(),
        client.runtime.start_container(StartContainerRequest { container_id: absent() }).await.unwrap_err(),
        client.runtime.container_stats(ContainerStatsRequest { container_id: absent() }).await.unwrap_err(),
        client
            .runtime
            .pod_sandbox_status(PodSandboxStatusRequest { pod_sandbox_id: absent(), verbose: false })
            .await
            .unwrap_err(),
        client.images.pull_image(pull).await.unwrap_err(),
        pod.create(client, "twin", "true").await.unwrap_err(),
    ]
}

/// Code, message, details and whatever else the trailers hold.
pub fn assert_same(expected: &Status, seen: &Status) {
    let parts = |status: &Status| (status.code(), status.message().to_owned(), status.details().to_vec());
    assert_eq!(parts(expected), parts(seen));
    assert_eq!(expected.metadata().as_ref(), seen.metadata().as_ref());
}

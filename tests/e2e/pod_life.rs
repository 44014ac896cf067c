//! The whole life of a pod with two containers, as the kubelet leads it.

use std::fs;
use std::path::Path;

use crihook::cri::v1::{
    ContainerFilter, ContainerState, ContainerStatsRequest, ImageFsInfoRequest, ImageSpec, ImageStatusRequest,
    LinuxContainerResources, ListContainerStatsRequest, ListContainersRequest, ListPodSandboxRequest,
    PodSandboxStatsRequest, RemoveContainerRequest, UpdateContainerResourcesRequest, VersionRequest,
};
use tonic::Code;

use crate::client::Client;
use crate::image::BUSYBOX;
use crate::node::{Node, Series};
use crate::pod::{self, DEAF, POLITE, Pod};
use crate::proxy::Crihook;
use crate::wait::until;

#[tokio::test]
async fn a_pod_lives_its_whole_life_on_containerd_1_6() {
    a_pod_lives_its_whole_life(Series::V1_6).await;
}

#[tokio::test]
async fn a_pod_lives_its_whole_life_on_containerd_1_7() {
    a_pod_lives_its_whole_life(Series::V1_7).await;
}

async fn a_pod_lives_its_whole_life(series: Series) {
    let node = Node::start(series).await;
    let crihook = Crihook::start(&node).await;
    let mut client = crihook.client().await;

    let version = client.runtime.version(VersionRequest::default()).await.unwrap().into_inner();
    assert_eq!(version.runtime_name, "containerd");
    assert!(version.runtime_version.starts_with(&format!("{series}.")), "{version:?}");
    the_image_is_known(&mut client).await;

    let pod = Pod::run(&mut client, &node, "web").await;
    let address = pod.address(&mut client).await;
    assert!(address.starts_with("198.18."), "an address of this node's network: {address:?}");

    let polite = pod.create(&mut client, "polite", POLITE).await.unwrap();
    assert_eq!(state(&mut client, &polite).await, ContainerState::ContainerCreated);
    pod::start(&mut client, &polite).await;
    let deaf = pod.start(&mut client, "deaf", DEAF).await;
    assert_eq!(state(&mut client, &polite).await, ContainerState::ContainerRunning);
    assert_eq!(containers(&mut client, &pod).await.len(), 2);

    exec_sync_tells_output_and_exit_code(&mut client, &polite).await;
    statistics_are_those_of_the_pod(&mut client, &pod, &polite).await;
    a_new_limit_reaches_the_cgroup(&mut client, &node, &polite).await;

    pod::stop(&mut client, &polite, 30).await;
    let status = pod::status(&mut client, &polite).await.unwrap();
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 7), "it was let go in peace");
    pod::stop(&mut client, &deaf, 1).await;
    let status = pod::status(&mut client, &deaf).await.unwrap();
    assert_eq!(
        (status.state(), status.exit_code),
        (ContainerState::ContainerExited, 137),
        "it was killed after its grace"
    );
    let line = |stream: &str, text: &str| (stream.to_owned(), text.to_owned());
    until("the whole log", async || {
        let log = pod.log("polite");
        let stdout: Vec<_> = log.iter().filter(|(stream, _)| stream == "stdout").cloned().collect();
        let whole = stdout == [line("stdout", "ready"), line("stdout", "bye")];
        if whole && log.contains(&line("stderr", "complaint")) { Ok(()) } else { Err(log) }
    })
    .await;

    for container in [polite, deaf] {
        client.runtime.remove_container(RemoveContainerRequest { container_id: container.clone() }).await.unwrap();
        assert_eq!(pod::status(&mut client, &container).await.unwrap_err().code(), Code::NotFound);
    }
    pod.remove(&mut client).await;
    let pods = client.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap().into_inner();
    assert_eq!(pods.items, []);
    crihook.stop();
}

async fn the_image_is_known(client: &mut Client) {
    let image = Some(ImageSpec { image: BUSYBOX.to_owned(), ..Default::default() });
    let request = ImageStatusRequest { image, verbose: false };
    let image = client.images.image_status(request).await.unwrap().into_inner().image.expect("the image");
    assert_eq!(image.repo_tags, [BUSYBOX]);
    let info = client.images.image_fs_info(ImageFsInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.image_filesystems.len(), 1, "{info:?}");
}

async fn exec_sync_tells_output_and_exit_code(client: &mut Client, container: &str) {
    let answer = pod::exec(client, container, "hostname; echo oops >&2; exit 42").await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
    assert_eq!((&*stdout, &*stderr, answer.exit_code), ("web\n", "oops\n", 42));
}

async fn statistics_are_those_of_the_pod(client: &mut Client, pod: &Pod, container: &str) {
    let request = ContainerStatsRequest { container_id: container.to_owned() };
    let stats = client.runtime.container_stats(request).await.unwrap().into_inner().stats.unwrap();
    assert_eq!(stats.attributes.unwrap().id, container);
    assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
    let list = client.runtime.list_container_stats(ListContainerStatsRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.stats.len(), 2);
    let request = PodSandboxStatsRequest { pod_sandbox_id: pod.id.clone() };
    let stats = client.runtime.pod_sandbox_stats(request).await.unwrap().into_inner().stats.unwrap();
    assert_eq!(stats.linux.unwrap().containers.len(), 2);
}

async fn a_new_limit_reaches_the_cgroup(client: &mut Client, node: &Node, container: &str) {
    assert_eq!(memory_limit(node, container), 64 << 20);
    let resources = LinuxContainerResources { memory_limit_in_bytes: 96 << 20, ..Default::default() };
    let request = UpdateContainerResourcesRequest {
        container_id: container.to_owned(),
        linux: Some(resources),
        ..Default::default()
    };
    client.runtime.update_container_resources(request).await.unwrap();
    assert_eq!(memory_limit(node, container), 96 << 20);
}

/// In bytes, as the kernel has it: cgroup v1 or v2.
fn memory_limit(node: &Node, container: &str) -> u64 {
    let root = Path::new("/sys/fs/cgroup");
    let (v1, v2) = (root.join("memory").join(node.cgroup()), root.join(node.cgroup()));
    let (v1, v2) = (v1.join(container).join("memory.limit_in_bytes"), v2.join(container).join("memory.max"));
    let limit = fs::read_to_string(&v1).or_else(|_| fs::read_to_string(&v2));
    limit.unwrap_or_else(|error| panic!("{} or {}: {error}", v1.display(), v2.display())).trim().parse().unwrap()
}

async fn containers(client: &mut Client, pod: &Pod) -> Vec<String> {
    let filter = Some(ContainerFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() });
    let list = client.runtime.list_containers(ListContainersRequest { filter }).await.unwrap().into_inner();
    list.containers.into_iter().map(|container| container.id).collect()
}

async fn state(client: &mut Client, container: &str) -> ContainerState {
    pod::status(client, container).await.unwrap().state()
}

//! A pod as the kubelet makes one, step by step.

use std::fs;
use std::path::PathBuf;

use crihook::cri::v1::{
    ContainerConfig, ContainerMetadata, ContainerStatus, ContainerStatusRequest, CreateContainerRequest,
    ExecSyncRequest, ExecSyncResponse, ImageSpec, LinuxContainerConfig, LinuxContainerResources, LinuxPodSandboxConfig,
    PodSandboxConfig, PodSandboxMetadata, PodSandboxStatusRequest, RemovePodSandboxRequest, RunPodSandboxRequest,
    StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
};
use tonic::Status;

use crate::client::Client;
use crate::image::BUSYBOX;
use crate::node::Node;

/// Says that it is there and ends well when it is told to.
pub const POLITE: &str = "echo ready; echo complaint >&2; trap 'echo bye; exit 7' TERM; sleep 1000000 & wait";
/// Ignores SIGTERM.
pub const DEAF: &str = "trap '' TERM; exec sleep 1000000";

/// A sandbox that runs.
pub struct Pod {
    pub id: String,
    config: PodSandboxConfig,
}

impl Pod {
    /// Runs a sandbox named `name`; its logs and cgroups are the node's.
    pub async fn run(client: &mut Client, node: &Node, name: &str) -> Self {
        Self::run_with(client, node, name, |_| ()).await.expect("RunPodSandbox")
    }

    /// [`Self::run`] with what `edit` makes of the pod.
    pub async fn run_with(
        client: &mut Client,
        node: &Node,
        name: &str,
        edit: impl FnOnce(&mut PodSandboxConfig),
    ) -> Result<Self, Status> {
        let mut config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: node.path().join("logs").join(name).display().to_string(),
            labels: [("app".to_owned(), name.to_owned())].into(),
            linux: Some(LinuxPodSandboxConfig { cgroup_parent: format!("/{}", node.cgroup()), security_context: None }),
            ..Default::default()
        };
        edit(&mut config);
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let answer = client.runtime.run_pod_sandbox(request).await?;
        Ok(Self { id: answer.into_inner().pod_sandbox_id, config })
    }

    /// The pod's address, from its status.
    pub async fn address(&self, client: &mut Client) -> String {
        let request = PodSandboxStatusRequest { pod_sandbox_id: self.id.clone(), verbose: false };
        let answer = client.runtime.pod_sandbox_status(request).await.expect("PodSandboxStatus");
        answer.into_inner().status.unwrap().network.unwrap().ip
    }

    /// Creates a container of busybox that runs `script`, without starting it, and returns its id.
    pub async fn create(&self, client: &mut Client, name: &str, script: &str) -> Result<String, Status> {
        self.create_with(client, name, script, |_| ()).await
    }

    /// [`Self::create`] with what `edit` makes of the container.
    pub async fn create_with(
        &self,
        client: &mut Client,
        name: &str,
        script: &str,
        edit: impl FnOnce(&mut ContainerConfig),
    ) -> Result<String, Status> {
        let mut config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: BUSYBOX.to_owned(), ..Default::default() }),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            labels: [("container".to_owned(), name.to_owned())].into(),
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources { memory_limit_in_bytes: 64 << 20, ..Default::default() }),
            }),
            ..Default::default()
        };
        edit(&mut config);
        let request = CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(config),
            sandbox_config: Some(self.config.clone()),
        };
        client.runtime.create_container(request).await.map(|answer| answer.into_inner().container_id)
    }

    /// [`Self::create`], then starts it.
    pub async fn start(&self, client: &mut Client, name: &str, script: &str) -> String {
        let container = self.create(client, name, script).await.expect("CreateContainer");
        start(client, &container).await;
        container
    }

    /// The lines that the container `name` has written so far, each as its stream and its text.
    pub fn log(&self, name: &str) -> Vec<(String, String)> {
        let path = PathBuf::from(&self.config.log_directory).join(format!("{name}.log"));
        let lines = fs::read_to_string(path).unwrap_or_default();
        // Time, stream, `F` for a full line, text.
        let fields = lines.lines().map(|line| line.splitn(4, ' ').collect::<Vec<_>>());
        fields.map(|fields| (fields[1].to_owned(), fields[3].to_owned())).collect()
    }

    /// Stops and removes the sandbox with all that is in it.
    pub async fn remove(self, client: &mut Client) {
        let id = self.id;
        let stop = StopPodSandboxRequest { pod_sandbox_id: id.clone() };
        client.runtime.stop_pod_sandbox(stop).await.expect("StopPodSandbox");
        client
            .runtime
            .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id })
            .await
            .expect("RemovePodSandbox");
    }
}

pub async fn start(client: &mut Client, container: &str) {
    let request = StartContainerRequest { container_id: container.to_owned() };
    client.runtime.start_container(request).await.expect("StartContainer");
}

/// Stops it with a grace of `timeout` seconds.
pub async fn stop(client: &mut Client, container: &str, timeout: i64) {
    let request = StopContainerRequest { container_id: container.to_owned(), timeout };
    client.runtime.stop_container(request).await.expect("StopContainer");
}

pub async fn status(client: &mut Client, container: &str) -> Result<ContainerStatus, Status> {
    let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: false };
    client.runtime.container_status(request).await.map(|answer| answer.into_inner().status.unwrap())
}

/// Runs `script` in the container with the shell, without a time limit.
pub async fn exec(client: &mut Client, container: &str, script: &str) -> Result<ExecSyncResponse, Status> {
    let cmd = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let request = ExecSyncRequest { container_id: container.to_owned(), cmd, timeout: 0 };
    client.runtime.exec_sync(request).await.map(tonic::Response::into_inner)
}

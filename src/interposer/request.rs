//! The eight requests, and what they say of pods and containers.

use prost::Message;

use crate::cri::v1::{
    CreateContainerRequest, PodSandboxConfig, RemoveContainerRequest, RemovePodSandboxRequest, RunPodSandboxRequest,
    StartContainerRequest, StopContainerRequest, StopPodSandboxRequest, UpdateContainerResourcesRequest,
};
use crate::lifecycle::{Call, Container, Pod};

/// A lifecycle call's request, decoded to be looked at.
pub(super) enum Request {
    RunPodSandbox(Box<RunPodSandboxRequest>),
    CreateContainer(Box<CreateContainerRequest>),
    StartContainer(StartContainerRequest),
    UpdateContainerResources(Box<UpdateContainerResourcesRequest>),
    StopContainer(StopContainerRequest),
    RemoveContainer(RemoveContainerRequest),
    StopPodSandbox(StopPodSandboxRequest),
    RemovePodSandbox(RemovePodSandboxRequest),
}

impl Request {
    /// `None` if the bytes are no such message.
    pub fn decode(kind: Call, bytes: &[u8]) -> Option<Self> {
        Some(match kind {
            Call::RunPodSandbox => Self::RunPodSandbox(Box::new(Message::decode(bytes).ok()?)),
            Call::CreateContainer => Self::CreateContainer(Box::new(Message::decode(bytes).ok()?)),
            Call::StartContainer => Self::StartContainer(Message::decode(bytes).ok()?),
            Call::UpdateContainerResources => Self::UpdateContainerResources(Box::new(Message::decode(bytes).ok()?)),
            Call::StopContainer => Self::StopContainer(Message::decode(bytes).ok()?),
            Call::RemoveContainer => Self::RemoveContainer(Message::decode(bytes).ok()?),
            Call::StopPodSandbox => Self::StopPodSandbox(Message::decode(bytes).ok()?),
            Call::RemovePodSandbox => Self::RemovePodSandbox(Message::decode(bytes).ok()?),
        })
    }

    /// The id that it names: a container's, a sandbox's, or none yet.
    pub fn id(&self) -> &str {
        match self {
            Self::RunPodSandbox(_) => "",
            Self::CreateContainer(request) => &request.pod_sandbox_id,
            Self::StartContainer(request) => &request.container_id,
            Self::UpdateContainerResources(request) => &request.container_id,
            Self::StopContainer(request) => &request.container_id,
            Self::RemoveContainer(request) => &request.container_id,
            Self::StopPodSandbox(request) => &request.pod_sandbox_id,
            Self::RemovePodSandbox(request) => &request.pod_sandbox_id,
        }
    }
}

/// The pod that is to have a sandbox; it has no id yet.
pub(super) fn new_pod(request: &RunPodSandboxRequest) -> Option<Pod> {
    pod(request.config.as_ref()?, String::new(), Some(request.runtime_handler.clone()))
}

/// The pod that a container is made in, as far as the request says: without the runtime handler.
pub(super) fn pod_of(request: &CreateContainerRequest) -> Option<Pod> {
    pod(request.sandbox_config.as_ref()?, request.pod_sandbox_id.clone(), None)
}

fn pod(config: &PodSandboxConfig, sandbox_id: String, runtime_handler: Option<String>) -> Option<Pod> {
    let metadata = config.metadata.as_ref()?;
    Some(Pod {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        attempt: metadata.attempt,
        sandbox_id,
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        runtime_handler,
    })
}

/// The container that is to be made; it has no id yet.
pub(super) fn container(request: &CreateContainerRequest) -> Option<Container> {
    let config = request.config.as_ref()?;
    let metadata = config.metadata.as_ref()?;
    Some(Container {
        id: String::new(),
        name: metadata.name.clone(),
        image: config.image.as_ref().map(|spec| spec.name_for_people().to_owned()).unwrap_or_default(),
        attempt: metadata.attempt,
        annotations: config.annotations.clone().into_iter().collect(),
    })
}

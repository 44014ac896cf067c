//! The eight requests.

use prost::Message;

use crate::cri::v1::{
    CreateContainerRequest, RemoveContainerRequest, RemovePodSandboxRequest, RunPodSandboxRequest,
    StartContainerRequest, StopContainerRequest, StopPodSandboxRequest, UpdateContainerResourcesRequest,
};
use crate::lifecycle::Call;

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

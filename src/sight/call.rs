//! What the calls say that are looked at.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::cri::Method;
use crate::cri::v1::{
    CreateContainerRequest, ExecSyncRequest, PullImageRequest, RemoveContainerRequest, RemovePodSandboxRequest,
    RunPodSandboxRequest, StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
};
use crate::identity;
use crate::lifecycle::{Container, Pod};

/// The methods that are looked at.
const METHODS: [&str; 9] = [
    "RunPodSandbox",
    "PullImage",
    "CreateContainer",
    "StartContainer",
    "ExecSync",
    "StopContainer",
    "RemoveContainer",
    "StopPodSandbox",
    "RemovePodSandbox",
];

/// Whether calls of this method tell something here.
#[must_use]
pub fn looks_at(method: Method) -> bool {
    METHODS.contains(&method.name())
}

/// A request, as far as it matters.
#[derive(Debug)]
pub(super) enum Request {
    RunPodSandbox(Pod),
    /// For the pod with this uid, if it says so.
    PullImage(Option<String>),
    CreateContainer(Pod, Container),
    StartContainer(String),
    /// In this container, without a limit of time: what probes have, hooks have not.
    ExecSync(String, Vec<String>),
    /// This container, with so much grace.
    StopContainer(String, Duration),
    RemoveContainer(String),
    StopPodSandbox(String),
    RemovePodSandbox(String),
}

impl Request {
    /// `None` if it does not matter, or cannot be read.
    pub fn decode(method: Method, message: &Bytes) -> Option<Self> {
        fn read<M: Message + Default>(message: &Bytes) -> Option<M> {
            M::decode(&**message).ok()
        }
        Some(match method.name() {
            "RunPodSandbox" => Self::RunPodSandbox(identity::new_pod(&read::<RunPodSandboxRequest>(message)?)?),
            "PullImage" => {
                let metadata = read::<PullImageRequest>(message)?.sandbox_config.and_then(|config| config.metadata);
                Self::PullImage(metadata.map(|metadata| metadata.uid))
            }
            "CreateContainer" => {
                let request: CreateContainerRequest = read(message)?;
                Self::CreateContainer(identity::pod_of(&request)?, identity::container(&request)?)
            }
            "StartContainer" => Self::StartContainer(read::<StartContainerRequest>(message)?.container_id),
            "ExecSync" => {
                let request: ExecSyncRequest = read(message)?;
                (request.timeout == 0).then_some(Self::ExecSync(request.container_id, request.cmd))?
            }
            "StopContainer" => {
                let request: StopContainerRequest = read(message)?;
                // In 32 bits: no sum with a time overflows.
                let seconds = request.timeout.clamp(0, u32::MAX.into()).unsigned_abs();
                Self::StopContainer(request.container_id, Duration::from_secs(seconds))
            }
            "RemoveContainer" => Self::RemoveContainer(read::<RemoveContainerRequest>(message)?.container_id),
            "StopPodSandbox" => Self::StopPodSandbox(read::<StopPodSandboxRequest>(message)?.pod_sandbox_id),
            "RemovePodSandbox" => Self::RemovePodSandbox(read::<RemovePodSandboxRequest>(message)?.pod_sandbox_id),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_that_is_looked_at_exists_and_is_understood() {
        let all: Vec<Method> = Method::all().filter(|method| looks_at(*method)).collect();
        assert_eq!(all.len(), METHODS.len());
        let exec = Method::all().find(|method| method.name() == "Exec").unwrap();
        assert!(!looks_at(exec), "kubectl exec is nobody's hook");
        for method in all {
            let empty = Request::decode(method, &Bytes::new());
            let needs_more = ["RunPodSandbox", "CreateContainer"].contains(&method.name());
            assert_eq!(empty.is_none(), needs_more, "{}: {empty:?}", method.name());
            assert!(Request::decode(method, &Bytes::from_static(b"\xff\xff")).is_none(), "{}", method.name());
        }
    }

    #[test]
    fn an_exec_with_a_limit_of_time_is_a_probe_and_a_grace_is_never_out_of_bounds() {
        let method = |name: &str| Method::all().find(|method| method.name() == name).unwrap();
        let exec = |timeout| ExecSyncRequest { container_id: "c".into(), cmd: vec!["ls".into()], timeout };
        let decoded = |timeout| Request::decode(method("ExecSync"), &exec(timeout).encode_to_vec().into());
        assert!(
            decoded(1).is_none()
                && matches!(decoded(0), Some(Request::ExecSync(id, cmd)) if id == "c" && cmd == ["ls"])
        );
        for (timeout, expected) in [(-1, 0), (30, 30), (i64::MAX, u64::from(u32::MAX))] {
            let stop = StopContainerRequest { container_id: "c".into(), timeout };
            let Some(Request::StopContainer(_, grace)) =
                Request::decode(method("StopContainer"), &stop.encode_to_vec().into())
            else {
                panic!("{timeout}")
            };
            assert_eq!(grace.as_secs(), expected);
        }
    }
}

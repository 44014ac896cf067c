//! What pods and containers are, in the runtime's words.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tonic::{Code, Request, Status};

use super::Runtime;
use crate::cri::v1::{
    self, ContainerFilter, ContainerState, ContainerStateValue, ContainerStatus, ContainerStatusRequest,
    ListContainersRequest, ListPodSandboxRequest, NamespaceMode, PodSandbox, PodSandboxState, PodSandboxStatus,
    PodSandboxStatusRequest, StopContainerRequest,
};
use crate::inventory::{self, Boxed, Exit, Member, State};
use crate::lifecycle::{Address, Container, Pod};

/// How long the runtime may take to say what it knows. A call of the kubelet's waits for it, and would wait for the same runtime anyway.
const LIMIT: Duration = Duration::from_secs(10);
/// What a stop may take beyond its grace, as the kubelet has it.
const STOP_LIMIT: Duration = Duration::from_mins(2);

/// A request that is given up after `limit`.
pub(super) fn within<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

fn told(what: &str, status: &Status) -> String {
    format!("{what}: {:?}: {}", status.code(), status.message())
}

impl Runtime {
    async fn sandbox_status(&self, sandbox: &str) -> Result<Option<PodSandboxStatus>, String> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.to_owned(), verbose: false };
        match self.client.clone().pod_sandbox_status(within(LIMIT, request)).await {
            Ok(answer) => Ok(answer.into_inner().status),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(told("PodSandboxStatus", &status)),
        }
    }

    async fn container_status(&self, container: &str) -> Result<Option<ContainerStatus>, String> {
        let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: false };
        match self.client.clone().container_status(within(LIMIT, request)).await {
            Ok(answer) => Ok(answer.into_inner().status),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(told("ContainerStatus", &status)),
        }
    }

    /// Where the sandbox can be reached now.
    pub(super) async fn address_of(&self, sandbox: &str) -> Result<Address, String> {
        let Some(status) = self.sandbox_status(sandbox).await? else { return Ok(Address::Nowhere) };
        let options = status.linux.and_then(|linux| linux.namespaces).and_then(|namespaces| namespaces.options);
        if options.is_some_and(|options| options.network() == NamespaceMode::Node) {
            return Ok(Address::Node);
        }
        let ip = status.network.map(|network| network.ip).unwrap_or_default();
        Ok(ip.parse().map_or(Address::Nowhere, Address::Pod))
    }

    async fn member(&self, id: &str) -> Result<Option<Member>, String> {
        let filter = Some(ContainerFilter { id: id.to_owned(), ..ContainerFilter::default() });
        let mut client = self.client.clone();
        // The list knows the sandbox; only the status knows the image by the name the user wrote.
        let (list, status) = tokio::join!(
            client.list_containers(within(LIMIT, ListContainersRequest { filter })),
            self.container_status(id),
        );
        let list = list.map_err(|status| told("ListContainers", &status))?.into_inner().containers;
        let [found] = <[_; 1]>::try_from(list).map_or([None], |[found]| [Some(found)]);
        let Some(found) = found else { return Ok(None) };
        let Some(status) = status? else { return Ok(None) };
        let image = status.image.unwrap_or_default().name_for_people().to_owned();
        let metadata = found.metadata.unwrap_or_default();
        let container = Container {
            id: found.id,
            name: metadata.name,
            image,
            attempt: metadata.attempt,
            annotations: found.annotations.into_iter().collect(),
        };
        Ok(Some(Member { container: Arc::new(container), sandbox_id: found.pod_sandbox_id }))
    }

    async fn pod(&self, sandbox: &str) -> Result<Option<Pod>, String> {
        let Some(status) = self.sandbox_status(sandbox).await? else { return Ok(None) };
        let metadata = status.metadata.unwrap_or_default();
        Ok(Some(Pod {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            attempt: metadata.attempt,
            sandbox_id: status.id,
            labels: status.labels.into_iter().collect(),
            annotations: status.annotations.into_iter().collect(),
            runtime_handler: Some(status.runtime_handler),
        }))
    }
}

impl inventory::Runtime for Runtime {
    fn container(&self, id: &str) -> Boxed<'_, Result<Option<Member>, String>> {
        let id = id.to_owned();
        Box::pin(async move { self.member(&id).await })
    }

    fn sandbox(&self, id: &str) -> Boxed<'_, Result<Option<Pod>, String>> {
        let id = id.to_owned();
        Box::pin(async move { self.pod(&id).await })
    }

    fn state(&self, container: &str) -> Boxed<'_, Result<Option<State>, String>> {
        let container = container.to_owned();
        Box::pin(async move {
            let status = self.container_status(&container).await?;
            Ok(status.map(|status| match status.state() {
                ContainerState::ContainerCreated => State::Created,
                ContainerState::ContainerRunning => State::Running,
                ContainerState::ContainerExited => State::Exited,
                ContainerState::ContainerUnknown => State::Unknown,
            }))
        })
    }

    fn exit(&self, container: &str) -> Boxed<'_, Result<Option<Exit>, String>> {
        let container = container.to_owned();
        Box::pin(async move {
            let status = self.container_status(&container).await?;
            let exited = status.filter(|status| status.state() == ContainerState::ContainerExited);
            Ok(exited.map(|status| {
                let since = Duration::from_nanos(u64::try_from(status.finished_at).unwrap_or(0));
                Exit { code: status.exit_code, at: SystemTime::UNIX_EPOCH + since }
            }))
        })
    }

    fn is_ready(&self, sandbox: &str) -> Boxed<'_, Result<Option<bool>, String>> {
        let sandbox = sandbox.to_owned();
        Box::pin(async move {
            let status = self.sandbox_status(&sandbox).await?;
            Ok(status.map(|status| status.state() == PodSandboxState::SandboxReady))
        })
    }

    fn find_sandbox(&self, pod_uid: &str, attempt: u32) -> Boxed<'_, Result<Option<(String, bool)>, String>> {
        let pod_uid = pod_uid.to_owned();
        Box::pin(async move {
            let request = within(LIMIT, ListPodSandboxRequest { filter: None });
            let answer = self.client.clone().list_pod_sandbox(request).await;
            let list = answer.map_err(|status| told("ListPodSandbox", &status))?.into_inner().items;
            let is_it = |sandbox: &PodSandbox| {
                let metadata = sandbox.metadata.as_ref();
                metadata.is_some_and(|metadata| metadata.uid == pod_uid && metadata.attempt == attempt)
            };
            let found = list.into_iter().find(is_it);
            Ok(found.map(|found| (found.id.clone(), found.state() == PodSandboxState::SandboxReady)))
        })
    }

    fn find_container(&self, sandbox: &str, name: &str, attempt: u32) -> Boxed<'_, Result<Option<String>, String>> {
        let filter = ContainerFilter { pod_sandbox_id: sandbox.to_owned(), ..ContainerFilter::default() };
        let name = name.to_owned();
        Box::pin(async move {
            let request = within(LIMIT, ListContainersRequest { filter: Some(filter) });
            let answer = self.client.clone().list_containers(request).await;
            let list = answer.map_err(|status| told("ListContainers", &status))?.into_inner().containers;
            let is_it = |container: &v1::Container| {
                let metadata = container.metadata.as_ref();
                metadata.is_some_and(|metadata| metadata.name == name && metadata.attempt == attempt)
            };
            Ok(list.into_iter().find(is_it).map(|found| found.id))
        })
    }

    fn running_in(&self, sandbox: &str) -> Boxed<'_, Result<Vec<String>, String>> {
        let state = Some(ContainerStateValue { state: ContainerState::ContainerRunning.into() });
        let filter = ContainerFilter { pod_sandbox_id: sandbox.to_owned(), state, ..ContainerFilter::default() };
        Box::pin(async move {
            let request = within(LIMIT, ListContainersRequest { filter: Some(filter) });
            let answer = self.client.clone().list_containers(request).await;
            let list = answer.map_err(|status| told("ListContainers", &status))?.into_inner().containers;
            Ok(list.into_iter().map(|container| container.id).collect())
        })
    }

    fn stop(&self, container: &str, grace: Duration) -> Boxed<'_, Result<(), String>> {
        let timeout = i64::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        let request = StopContainerRequest { container_id: container.to_owned(), timeout };
        Box::pin(async move {
            let stopped = self.client.clone().stop_container(within(grace + STOP_LIMIT, request)).await;
            stopped.map(drop).map_err(|status| told("StopContainer", &status))
        })
    }
}

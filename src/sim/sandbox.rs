//! Pod sandboxes: ready until they are stopped, their names taken until they are removed.

use std::net::Ipv4Addr;

use tonic::Status;

use super::state::{State, find, now, selects};
use crate::cri::v1::{
    ContainerEventType, LinuxPodSandboxStatus, Namespace, NamespaceMode, NamespaceOption, PodSandbox, PodSandboxConfig,
    PodSandboxFilter, PodSandboxMetadata, PodSandboxNetworkStatus, PodSandboxState, PodSandboxStatus,
};

const KIND: &str = "pod sandbox";

/// The runtime handlers that exist; the empty name is the default.
pub(super) const HANDLERS: [&str; 2] = ["", "runc"];

#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    pub id: String,
    pub config: PodSandboxConfig,
    pub metadata: PodSandboxMetadata,
    pub handler: String,
    pub ready: bool,
    pub created_at: i64,
    /// Empty on the host's network.
    pub ip: String,
    pub pid: u64,
}

impl Sandbox {
    fn namespaces(&self) -> Option<&NamespaceOption> {
        self.config.linux.as_ref()?.security_context.as_ref()?.namespace_options.as_ref()
    }

    pub fn state(&self) -> PodSandboxState {
        if self.ready { PodSandboxState::SandboxReady } else { PodSandboxState::SandboxNotready }
    }

    pub fn status(&self) -> PodSandboxStatus {
        let options = self.namespaces().cloned().unwrap_or_default();
        PodSandboxStatus {
            id: self.id.clone(),
            metadata: Some(self.metadata.clone()),
            state: self.state().into(),
            created_at: self.created_at,
            // A stopped sandbox has given its address back.
            network: Some(PodSandboxNetworkStatus {
                ip: if self.ready { self.ip.clone() } else { String::new() },
                additional_ips: Vec::new(),
            }),
            linux: Some(LinuxPodSandboxStatus { namespaces: Some(Namespace { options: Some(options) }) }),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: self.handler.clone(),
        }
    }

    pub fn listed(&self) -> PodSandbox {
        PodSandbox {
            id: self.id.clone(),
            metadata: Some(self.metadata.clone()),
            state: self.state().into(),
            created_at: self.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: self.handler.clone(),
        }
    }
}

impl State {
    pub fn run_sandbox(&mut self, config: Option<PodSandboxConfig>, handler: String) -> Result<String, Status> {
        let config = config.ok_or_else(|| Status::invalid_argument("no sandbox config was given"))?;
        let metadata =
            config.metadata.clone().ok_or_else(|| Status::invalid_argument("the sandbox config has no metadata"))?;
        if !HANDLERS.contains(&handler.as_str()) {
            return Err(Status::unknown(format!("no runtime handler {handler:?} is configured")));
        }
        let id = self.next_id();
        let PodSandboxMetadata { name, uid, namespace, attempt } = &metadata;
        self.reserve(format!("{name}_{namespace}_{uid}_{attempt}"), &id)?;
        let mut sandbox = Sandbox {
            id: id.clone(),
            config,
            metadata,
            handler,
            ready: true,
            created_at: now(),
            ip: String::new(),
            pid: 1000 + self.made(),
        };
        if sandbox.namespaces().is_none_or(|options| options.network() == NamespaceMode::Pod) {
            sandbox.ip = self.address();
        }
        self.sandboxes.insert(id.clone(), sandbox);
        self.announce(&id, &id, ContainerEventType::ContainerCreatedEvent);
        self.announce(&id, &id, ContainerEventType::ContainerStartedEvent);
        Ok(id)
    }

    /// The next address of the pods' network; its first one is the bridge's.
    fn address(&self) -> String {
        let host = u32::try_from(self.made() % 0xfffe).unwrap_or(0) + 1;
        Ipv4Addr::from(self.network.to_bits() | host).to_string()
    }

    pub fn sandbox(&self, id: &str) -> Result<&Sandbox, Status> {
        find(&self.sandboxes, KIND, id)
    }

    /// Kills what still runs in it. A sandbox that is gone or stopped stays as it is.
    pub fn stop_sandbox(&mut self, id: &str) -> Result<(), Status> {
        let Some(id) = existing(self.sandbox(id).map(|s| s.id.clone()))? else { return Ok(()) };
        for container in self.ids_in(&id) {
            self.kill(&container);
        }
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return Ok(()) };
        if std::mem::replace(&mut sandbox.ready, false) {
            self.announce(&id, &id, ContainerEventType::ContainerStoppedEvent);
        }
        Ok(())
    }

    /// Stops it if need be, and removes it with all its containers. One that is gone is gone.
    pub fn remove_sandbox(&mut self, id: &str) -> Result<(), Status> {
        let Some(id) = existing(self.sandbox(id).map(|s| s.id.clone()))? else { return Ok(()) };
        self.stop_sandbox(&id)?;
        for container in self.ids_in(&id) {
            self.remove_container(&container)?;
        }
        self.announce(&id, &id, ContainerEventType::ContainerDeletedEvent);
        self.sandboxes.remove(&id);
        self.release(&id);
        Ok(())
    }

    pub fn list_sandboxes(&self, filter: &PodSandboxFilter) -> Vec<PodSandbox> {
        let wanted = filter.state.map(|value| value.state());
        self.sandboxes
            .values()
            .filter(|s| self.matches_sandbox(&filter.id, s))
            .filter(|s| wanted.is_none_or(|state| s.state() == state))
            .filter(|s| selects(&filter.label_selector, &s.config.labels))
            .map(Sandbox::listed)
            .collect()
    }

    /// Whether a filter's id, empty or a prefix, means this sandbox.
    pub fn matches_sandbox(&self, id: &str, sandbox: &Sandbox) -> bool {
        id.is_empty() || self.sandbox(id).is_ok_and(|found| found.id == sandbox.id)
    }
}

/// What the idempotent calls need: the absent is no error, but an id that is empty or ambiguous is.
pub(super) fn existing<T>(found: Result<T, Status>) -> Result<Option<T>, Status> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

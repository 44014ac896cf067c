//! Containers: created, running, exited, removed; never back.

use std::collections::HashMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::sandbox::existing;
use super::state::{State, find, now, selects};
use crate::cri::v1::{
    self, ContainerConfig, ContainerEventType, ContainerFilter, ContainerMetadata, ContainerResources, ContainerState,
    ContainerStatus, ImageSpec, LinuxContainerResources,
};

/// Annotation: how long the container takes to exit after SIGTERM, such as `1500ms`. Without it, it exits at once.
pub const STOP_TAKES: &str = "sim.crihook.dev/stop-takes";
/// Annotation: the container exits by itself so long after its start. Without it, it runs until it is stopped.
pub const EXIT_AFTER: &str = "sim.crihook.dev/exit-after";
/// Annotation: the code with which it exits unless it is killed. Without it, 0.
pub const EXIT_CODE: &str = "sim.crihook.dev/exit-code";

const KIND: &str = "container";
/// What a shell reports of a process that SIGKILL ended.
const KILLED: i32 = 128 + 9;

#[derive(Debug, Clone)]
pub(super) struct Container {
    pub id: String,
    pub sandbox_id: String,
    pub config: ContainerConfig,
    pub metadata: ContainerMetadata,
    pub behaviour: Behaviour,
    pub image: ImageSpec,
    pub image_id: String,
    pub image_ref: String,
    pub log_path: String,
    pub state: ContainerState,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub pid: u64,
    /// SIGTERM was sent; a second one changes nothing.
    pub terminating: bool,
    /// Cancelled when the container exits.
    pub exited: CancellationToken,
}

/// What the annotations say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Behaviour {
    pub stop_takes: Duration,
    pub exit_after: Option<Duration>,
    pub exit_code: i32,
}

impl Behaviour {
    fn read(annotations: &HashMap<String, String>) -> Result<Self, Status> {
        let duration = |name: &str| {
            let parse = |text: &String| {
                humantime::parse_duration(text)
                    .map_err(|e| Status::invalid_argument(format!("annotation {name}: {text:?}: {e}")))
            };
            annotations.get(name).map(parse).transpose()
        };
        let code = annotations.get(EXIT_CODE).map_or(Ok(0), |text| {
            text.parse().map_err(|e| Status::invalid_argument(format!("annotation {EXIT_CODE}: {text:?}: {e}")))
        })?;
        Ok(Self {
            stop_takes: duration(STOP_TAKES)?.unwrap_or_default(),
            exit_after: duration(EXIT_AFTER)?,
            exit_code: code,
        })
    }
}

impl Container {
    fn resources(&self) -> Option<&LinuxContainerResources> {
        self.config.linux.as_ref()?.resources.as_ref()
    }

    /// Bytes; `None` without a limit.
    pub fn memory_limit(&self) -> Option<u64> {
        self.resources().and_then(|r| u64::try_from(r.memory_limit_in_bytes).ok()).filter(|&bytes| bytes > 0)
    }

    pub fn must_be_running(&self) -> Result<(), Status> {
        if self.state == ContainerState::ContainerRunning {
            return Ok(());
        }
        Err(Status::unknown(format!("container is in {} state", self.state.as_str_name())))
    }

    fn reason(&self) -> &'static str {
        match (self.state, self.exit_code) {
            (ContainerState::ContainerExited, 0) => "Completed",
            (ContainerState::ContainerExited, _) => "Error",
            _ => "",
        }
    }

    pub fn status(&self) -> ContainerStatus {
        ContainerStatus {
            id: self.id.clone(),
            metadata: Some(self.metadata.clone()),
            state: self.state.into(),
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            exit_code: self.exit_code,
            image: Some(self.image.clone()),
            image_ref: self.image_ref.clone(),
            reason: self.reason().to_owned(),
            message: String::new(),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            mounts: self.config.mounts.clone(),
            log_path: self.log_path.clone(),
            resources: self.resources().map(|linux| ContainerResources { linux: Some(linux.clone()) }),
            image_id: self.image_id.clone(),
        }
    }

    fn listed(&self) -> v1::Container {
        v1::Container {
            id: self.id.clone(),
            pod_sandbox_id: self.sandbox_id.clone(),
            metadata: Some(self.metadata.clone()),
            image: Some(self.image.clone()),
            image_ref: self.image_ref.clone(),
            state: self.state.into(),
            created_at: self.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            image_id: self.image_id.clone(),
        }
    }
}

impl State {
    pub fn create_container(&mut self, sandbox_id: &str, config: Option<ContainerConfig>) -> Result<String, Status> {
        let config = config.ok_or_else(|| Status::invalid_argument("no container config was given"))?;
        let metadata =
            config.metadata.clone().ok_or_else(|| Status::invalid_argument("the container config has no metadata"))?;
        let behaviour = Behaviour::read(&config.annotations)?;
        let sandbox = self.sandbox(sandbox_id)?.clone();
        if !sandbox.ready {
            return Err(Status::unknown(format!("pod sandbox {:?} is not ready", sandbox.id)));
        }
        let wanted = config.image.as_ref().map(|spec| spec.image.clone()).unwrap_or_default();
        let image = self
            .images
            .find(&wanted)
            .cloned()
            .ok_or_else(|| Status::not_found(format!("image {wanted:?} is not on this node: not found")))?;

        let id = self.next_id();
        let pod = &sandbox.metadata;
        let name = format!("{}_{}_{}_{}_{}", metadata.name, pod.name, pod.namespace, pod.uid, metadata.attempt);
        self.reserve(name, &id)?;
        let log_path = match (sandbox.config.log_directory.as_str(), config.log_path.as_str()) {
            ("", _) | (_, "") => String::new(),
            (directory, file) => format!("{directory}/{file}"),
        };
        let spec = ImageSpec {
            image: image.repo_tags.first().cloned().unwrap_or_else(|| image.id.clone()),
            ..config.image.clone().unwrap_or_default()
        };
        let container = Container {
            id: id.clone(),
            sandbox_id: sandbox.id.clone(),
            metadata,
            behaviour,
            image: spec,
            image_ref: image.repo_digests.first().cloned().unwrap_or_else(|| image.id.clone()),
            image_id: image.id,
            log_path,
            config,
            state: ContainerState::ContainerCreated,
            created_at: now(),
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            pid: 0,
            terminating: false,
            exited: CancellationToken::new(),
        };
        self.containers.insert(id.clone(), container);
        self.announce(&id, &sandbox.id, ContainerEventType::ContainerCreatedEvent);
        Ok(id)
    }

    pub fn container(&self, id: &str) -> Result<&Container, Status> {
        find(&self.containers, KIND, id)
    }

    /// `None` if there is no such container.
    pub fn existing_container(&self, id: &str) -> Result<Option<&Container>, Status> {
        existing(self.container(id))
    }

    /// Runs what was created; the container comes back for whoever has to see to its end.
    pub fn start_container(&mut self, id: &str) -> Result<Container, Status> {
        let found = self.container(id)?;
        if found.state != ContainerState::ContainerCreated {
            let state = found.state.as_str_name();
            return Err(Status::unknown(format!("container {:?} cannot be started: it is in {state}", found.id)));
        }
        let sandbox = self.sandbox(&found.sandbox_id)?;
        if !sandbox.ready {
            return Err(Status::unknown(format!("pod sandbox {:?} is not ready", sandbox.id)));
        }
        let (id, pid) = (found.id.clone(), 100_000 + self.made());
        let container = self.container_mut(&id)?;
        container.state = ContainerState::ContainerRunning;
        container.started_at = now();
        container.pid = pid;
        let container = container.clone();
        self.announce(&id, &container.sandbox_id, ContainerEventType::ContainerStartedEvent);
        Ok(container)
    }

    fn container_mut(&mut self, id: &str) -> Result<&mut Container, Status> {
        let id = self.container(id)?.id.clone();
        self.containers.get_mut(&id).ok_or_else(|| Status::internal("a container vanished under its lock"))
    }

    /// Marks that SIGTERM was sent. `None` if there is nothing to wait for; else the container, and whether this was
    /// the first signal.
    pub fn terminate(&mut self, id: &str) -> Result<Option<(Container, bool)>, Status> {
        if self.existing_container(id)?.is_none_or(|c| c.state != ContainerState::ContainerRunning) {
            return Ok(None);
        }
        let container = self.container_mut(id)?;
        let first = !std::mem::replace(&mut container.terminating, true);
        Ok(Some((container.clone(), first)))
    }

    /// Ends a running container by SIGKILL.
    pub fn kill(&mut self, id: &str) {
        self.exit(id, KILLED);
    }

    /// Ends a running container; does nothing to any other. `id` is whole.
    pub fn exit(&mut self, id: &str, code: i32) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.state != ContainerState::ContainerRunning {
            return;
        }
        container.state = ContainerState::ContainerExited;
        container.finished_at = now();
        container.exit_code = code;
        container.pid = 0;
        container.exited.cancel();
        let sandbox_id = container.sandbox_id.clone();
        self.announce(id, &sandbox_id, ContainerEventType::ContainerStoppedEvent);
    }

    /// Kills it if need be. One that is gone is gone.
    pub fn remove_container(&mut self, id: &str) -> Result<(), Status> {
        let Some(id) = self.existing_container(id)?.map(|c| c.id.clone()) else { return Ok(()) };
        self.kill(&id);
        if let Some(container) = self.containers.remove(&id) {
            self.release(&id);
            self.announce(&id, &container.sandbox_id, ContainerEventType::ContainerDeletedEvent);
        }
        Ok(())
    }

    /// What is zero or empty in `change` stays as it was, as runc has it.
    pub fn update_resources(&mut self, id: &str, change: Option<LinuxContainerResources>) -> Result<(), Status> {
        let container = self.container_mut(id)?;
        if container.state == ContainerState::ContainerExited {
            return Err(Status::unknown(format!("container {:?} has exited", container.id)));
        }
        let Some(change) = change else { return Ok(()) };
        let now = container.config.linux.get_or_insert_default().resources.get_or_insert_default();
        for (field, value) in [
            (&mut now.cpu_period, change.cpu_period),
            (&mut now.cpu_quota, change.cpu_quota),
            (&mut now.cpu_shares, change.cpu_shares),
            (&mut now.memory_limit_in_bytes, change.memory_limit_in_bytes),
            (&mut now.memory_swap_limit_in_bytes, change.memory_swap_limit_in_bytes),
            (&mut now.oom_score_adj, change.oom_score_adj),
        ] {
            if value != 0 {
                *field = value;
            }
        }
        for (field, value) in [(&mut now.cpuset_cpus, change.cpuset_cpus), (&mut now.cpuset_mems, change.cpuset_mems)] {
            if !value.is_empty() {
                *field = value;
            }
        }
        if !change.hugepage_limits.is_empty() {
            now.hugepage_limits = change.hugepage_limits;
        }
        now.unified.extend(change.unified);
        Ok(())
    }

    pub fn list_containers(&self, filter: &ContainerFilter) -> Vec<v1::Container> {
        let wanted = filter.state.map(|value| value.state());
        self.select_containers(&filter.id, &filter.pod_sandbox_id, &filter.label_selector)
            .filter(|c| wanted.is_none_or(|state| c.state == state))
            .map(Container::listed)
            .collect()
    }

    /// Those that an id, a sandbox's id (each empty, whole or a prefix) and labels select together.
    pub fn select_containers<'a>(
        &'a self,
        id: &str,
        sandbox_id: &str,
        labels: &'a HashMap<String, String>,
    ) -> impl Iterator<Item = &'a Container> {
        let one = (!id.is_empty()).then(|| self.container(id).map(|c| c.id.clone()).unwrap_or_default());
        let pod = (!sandbox_id.is_empty()).then(|| self.sandbox(sandbox_id).map(|s| s.id.clone()).unwrap_or_default());
        self.containers
            .values()
            .filter(move |c| one.as_ref().is_none_or(|id| *id == c.id))
            .filter(move |c| pod.as_ref().is_none_or(|id| *id == c.sandbox_id))
            .filter(|c| selects(labels, &c.config.labels))
    }

    pub fn ids_in(&self, sandbox_id: &str) -> Vec<String> {
        self.containers.values().filter(|c| c.sandbox_id == sandbox_id).map(|c| c.id.clone()).collect()
    }

    pub fn statuses_in(&self, sandbox_id: &str) -> Vec<ContainerStatus> {
        self.containers.values().filter(|c| c.sandbox_id == sandbox_id).map(Container::status).collect()
    }
}

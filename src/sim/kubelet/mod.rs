//! A scripted kubelet: the calls of one pod's life, in the order, with the deadlines and with the shapes that the
//! kubelet uses, over a unix socket.
//!
//! It promises that a script always makes the same calls, and that it checks what comes back: a state, an address, an
//! output or an event that is not what the kubelet would need is an error. Pods of others do not disturb it. It expects what [`super::Runtime`] does,
//! events and images among it. It starts nothing by itself: whoever drives it decides when a pod is run.

mod pod;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use super::MAX_MESSAGE;
use crate::cri::v1::image_service_client::ImageServiceClient;
use crate::cri::v1::runtime_service_client::RuntimeServiceClient;
#[allow(clippy::wildcard_imports, reason = "most messages of both services, by their own names")]
use crate::cri::v1::*;
use pod::{CONTAINERS, Member};

/// The kubelet's `runtimeRequestTimeout`, the deadline of most calls.
const SHORT: Duration = Duration::from_mins(2);
/// `RunPodSandbox` gets twice that.
const SANDBOX: Duration = Duration::from_mins(4);
/// How late an event may come.
const EVENT: Duration = Duration::from_secs(10);
/// The grace that is left for the containers, in seconds.
const GRACE: i64 = 30;
/// How often a running pod is looked at before it is taken away.
const TICKS: usize = 3;

/// Why a script could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The call failed.
    #[error("{method}: {:?}: {}", .status.code(), .status.message())]
    Call {
        /// The call, as the client's function is named.
        method: &'static str,
        /// What it got.
        status: Box<Status>,
    },
    /// The call was answered, but not as the kubelet needs it.
    #[error("{method}: {seen}")]
    Unexpected {
        /// The call, or the event.
        method: &'static str,
        /// What was wrong with it.
        seen: String,
    },
}

/// A kubelet that knows one pod.
pub struct Kubelet {
    pods: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    events: Option<Streaming<ContainerEventResponse>>,
    pace: Duration,
    narrate: Box<dyn Fn(&str) + Send + Sync>,
}

/// One call with a deadline, and the pause after it.
macro_rules! call {
    ($self:ident.$client:ident.$method:ident($message:expr)) => {
        call!($self.$client.$method($message), SHORT)
    };
    ($self:ident.$client:ident.$method:ident($message:expr), $deadline:expr) => {{
        let mut request = Request::new($message);
        request.set_timeout($deadline);
        let answer = $self.$client.$method(request).await.map_err(|status| failed(stringify!($method), status))?;
        sleep($self.pace).await;
        answer.into_inner()
    }};
}

fn failed(method: &'static str, status: Status) -> Failure {
    Failure::Call { method, status: Box::new(status) }
}

fn expect(method: &'static str, holds: bool, seen: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Unexpected { method, seen: seen() }) }
}

impl Kubelet {
    /// A kubelet of the runtime at this socket, which it dials at its first call. It rests for `pace` after every call.
    #[must_use]
    pub fn new(socket: &Path, pace: Duration) -> Self {
        let path = PathBuf::from(socket);
        let connect = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect);
        Self {
            pods: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
            events: None,
            pace,
            narrate: Box::new(|_| ()),
        }
    }

    /// Says in a few words what comes next, each time something new does.
    #[must_use]
    pub fn narrate(mut self, narrate: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.narrate = Box::new(narrate);
        self
    }

    /// What the kubelet does when it starts; the events are watched from here on.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn start(&mut self) -> Result<(), Failure> {
        (self.narrate)("the kubelet starts");
        let version = call!(self.pods.version(VersionRequest { version: "0.1.0".to_owned() }));
        expect("version", version.runtime_api_version == "v1", || format!("{version:?}"))?;
        call!(self.pods.runtime_config(RuntimeConfigRequest {}));
        let network_config = Some(NetworkConfig { pod_cidr: "10.244.0.0/16".to_owned() });
        let runtime_config = Some(RuntimeConfig { network_config });
        call!(self.pods.update_runtime_config(UpdateRuntimeConfigRequest { runtime_config }));
        self.node_status().await?;
        call!(self.images.image_fs_info(ImageFsInfoRequest {}));
        // It has no deadline: it is to last as long as the kubelet.
        let events = self.pods.get_container_events(GetEventsRequest {}).await;
        self.events = Some(events.map_err(|status| failed("get_container_events", status))?.into_inner());
        self.relist(0, 0).await
    }

    /// One pod from its sandbox to its removal. `round` is its number, and all that differs from one to the next.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run_pod(&mut self, round: u32) -> Result<(), Failure> {
        (self.narrate)("a pod arrives");
        let config = pod::sandbox(round);
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let sandbox = call!(self.pods.run_pod_sandbox(request), SANDBOX).pod_sandbox_id;
        self.sandbox_status(&sandbox).await?;

        let mut ids = Vec::new();
        for member in &CONTAINERS {
            (self.narrate)(&format!("its container {} starts", member.name));
            ids.push(self.start_container(&sandbox, &config, member).await?);
        }
        self.relist(1, ids.len()).await?;
        self.watch_over(&sandbox, &ids).await?;
        self.take_away(&sandbox, &ids).await?;
        self.collect_images().await?;
        self.check_events(&sandbox, &ids).await
    }

    /// The list of everything, every second: the kubelet's pod lifecycle event generator.
    async fn relist(&mut self, pods: usize, containers: usize) -> Result<(), Failure> {
        let all = call!(self.pods.list_pod_sandbox(ListPodSandboxRequest::default())).items;
        let seen = all.iter().filter(|item| pod::is_member(&item.labels)).count();
        expect("list_pod_sandbox", seen == pods, || format!("{seen} sandboxes instead of {pods}"))?;
        let all = call!(self.pods.list_containers(ListContainersRequest::default())).containers;
        let seen = all.iter().filter(|item| pod::is_member(&item.labels)).count();
        expect("list_containers", seen == containers, || format!("{seen} containers instead of {containers}"))
    }

    async fn node_status(&mut self) -> Result<(), Failure> {
        let conditions =
            call!(self.pods.status(StatusRequest { verbose: false })).status.unwrap_or_default().conditions;
        expect("status", conditions.iter().all(|c| c.status), || format!("{conditions:?}"))
    }

    async fn sandbox_status(&mut self, id: &str) -> Result<(), Failure> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let status = call!(self.pods.pod_sandbox_status(request)).status.unwrap_or_default();
        let ip = status.network.as_ref().map(|network| network.ip.as_str()).unwrap_or_default();
        expect("pod_sandbox_status", ip.starts_with("10.244."), || format!("the address {ip:?}"))
    }

    async fn container_status(&mut self, id: &str, state: ContainerState) -> Result<ContainerStatus, Failure> {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let status = call!(self.pods.container_status(request)).status.unwrap_or_default();
        expect("container_status", status.state() == state, || format!("{:?} instead of {state:?}", status.state()))?;
        Ok(status)
    }

    async fn start_container(
        &mut self,
        sandbox: &str,
        sandbox_config: &PodSandboxConfig,
        member: &Member,
    ) -> Result<String, Failure> {
        let spec = ImageSpec { image: member.image.to_owned(), ..ImageSpec::default() };
        let request = ImageStatusRequest { image: Some(spec.clone()), verbose: false };
        let present = call!(self.images.image_status(request.clone())).image;
        expect("image_status", present.is_none(), || "the image is here already".to_owned())?;
        let request = PullImageRequest { image: Some(spec.clone()), sandbox_config: Some(sandbox_config.clone()) };
        let image_id = self.pull(request).await?;
        let request = ImageStatusRequest { image: Some(spec), verbose: false };
        let present = call!(self.images.image_status(request)).image;
        expect("image_status", present.is_some(), || "the image was not pulled".to_owned())?;

        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(member.config(&image_id)),
            sandbox_config: Some(sandbox_config.clone()),
        };
        let id = call!(self.pods.create_container(request)).container_id;
        call!(self.pods.start_container(StartContainerRequest { container_id: id.clone() }));
        self.container_status(&id, ContainerState::ContainerRunning).await?;
        Ok(id)
    }

    /// Without a deadline: an image may be large.
    async fn pull(&mut self, request: PullImageRequest) -> Result<String, Failure> {
        let answer = self.images.pull_image(request).await.map_err(|status| failed("pull_image", status))?;
        sleep(self.pace).await;
        Ok(answer.into_inner().image_ref)
    }

    async fn exec(&mut self, id: &str, cmd: &[&str], limit: i64, output: &str) -> Result<(), Failure> {
        let cmd = cmd.iter().map(ToString::to_string).collect();
        let request = ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: limit };
        let deadline = SHORT + Duration::from_secs(u64::try_from(limit).unwrap_or(0));
        let answer = call!(self.pods.exec_sync(request), deadline);
        expect("exec_sync", answer.exit_code == 0 && answer.stdout == output.as_bytes(), || format!("{answer:?}"))
    }

    /// Probes, statistics and the node's status, as they go on while a pod runs.
    async fn watch_over(&mut self, sandbox: &str, ids: &[String]) -> Result<(), Failure> {
        (self.narrate)("the pod runs");
        for _ in 0..TICKS {
            self.exec(&ids[0], &["/bin/echo", "ready"], 1, "ready\n").await?;
            self.relist(1, ids.len()).await?;
        }
        self.node_status().await?;
        let stats = call!(self.pods.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default())).stats;
        let seen = stats.iter().filter_map(|s| s.attributes.as_ref()).filter(|a| a.id == sandbox).count();
        expect("list_pod_sandbox_stats", seen == 1, || format!("{seen} of the pod"))?;
        let stats = call!(self.pods.list_container_stats(ListContainerStatsRequest::default())).stats;
        let seen = stats.iter().filter_map(|s| s.attributes.as_ref()).filter(|a| ids.contains(&a.id)).count();
        expect("list_container_stats", seen == ids.len(), || format!("{seen} of the pod's containers"))?;
        call!(self.images.image_fs_info(ImageFsInfoRequest {}));
        call!(self.pods.pod_sandbox_stats(PodSandboxStatsRequest { pod_sandbox_id: sandbox.to_owned() }));
        call!(self.pods.container_stats(ContainerStatsRequest { container_id: ids[0].clone() }));

        (self.narrate)("the pod is resized in place, a log is rotated");
        let change = LinuxContainerResources { cpu_shares: 512, ..LinuxContainerResources::default() };
        let request = UpdateContainerResourcesRequest {
            container_id: ids[0].clone(),
            linux: Some(change),
            ..UpdateContainerResourcesRequest::default()
        };
        call!(self.pods.update_container_resources(request));
        let resized = self.container_status(&ids[0], ContainerState::ContainerRunning).await?;
        let shares = resized.resources.and_then(|resources| resources.linux).unwrap_or_default().cpu_shares;
        expect("container_status", shares == 512, || format!("{shares} CPU shares instead of 512"))?;
        call!(self.pods.reopen_container_log(ReopenContainerLogRequest { container_id: ids[0].clone() }));
        Ok(())
    }

    /// The containers' own preStop hooks, then all containers at once, then what is left of them.
    async fn take_away(&mut self, sandbox: &str, ids: &[String]) -> Result<(), Failure> {
        (self.narrate)("the pod is deleted");
        for (id, member) in ids.iter().zip(&CONTAINERS).filter(|(_, member)| !member.pre_stop.is_empty()) {
            self.exec(id, member.pre_stop, 0, "").await?;
        }
        let stops = ids.iter().map(|id| {
            let mut request = Request::new(StopContainerRequest { container_id: id.clone(), timeout: GRACE });
            request.set_timeout(SHORT + Duration::from_secs(GRACE.unsigned_abs()));
            let mut pods = self.pods.clone();
            async move { pods.stop_container(request).await }
        });
        for stopped in futures_util::future::join_all(stops).await {
            stopped.map_err(|status| failed("stop_container", status))?;
        }
        sleep(self.pace).await;
        self.relist(1, ids.len()).await?;
        let pod_sandbox_id = sandbox.to_owned();
        call!(self.pods.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() }));
        for id in ids {
            let status = self.container_status(id, ContainerState::ContainerExited).await?;
            expect("container_status", status.exit_code == 0, || format!("it exited with {}", status.exit_code))?;
            call!(self.pods.remove_container(RemoveContainerRequest { container_id: id.clone() }));
        }
        // The kubelet asks once more and lives on the answer that there is none.
        let gone = self.container_status(&ids[0], ContainerState::ContainerExited).await;
        let not_found = matches!(&gone, Err(Failure::Call { status, .. }) if status.code() == Code::NotFound);
        expect("container_status", not_found, || format!("{gone:?} instead of NotFound"))?;
        call!(self.pods.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }));
        self.relist(0, 0).await
    }

    async fn collect_images(&mut self) -> Result<(), Failure> {
        (self.narrate)("unused images are removed");
        call!(self.images.list_images(ListImagesRequest::default()));
        for member in &CONTAINERS {
            let image = Some(ImageSpec { image: member.image.to_owned(), ..ImageSpec::default() });
            call!(self.images.remove_image(RemoveImageRequest { image }));
        }
        Ok(())
    }

    /// What the events have told must be the pod's life: each id's own events in order, and the last one last.
    async fn check_events(&mut self, sandbox: &str, ids: &[String]) -> Result<(), Failure> {
        const METHOD: &str = "get_container_events";
        let Some(events) = &mut self.events else { return Ok(()) };
        let mut seen: Vec<(String, ContainerEventType)> = Vec::new();
        let expected = 4 * (ids.len() + 1);
        while seen.len() < expected {
            let event = timeout(EVENT, events.message()).await.ok().transpose();
            let event = event.map_err(|status| failed(METHOD, status))?.flatten();
            let Some(event) = event else { break };
            let what = event.container_event_type();
            if event.container_id == sandbox || ids.contains(&event.container_id) {
                seen.push((event.container_id, what));
            }
        }
        expect(METHOD, seen.len() == expected, || format!("{} events instead of {expected}", seen.len()))?;
        for id in ids.iter().map(String::as_str).chain([sandbox]) {
            let own: Vec<i32> = seen.iter().filter(|(of, _)| of == id).map(|&(_, what)| what.into()).collect();
            expect(METHOD, own == [0, 1, 2, 3], || format!("{id} had the events {own:?}"))?;
        }
        let last = seen.last().map(|(id, _)| id.as_str());
        expect(METHOD, last == Some(sandbox), || format!("the last event was of {last:?}"))
    }
}

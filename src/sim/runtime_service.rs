//! `runtime.v1.RuntimeService` over the state.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, stream};
use serde_json::json;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::runtime::Runtime;
use super::sandbox::HANDLERS;
use super::state::now;
use super::stats::{MOUNTPOINT, of_container};
use crate::cri::v1::runtime_service_server::RuntimeService;
#[allow(clippy::wildcard_imports, reason = "every message of the service, by its own name")]
use crate::cri::v1::*;

/// The answers about pods and containers.
pub(super) struct Pods {
    pub runtime: Runtime,
    /// Ends the streams of events.
    pub closing: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

#[allow(clippy::unnecessary_wraps, reason = "the end of every method below")]
fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

/// Seconds as CRI sends them; a negative number means zero.
fn seconds(timeout: i64) -> Duration {
    Duration::from_secs(u64::try_from(timeout).unwrap_or(0))
}

fn info(verbose: bool, name: &str, what: impl FnOnce() -> serde_json::Value) -> HashMap<String, String> {
    if verbose { HashMap::from([(name.to_owned(), what().to_string())]) } else { HashMap::new() }
}

fn condition(name: &str) -> RuntimeCondition {
    RuntimeCondition { r#type: name.to_owned(), status: true, ..RuntimeCondition::default() }
}

#[tonic::async_trait]
impl RuntimeService for Pods {
    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        answer(VersionResponse {
            // The version of the kubelet's runtime API, which has been this since the beginning.
            version: "0.1.0".to_owned(),
            runtime_name: "crihook-sim".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        })
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        let features = RuntimeHandlerFeatures::default();
        answer(StatusResponse {
            status: Some(RuntimeStatus { conditions: vec![condition("RuntimeReady"), condition("NetworkReady")] }),
            info: info(
                request.into_inner().verbose,
                "config",
                || json!({"runtime": "crihook-sim", "root": MOUNTPOINT, "podNetwork": self.runtime.state().network}),
            ),
            runtime_handlers: HANDLERS
                .map(|name| RuntimeHandler { name: name.to_owned(), features: Some(features) })
                .into(),
            features: Some(RuntimeFeatures::default()),
        })
    }

    async fn runtime_config(&self, _: Request<RuntimeConfigRequest>) -> Answer<RuntimeConfigResponse> {
        let linux = LinuxRuntimeConfiguration { cgroup_driver: CgroupDriver::Systemd.into() };
        answer(RuntimeConfigResponse { linux: Some(linux) })
    }

    async fn update_runtime_config(
        &self,
        request: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        let network = request.into_inner().runtime_config.and_then(|config| config.network_config);
        let cidr = network.unwrap_or_default().pod_cidr;
        if let Some(first) = cidr.split(',').next().and_then(|cidr| cidr.split_once('/')) {
            let address = first.0.parse();
            self.runtime.state().network =
                address.map_err(|e| Status::invalid_argument(format!("pod CIDR {cidr:?}: {e}")))?;
        }
        answer(UpdateRuntimeConfigResponse {})
    }

    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        let RunPodSandboxRequest { config, runtime_handler } = request.into_inner();
        let pod_sandbox_id = self.runtime.state().run_sandbox(config, runtime_handler)?;
        answer(RunPodSandboxResponse { pod_sandbox_id })
    }

    async fn stop_pod_sandbox(&self, request: Request<StopPodSandboxRequest>) -> Answer<StopPodSandboxResponse> {
        self.runtime.state().stop_sandbox(&request.into_inner().pod_sandbox_id)?;
        answer(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(&self, request: Request<RemovePodSandboxRequest>) -> Answer<RemovePodSandboxResponse> {
        self.runtime.state().remove_sandbox(&request.into_inner().pod_sandbox_id)?;
        answer(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(&self, request: Request<PodSandboxStatusRequest>) -> Answer<PodSandboxStatusResponse> {
        let PodSandboxStatusRequest { pod_sandbox_id, verbose } = request.into_inner();
        let state = self.runtime.state();
        let sandbox = state.sandbox(&pod_sandbox_id)?;
        answer(PodSandboxStatusResponse {
            status: Some(sandbox.status()),
            info: info(verbose, "info", || json!({"pid": sandbox.pid, "runtimeHandler": sandbox.handler})),
            containers_statuses: state.statuses_in(&sandbox.id),
            timestamp: now(),
        })
    }

    async fn list_pod_sandbox(&self, request: Request<ListPodSandboxRequest>) -> Answer<ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        answer(ListPodSandboxResponse { items: self.runtime.state().list_sandboxes(&filter) })
    }

    async fn create_container(&self, request: Request<CreateContainerRequest>) -> Answer<CreateContainerResponse> {
        let CreateContainerRequest { pod_sandbox_id, config, .. } = request.into_inner();
        let container_id = self.runtime.state().create_container(&pod_sandbox_id, config)?;
        answer(CreateContainerResponse { container_id })
    }

    async fn start_container(&self, request: Request<StartContainerRequest>) -> Answer<StartContainerResponse> {
        self.runtime.start(&request.into_inner().container_id)?;
        answer(StartContainerResponse {})
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        let StopContainerRequest { container_id, timeout } = request.into_inner();
        self.runtime.stop(&container_id, seconds(timeout)).await?;
        answer(StopContainerResponse {})
    }

    async fn remove_container(&self, request: Request<RemoveContainerRequest>) -> Answer<RemoveContainerResponse> {
        self.runtime.state().remove_container(&request.into_inner().container_id)?;
        answer(RemoveContainerResponse {})
    }

    async fn list_containers(&self, request: Request<ListContainersRequest>) -> Answer<ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        answer(ListContainersResponse { containers: self.runtime.state().list_containers(&filter) })
    }

    async fn container_status(&self, request: Request<ContainerStatusRequest>) -> Answer<ContainerStatusResponse> {
        let ContainerStatusRequest { container_id, verbose } = request.into_inner();
        let state = self.runtime.state();
        let container = state.container(&container_id)?;
        answer(ContainerStatusResponse {
            status: Some(container.status()),
            info: info(verbose, "info", || {
                let arguments: Vec<_> = container.config.command.iter().chain(&container.config.args).collect();
                json!({"pid": container.pid, "sandboxID": container.sandbox_id, "args": arguments})
            }),
        })
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        let UpdateContainerResourcesRequest { container_id, linux, .. } = request.into_inner();
        self.runtime.state().update_resources(&container_id, linux)?;
        answer(UpdateContainerResourcesResponse {})
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        self.runtime.state().container(&request.into_inner().container_id)?.must_be_running()?;
        answer(ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let ExecSyncRequest { container_id, cmd, timeout } = request.into_inner();
        answer(self.runtime.exec(&container_id, &cmd, seconds(timeout)).await?)
    }

    async fn container_stats(&self, request: Request<ContainerStatsRequest>) -> Answer<ContainerStatsResponse> {
        let stats = of_container(self.runtime.state().container(&request.into_inner().container_id)?);
        answer(ContainerStatsResponse { stats: Some(stats) })
    }

    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        answer(ListContainerStatsResponse { stats: self.runtime.state().list_container_stats(&filter) })
    }

    async fn pod_sandbox_stats(&self, request: Request<PodSandboxStatsRequest>) -> Answer<PodSandboxStatsResponse> {
        let state = self.runtime.state();
        let sandbox = state.sandbox(&request.into_inner().pod_sandbox_id)?;
        answer(PodSandboxStatsResponse { stats: Some(state.stats_of_sandbox(sandbox)) })
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        answer(ListPodSandboxStatsResponse { stats: self.runtime.state().list_sandbox_stats(&filter) })
    }

    type GetContainerEventsStream = Pin<Box<dyn Stream<Item = Result<ContainerEventResponse, Status>> + Send>>;

    /// Tells what happens from now on; a subscriber that is too far behind misses the oldest.
    async fn get_container_events(&self, _: Request<GetEventsRequest>) -> Answer<Self::GetContainerEventsStream> {
        let events = self.runtime.state().events.subscribe();
        let closing = self.closing.clone();
        let stream = stream::unfold((events, closing), async |(mut events, closing)| {
            loop {
                let received = tokio::select! {
                    received = events.recv() => received,
                    () = closing.cancelled() => return None,
                };
                match received {
                    Ok(event) => return Some((Ok(event), (events, closing))),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        answer(Box::pin(stream))
    }
}

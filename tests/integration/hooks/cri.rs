//! The kubelet's calls, with its deadlines and in its shapes.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use crihook::cri::v1::image_service_client::ImageServiceClient;
use crihook::cri::v1::runtime_service_client::RuntimeServiceClient;
use crihook::cri::v1::*;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// The image of every container here, by the name that a user writes.
pub const IMAGE: &str = "registry.example/payments/web:2.7.1";
/// The kubelet's `runtimeRequestTimeout`.
const SHORT: Duration = Duration::from_mins(2);

/// A client on a connection of its own; its clones share it.
#[derive(Clone)]
pub struct Cri {
    channel: Channel,
    trace: Trace,
}

/// Gives each call the `traceparent`, if there is one.
#[derive(Clone, Default)]
struct Trace(Option<AsciiMetadataValue>);

impl Interceptor for Trace {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(parent) = &self.0 {
            request.metadata_mut().insert("traceparent", parent.clone());
        }
        Ok(request)
    }
}

type Traced = InterceptedService<Channel, Trace>;

fn within<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

impl Cri {
    /// Of the socket at `path`, dialled when it is first used.
    pub fn at(path: &Path) -> Self {
        let path = path.to_owned();
        let connect = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect);
        Self { channel, trace: Trace::default() }
    }

    /// The same client, in the middle of a trace.
    pub fn traced(&self, parent: &str) -> Self {
        Self { trace: Trace(Some(parent.parse().expect("a header's value"))), ..self.clone() }
    }

    /// A call that is dropped is reset.
    fn pods(&self) -> RuntimeServiceClient<Traced> {
        RuntimeServiceClient::with_interceptor(self.channel.clone(), self.trace.clone())
    }

    fn images(&self) -> ImageServiceClient<Traced> {
        ImageServiceClient::with_interceptor(self.channel.clone(), self.trace.clone())
    }

    pub async fn version(&self) -> Result<VersionResponse, Status> {
        let request = VersionRequest { version: String::new() };
        Ok(self.pods().version(within(SHORT, request)).await?.into_inner())
    }

    pub async fn pull(&self) {
        let image = ImageSpec { image: IMAGE.into(), ..ImageSpec::default() };
        let request = PullImageRequest { image: Some(image), sandbox_config: None };
        self.images().pull_image(request).await.expect("pulled");
    }

    pub async fn remove_image(&self) {
        let image = ImageSpec { image: IMAGE.into(), ..ImageSpec::default() };
        self.images().remove_image(RemoveImageRequest { image: Some(image) }).await.expect("removed");
    }

    /// For a pod, as the kubelet says it.
    pub async fn pull_for(&self, pod: &PodSandboxConfig, image: &str) -> Result<(), Status> {
        let image = ImageSpec { image: image.into(), ..ImageSpec::default() };
        let request = PullImageRequest { image: Some(image), sandbox_config: Some(pod.clone()) };
        self.images().pull_image(request).await.map(drop)
    }

    /// `timeout` in seconds; zero is no limit.
    pub async fn exec(&self, id: &str, command: &[&str], timeout: i64) -> Result<ExecSyncResponse, Status> {
        let cmd = command.iter().map(ToString::to_string).collect();
        let request = ExecSyncRequest { container_id: id.into(), cmd, timeout };
        Ok(self.pods().exec_sync(request).await?.into_inner())
    }

    pub async fn run_pod(&self, config: &PodSandboxConfig) -> Result<String, Status> {
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        Ok(self.pods().run_pod_sandbox(within(2 * SHORT, request)).await?.into_inner().pod_sandbox_id)
    }

    pub async fn create(
        &self,
        sandbox: &str,
        config: &ContainerConfig,
        pod: &PodSandboxConfig,
    ) -> Result<String, Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config.clone()),
            sandbox_config: Some(pod.clone()),
        };
        Ok(self.pods().create_container(within(SHORT, request)).await?.into_inner().container_id)
    }

    pub async fn start(&self, id: &str) -> Result<(), Status> {
        self.start_within(id, SHORT).await
    }

    pub async fn start_within(&self, id: &str, limit: Duration) -> Result<(), Status> {
        let request = StartContainerRequest { container_id: id.into() };
        self.pods().start_container(within(limit, request)).await.map(drop)
    }

    pub async fn update(&self, id: &str, cpu_shares: i64) -> Result<(), Status> {
        let linux = LinuxContainerResources { cpu_shares, ..LinuxContainerResources::default() };
        let request = UpdateContainerResourcesRequest {
            container_id: id.into(),
            linux: Some(linux),
            ..UpdateContainerResourcesRequest::default()
        };
        self.pods().update_container_resources(within(SHORT, request)).await.map(drop)
    }

    /// `timeout` in seconds, as CRI has it.
    pub async fn stop(&self, id: &str, timeout: i64) -> Result<(), Status> {
        let limit = SHORT + Duration::from_secs(timeout.unsigned_abs());
        self.stop_within(id, timeout, limit).await
    }

    pub async fn stop_within(&self, id: &str, timeout: i64, limit: Duration) -> Result<(), Status> {
        let request = StopContainerRequest { container_id: id.into(), timeout };
        self.pods().stop_container(within(limit, request)).await.map(drop)
    }

    pub async fn remove(&self, id: &str) -> Result<(), Status> {
        let request = RemoveContainerRequest { container_id: id.into() };
        self.pods().remove_container(within(SHORT, request)).await.map(drop)
    }

    pub async fn stop_pod(&self, sandbox: &str) -> Result<(), Status> {
        let request = StopPodSandboxRequest { pod_sandbox_id: sandbox.into() };
        self.pods().stop_pod_sandbox(within(SHORT, request)).await.map(drop)
    }

    pub async fn remove_pod(&self, sandbox: &str) -> Result<(), Status> {
        let request = RemovePodSandboxRequest { pod_sandbox_id: sandbox.into() };
        self.pods().remove_pod_sandbox(within(SHORT, request)).await.map(drop)
    }

    pub async fn status(&self, id: &str) -> Result<ContainerStatus, Status> {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
        let answer = self.pods().container_status(within(SHORT, request)).await?.into_inner();
        Ok(answer.status.expect("a status"))
    }

    /// The state of a container that is there.
    pub async fn state(&self, id: &str) -> ContainerState {
        self.status(id).await.expect("a container").state()
    }

    /// The sandboxes of the pod with this uid, ready or not.
    pub async fn sandboxes(&self, uid: &str) -> Result<Vec<PodSandbox>, Status> {
        let label_selector = map(&[("io.kubernetes.pod.uid", uid)]);
        let filter = Some(PodSandboxFilter { label_selector, ..PodSandboxFilter::default() });
        let request = ListPodSandboxRequest { filter };
        Ok(self.pods().list_pod_sandbox(within(SHORT, request)).await?.into_inner().items)
    }

    /// The containers of a sandbox, in whatever state.
    pub async fn containers(&self, sandbox: &str) -> Result<Vec<Container>, Status> {
        let filter = Some(ContainerFilter { pod_sandbox_id: sandbox.into(), ..ContainerFilter::default() });
        let request = ListContainersRequest { filter };
        Ok(self.pods().list_containers(within(SHORT, request)).await?.into_inner().containers)
    }

    /// What happens from now on.
    pub async fn events(&self) -> Result<Streaming<ContainerEventResponse>, Status> {
        Ok(self.pods().get_container_events(GetEventsRequest {}).await?.into_inner())
    }

    /// Pods made from now on have addresses of this network, such as `127.88.0.0/16`.
    pub async fn network(&self, cidr: &str) {
        let network_config = Some(NetworkConfig { pod_cidr: cidr.into() });
        let request = UpdateRuntimeConfigRequest { runtime_config: Some(RuntimeConfig { network_config }) };
        self.pods().update_runtime_config(request).await.expect("a network");
    }

    /// The address of a sandbox.
    pub async fn ip(&self, sandbox: &str) -> String {
        let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.into(), verbose: false };
        let answer = self.pods().pod_sandbox_status(request).await.expect("a sandbox").into_inner();
        answer.status.and_then(|status| status.network).expect("an address").ip
    }
}

/// Pairs as a map.
pub fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect()
}

/// A pod of the namespace `payments`.
pub fn pod(name: &str) -> PodSandboxConfig {
    let uid = format!("uid-of-{name}");
    let labels = map(&[
        ("app", name),
        ("io.kubernetes.pod.name", name),
        ("io.kubernetes.pod.namespace", "payments"),
        ("io.kubernetes.pod.uid", &uid),
    ]);
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata { name: name.into(), uid, namespace: "payments".into(), attempt: 0 }),
        hostname: name.into(),
        log_directory: format!("/var/log/pods/{name}"),
        labels,
        ..PodSandboxConfig::default()
    }
}

/// As `pod`, in another namespace.
pub fn pod_in(namespace: &str, name: &str) -> PodSandboxConfig {
    let mut config = pod(name);
    config.metadata.get_or_insert_default().namespace = namespace.into();
    config.labels.insert("io.kubernetes.pod.namespace".into(), namespace.into());
    config
}

/// A container with these annotations.
pub fn container(name: &str, annotations: &[(&str, &str)]) -> ContainerConfig {
    let image = ImageSpec { image: IMAGE.into(), user_specified_image: IMAGE.into(), ..ImageSpec::default() };
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(image),
        labels: map(&[("io.kubernetes.container.name", name)]),
        annotations: map(annotations),
        log_path: format!("{name}/0.log"),
        ..ContainerConfig::default()
    }
}

//! Calls of every method that the embedded runtime answers, as fast as a client can make them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use crihook::cri::framed;
use crihook::cri::v1::image_service_client::ImageServiceClient;
use crihook::cri::v1::runtime_service_client::RuntimeServiceClient;
#[allow(clippy::wildcard_imports, reason = "most messages of both services, by their own names")]
use crihook::cri::v1::*;
use crihook::sim::kubelet::Kubelet;
use h2::client::SendRequest;
use http::Request;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tonic::transport::Endpoint;

/// A call that can be made again and again.
pub struct Question {
    path: String,
    body: Bytes,
}

impl Question {
    fn of(service: &str, method: &str, message: &impl Message) -> Self {
        let path = format!("http://localhost/runtime.v1.{service}/{method}");
        Self { path, body: framed(&message.encode_to_vec()) }
    }

    /// The smallest.
    pub fn version() -> Self {
        Self::of("RuntimeService", "Version", &VersionRequest::default())
    }
}

/// A connection, as the kubelet has one.
pub struct Caller(SendRequest<Bytes>);

impl Caller {
    pub async fn connect(socket: &Path) -> Result<Self> {
        let (requests, connection) = h2::client::handshake(UnixStream::connect(socket).await?).await?;
        // Its failure surfaces in the calls it carried.
        tokio::spawn(connection);
        Ok(Self(requests))
    }

    /// Fails unless the call succeeds.
    pub async fn call(&self, question: &Question) -> Result<()> {
        let request = Request::post(&question.path)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let (response, mut body) = self.0.clone().ready().await?.send_request(request, false)?;
        body.send_data(question.body.clone(), true)?;
        let (head, mut body) = response.await?.into_parts();
        while let Some(piece) = body.data().await {
            body.flow_control().release_capacity(piece?.len())?;
        }
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        let (status, message) = (trailers.get("grpc-status"), trailers.get("grpc-message"));
        ensure!(status.is_some_and(|status| status == "0"), "{}: {status:?}, {message:?}", question.path);
        Ok(())
    }
}

/// Whole lives of pods, one after another, with everything that changes something.
pub async fn pods(socket: &Path, count: u32) -> Result<()> {
    let mut kubelet = Kubelet::new(socket, Duration::ZERO);
    kubelet.start().await?;
    for round in 0..count {
        kubelet.run_pod(round).await?;
    }
    Ok(())
}

/// Everything that can be asked again and again, about a container that runs.
pub async fn questions(socket: &Path) -> Result<Vec<Question>> {
    let path = socket.to_owned();
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connect).await?;
    let (mut pods, mut images) = (RuntimeServiceClient::new(channel.clone()), ImageServiceClient::new(channel));
    let image = Some(ImageSpec { image: "busybox".into(), ..ImageSpec::default() });
    let pull = PullImageRequest { image: image.clone(), sandbox_config: None };
    images.pull_image(pull.clone()).await?;
    // Each crihook has a pod of its own.
    let uid = socket.display().to_string();
    let metadata = PodSandboxMetadata { name: "asked".into(), uid, namespace: "bench".into(), attempt: 0 };
    let config = Some(PodSandboxConfig { metadata: Some(metadata), ..PodSandboxConfig::default() });
    let request = RunPodSandboxRequest { config, runtime_handler: String::new() };
    let pod_sandbox_id = pods.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "main".into(), attempt: 0 }),
        image: image.clone(),
        ..ContainerConfig::default()
    };
    let request =
        CreateContainerRequest { pod_sandbox_id: pod_sandbox_id.clone(), config: Some(config), sandbox_config: None };
    let container_id = pods.create_container(request).await?.into_inner().container_id;
    pods.start_container(StartContainerRequest { container_id: container_id.clone() }).await.context("started")?;

    let cmd = vec!["/bin/true".to_owned()];
    let update = UpdateContainerResourcesRequest {
        container_id: container_id.clone(),
        linux: Some(LinuxContainerResources { cpu_shares: 512, ..LinuxContainerResources::default() }),
        ..UpdateContainerResourcesRequest::default()
    };
    let of_pod = PodSandboxStatusRequest { pod_sandbox_id: pod_sandbox_id.clone(), verbose: false };
    let of_container = ContainerStatusRequest { container_id: container_id.clone(), verbose: false };
    let (runtime, image_service) = ("RuntimeService", "ImageService");
    Ok(vec![
        Question::version(),
        Question::of(runtime, "Status", &StatusRequest::default()),
        Question::of(runtime, "RuntimeConfig", &RuntimeConfigRequest {}),
        Question::of(runtime, "UpdateRuntimeConfig", &UpdateRuntimeConfigRequest::default()),
        Question::of(runtime, "ListPodSandbox", &ListPodSandboxRequest::default()),
        Question::of(runtime, "PodSandboxStatus", &of_pod),
        Question::of(runtime, "ListContainers", &ListContainersRequest::default()),
        Question::of(runtime, "ContainerStatus", &of_container),
        Question::of(runtime, "UpdateContainerResources", &update),
        Question::of(runtime, "ReopenContainerLog", &ReopenContainerLogRequest { container_id: container_id.clone() }),
        Question::of(runtime, "ExecSync", &ExecSyncRequest { container_id: container_id.clone(), cmd, timeout: 1 }),
        Question::of(runtime, "ContainerStats", &ContainerStatsRequest { container_id }),
        Question::of(runtime, "ListContainerStats", &ListContainerStatsRequest::default()),
        Question::of(runtime, "PodSandboxStats", &PodSandboxStatsRequest { pod_sandbox_id }),
        Question::of(runtime, "ListPodSandboxStats", &ListPodSandboxStatsRequest::default()),
        Question::of(image_service, "ListImages", &ListImagesRequest::default()),
        Question::of(image_service, "ImageStatus", &ImageStatusRequest { image, verbose: false }),
        Question::of(image_service, "PullImage", &pull),
        Question::of(image_service, "ImageFsInfo", &ImageFsInfoRequest {}),
    ])
}

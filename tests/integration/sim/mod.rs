//! The embedded runtime as a CRI client sees it, straight over its socket.

mod events;
mod images;
mod life;
mod lists;
mod refusals;
mod script;
mod waits;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crihook::cri::v1::image_service_client::ImageServiceClient;
use crihook::cri::v1::runtime_service_client::RuntimeServiceClient;
use crihook::cri::v1::*;
use crihook::sim::{MAX_MESSAGE, Options, Runtime, serve};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

/// Far beyond what anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// A runtime of the test's own, and clients of it.
struct Sim {
    runtime: Runtime,
    pods: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    shutdown: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    directory: TempDir,
}

impl Sim {
    fn start() -> Self {
        Self::with(&Options::default())
    }

    fn with(options: &Options) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("sim.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let runtime = Runtime::new(options);
        let (shutdown, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(runtime.clone(), listener, async { drop(stopped.await) }));
        let channel = dial(&path);
        Self {
            runtime,
            pods: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
            shutdown,
            serving,
            directory,
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("sim.sock")
    }

    async fn pull(&mut self, name: &str) -> String {
        let request = PullImageRequest { image: Some(spec(name)), sandbox_config: None };
        self.images.pull_image(request).await.expect("pulled").into_inner().image_ref
    }

    async fn sandbox(&mut self, config: PodSandboxConfig) -> String {
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        self.pods.run_pod_sandbox(request).await.expect("a sandbox").into_inner().pod_sandbox_id
    }

    async fn create(&mut self, sandbox: &str, config: ContainerConfig) -> Result<String, tonic::Status> {
        let request =
            CreateContainerRequest { pod_sandbox_id: sandbox.into(), config: Some(config), sandbox_config: None };
        Ok(self.pods.create_container(request).await?.into_inner().container_id)
    }

    async fn run(&mut self, sandbox: &str, config: ContainerConfig) -> String {
        let id = self.create(sandbox, config).await.expect("a container");
        self.pods.start_container(StartContainerRequest { container_id: id.clone() }).await.expect("started");
        id
    }

    /// A sandbox `web`, its image, and the running container `main` in it.
    async fn pod(&mut self, annotations: &[(&str, &str)]) -> (String, String) {
        self.pull("busybox").await;
        let sandbox = self.sandbox(pod("web")).await;
        let container = self.run(&sandbox, annotated("main", annotations)).await;
        (sandbox, container)
    }

    async fn status(&mut self, id: &str) -> Result<ContainerStatus, tonic::Status> {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
        Ok(self.pods.container_status(request).await?.into_inner().status.expect("a status"))
    }

    async fn exec(&mut self, id: &str, cmd: &[&str], timeout: i64) -> Result<ExecSyncResponse, tonic::Status> {
        let cmd = cmd.iter().map(ToString::to_string).collect();
        let request = ExecSyncRequest { container_id: id.into(), cmd, timeout };
        self.pods.exec_sync(request).await.map(tonic::Response::into_inner)
    }

    async fn stop(&mut self, id: &str, timeout: i64) -> Result<(), tonic::Status> {
        self.pods.stop_container(StopContainerRequest { container_id: id.into(), timeout }).await.map(drop)
    }
}

fn dial(path: &Path) -> Channel {
    let path = PathBuf::from(path);
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect)
}

fn spec(image: &str) -> ImageSpec {
    ImageSpec { image: image.into(), ..ImageSpec::default() }
}

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect()
}

fn pod(name: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-of-{name}"),
            namespace: "default".into(),
            attempt: 0,
        }),
        log_directory: format!("/var/log/pods/{name}"),
        labels: map(&[("app", name)]),
        ..PodSandboxConfig::default()
    }
}

fn container(name: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(spec("busybox")),
        labels: map(&[("container", name)]),
        log_path: format!("{name}/0.log"),
        ..ContainerConfig::default()
    }
}

fn annotated(name: &str, annotations: &[(&str, &str)]) -> ContainerConfig {
    ContainerConfig { annotations: map(annotations), ..container(name) }
}

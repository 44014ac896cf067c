//! `crihook explain` as people run it: a process, its output, its exit code.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crihook::cri::v1::image_service_client::ImageServiceClient;
use crihook::cri::v1::runtime_service_client::RuntimeServiceClient;
use crihook::cri::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, PodSandboxConfig, PodSandboxMetadata,
    PullImageRequest, RunPodSandboxRequest, StartContainerRequest,
};
use crihook::sim::{Options, Runtime, serve};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::Endpoint;

const POLICIES: &str = "
apiVersion: crihook.dev/v1
kind: HookPolicy
metadata: {name: drain-web}
spec:
  match: {namespaces: [payments], podSelector: {matchLabels: {app: web}}, containers: ['!proxy']}
  hooks:
  - {name: drain, on: PreStop, exec: {command: [/bin/drain]}, timeout: 4s, retries: {attempts: 2, backoff: 1s}}
  - {name: settle, on: PreStop, sleep: {seconds: 1}}
---
apiVersion: crihook.dev/v1
kind: HookPolicy
metadata: {name: kata-only}
spec:
  match: {runtimeHandlers: [kata]}
  hooks:
  - {name: nap, on: PostStart, sleep: {seconds: 1}}
";

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: payments, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 20
  containers: [{name: main, image: busybox}, {name: proxy, image: busybox}]
";

/// Policies and nothing else of the machine's configuration.
struct Place(TempDir);

impl Place {
    fn with(policies: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("hooks.d")).unwrap();
        std::fs::write(directory.path().join("hooks.d/a.yaml"), policies).unwrap();
        std::fs::write(directory.path().join("config.yaml"), "").unwrap();
        Self(directory)
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("runtime.sock")
    }

    /// Explains, with this on its standard input.
    fn explain(&self, arguments: &[&str], input: &str) -> Output {
        let path = |name: &str| self.0.path().join(name);
        let mut child = Command::new(env!("CARGO_BIN_EXE_crihook"))
            .arg("explain")
            .args(arguments)
            .arg("--config")
            .arg(path("config.yaml"))
            .arg("--hooks-dir")
            .arg(path("hooks.d"))
            .arg("--runtime-endpoint")
            .arg(self.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It need not read it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What went wrong, if it did in this way.
fn refused(output: &Output, code: i32) -> String {
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    told
}

#[test]
fn a_manifest_is_explained_with_the_hooks_in_order_and_why_others_do_not_match() {
    let output = Place::with(POLICIES).explain(&["--pod", "-"], POD);
    let page = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let at = |words: &str| page.find(words).unwrap_or_else(|| panic!("no {words:?}:\n{page}"));
    assert!(at("container main (busybox)") < at("drain-web/drain"));
    assert!(at("PreStopContainer: 20s in all, the pod's grace period") < at("drain-web/drain"));
    assert!(at("drain-web/drain") < at("drain-web/settle") && at("drain-web/settle") < at("container proxy"));
    assert!(at("what does not match") < at("  drain-web ("), "{page}");
    assert!(page.contains("proxy: containers: `proxy` is excluded by !proxy"), "{page}");
    assert!(page.contains("runtimeHandlers: "), "{page}");
}

#[test]
fn the_same_is_there_for_programs() {
    let output = Place::with(POLICIES).explain(&["--pod", "-", "--point", "PreStop", "-o", "json"], POD);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let pod = &document["pods"][0];
    assert_eq!((&document["policies"], &pod["namespace"]), (&2.into(), &"payments".into()));
    let at = &pod["subjects"][0]["points"][0];
    assert_eq!((&at["point"], &at["budget"]["seconds"]), (&"PreStopContainer".into(), &20.0.into()));
    let hooks: Vec<_> = at["hooks"].as_array().unwrap().iter().map(|hook| hook["hook"].as_str().unwrap()).collect();
    assert_eq!(hooks, ["drain", "settle"]);
    assert_eq!((&at["hooks"][0]["attempts"], &at["hooks"][0]["atMostSeconds"]), (&2.into(), &9.0.into()));
    assert_eq!(pod["unmatched"][0]["container"], "proxy", "only what has hooks at the point is told:\n{document}");
    assert_eq!(pod["unmatched"].as_array().unwrap().len(), 1);
}

#[test]
fn wrong_policies_are_told_with_their_place_and_explain_nothing() {
    let place = Place::with("apiVersion: crihook.dev/v1\nkind: HookPolicy\nmetadata: {name: a}\nspec:\n  hoks: []\n");
    let told = refused(&place.explain(&["--pod", "-"], POD), 2);
    assert!(told.contains("a.yaml:5:3: ") && told.contains("^^^^"), "{told}");
}

#[test]
fn a_wrong_manifest_is_told_with_its_place() {
    let place = Place::with(POLICIES);
    let told = refused(&place.explain(&["--pod", "-"], "kind: Pod\nspec:\n  containers: 1\n"), 2);
    assert!(told.starts_with("crihook: standard input:3:15: "), "{told}");
    let told = refused(&place.explain(&["--pod", "-"], "kind: Service\n"), 2);
    assert!(told.contains("no pod in it, only: Service"), "{told}");
    let told = refused(&place.explain(&["--pod", "/no/such/pod.yaml"], ""), 2);
    assert!(told.starts_with("crihook: /no/such/pod.yaml: cannot read the manifest"), "{told}");
}

/// A running container of the pod `web` in `payments`, with a grace period of 7 s.
async fn start_container(socket: &Path) -> String {
    let path = socket.to_owned();
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect);
    let (mut pods, mut images) = (RuntimeServiceClient::new(channel.clone()), ImageServiceClient::new(channel));

    let image = Some(ImageSpec { image: "busybox".to_owned(), ..ImageSpec::default() });
    images.pull_image(PullImageRequest { image: image.clone(), sandbox_config: None }).await.unwrap();
    let config = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "web".to_owned(),
            namespace: "payments".to_owned(),
            ..PodSandboxMetadata::default()
        }),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        ..PodSandboxConfig::default()
    };
    let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
    let sandbox = pods.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
        image,
        annotations: [("io.kubernetes.pod.terminationGracePeriod".to_owned(), "7".to_owned())].into(),
        ..ContainerConfig::default()
    };
    let request = CreateContainerRequest { pod_sandbox_id: sandbox, config: Some(config), sandbox_config: None };
    let container_id = pods.create_container(request).await.unwrap().into_inner().container_id;
    pods.start_container(StartContainerRequest { container_id: container_id.clone() }).await.unwrap();
    container_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_container_is_explained_by_what_the_runtime_knows() {
    let place = Place::with(POLICIES);
    let listener = UnixListener::bind(place.socket()).unwrap();
    let serving = tokio::spawn(serve(Runtime::new(&Options::default()), listener, std::future::pending()));
    let id = start_container(&place.socket()).await;

    tokio::task::block_in_place(|| {
        let output = place.explain(&["--container", &id], "");
        let page = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(page.starts_with("pod payments/web\n"), "{page}");
        assert!(page.contains(&format!("container main {} (", &id[..13])), "{page}");
        assert!(page.contains("PreStopContainer: 7s in all"), "{page}");
        assert!(page.contains("drain-web/drain"), "{page}");

        let told = refused(&place.explain(&["--container", "nobody"], ""), 1);
        assert!(told.contains("has no container whose id is, or alone begins with, `nobody`"), "{told}");
        refused(&place.explain(&["--container", ""], ""), 1);
    });
    serving.abort();
}

#[test]
fn without_a_runtime_a_container_cannot_be_explained() {
    let told = refused(&Place::with(POLICIES).explain(&["--container", "abc"], ""), 1);
    assert!(told.contains("cannot say what `abc` is") && told.contains("No such file"), "{told}");
}

//! A node: a directory, the embedded runtime, and a crihook in front of it.

use std::path::{Path, PathBuf};

use crihook::cri::v1::{ContainerConfig, PodSandboxConfig, StopContainerRequest};
use crihook::sim::{Heard, Options, Runtime, serve};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::{Cri, HookServer, Reply, container, pod, until};
use crate::wire::peer::exposition::{Exposition, get};
use crate::wire::peer::{Crihook, process};

/// A directory with everything of a node in it. It outlives what runs there.
pub struct Place {
    dir: TempDir,
}

/// A running container.
#[derive(Debug, Clone)]
pub struct Running {
    pub sandbox: String,
    pub id: String,
}

/// What runs at a place.
pub struct Node {
    /// The runtime itself: what it was asked, and what it is to refuse.
    pub runtime: Runtime,
    /// Through crihook.
    pub cri: Cri,
    pub crihook: Crihook,
    flags: process::Flags,
    dir: PathBuf,
    serving: JoinSet<()>,
}

impl Place {
    pub fn new() -> Self {
        // Short, since a unix address holds 108 bytes.
        let dir = tempfile::Builder::new().prefix("crihook-").tempdir_in("/tmp").expect("/tmp takes a directory");
        std::fs::create_dir(dir.path().join("hooks.d")).expect("a directory of policies");
        Self { dir }
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of policies, in place of the one of that name, at once.
    pub fn write(&self, file: &str, text: &str) {
        // A hidden file is no policy.
        let draft = self.path("hooks.d").join(format!(".{file}"));
        std::fs::write(&draft, text).expect("the directory takes a file");
        std::fs::rename(&draft, self.path("hooks.d").join(file)).expect("the directory takes a file");
    }

    /// Takes a file of policies away.
    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.path("hooks.d").join(file)).expect("it was there");
    }

    /// A server of hooks on a unix socket of this name.
    pub fn server(
        &self,
        name: &str,
        script: impl Fn(&super::server::Delivered) -> Reply + Send + Sync + 'static,
    ) -> HookServer {
        HookServer::unix(&self.path(name), script)
    }

    /// A server that answers all with this.
    pub fn answering(&self, name: &str, reply: Reply) -> HookServer {
        self.server(name, move |_| reply.clone())
    }

    /// Starts the node.
    pub async fn start(&self) -> Node {
        self.start_with(|_| ()).await
    }

    /// Starts the node, with this config file.
    pub async fn configured(&self, config: &str) -> Node {
        let path = self.path("config.yaml");
        std::fs::write(&path, config).expect("the directory takes a file");
        self.start_with(|flags| {
            flags.set("--config", path);
        })
        .await
    }

    /// Starts the node, with other flags.
    pub async fn start_with(&self, change: impl FnOnce(&mut process::Flags)) -> Node {
        self.start_on(&Options::default(), change).await
    }

    /// Starts the node, with another runtime and other flags.
    pub async fn start_on(&self, options: &Options, change: impl FnOnce(&mut process::Flags)) -> Node {
        let runtime = Runtime::new(&options.clone().record());
        let serving = served(&runtime, self.dir.path());
        let mut flags = process::serve(self.dir.path());
        change(&mut flags);
        let crihook = Crihook::serving_as(flags.command()).await;
        let cri = Cri::at(&self.path("front.sock"));
        cri.pull().await;
        Node { runtime, cri, crihook, flags, dir: self.dir.path().to_owned(), serving }
    }
}

impl Node {
    /// Ends crihook without a word, and starts it anew; the runtime and its containers go on.
    pub async fn restart(&mut self) {
        self.crihook.kill();
        self.crihook = Crihook::serving_as(self.flags.command()).await;
        self.cri = Cri::at(&self.front());
    }

    /// Ends the runtime's server with all its connections; what the runtime knows, it knows still.
    pub async fn lose_runtime(&mut self) {
        self.serving.shutdown().await;
    }

    /// Has it serve again.
    pub fn find_runtime(&mut self) {
        self.serving = served(&self.runtime, &self.dir);
    }

    /// Where clients connect.
    pub fn front(&self) -> PathBuf {
        self.dir.join("front.sock")
    }

    /// A pod of that name with a container that was created.
    pub async fn created(&self, name: &str, annotations: &[(&str, &str)]) -> Running {
        self.created_as(&pod(name), &container("main", annotations)).await
    }

    /// As `created`, of any shape.
    pub async fn created_as(&self, pod: &PodSandboxConfig, container: &ContainerConfig) -> Running {
        let sandbox = self.cri.run_pod(pod).await.expect("a sandbox");
        let id = self.cri.create(&sandbox, container, pod).await.expect("a container");
        Running { sandbox, id }
    }

    /// A pod of that name with a container that runs.
    pub async fn running(&self, name: &str, annotations: &[(&str, &str)]) -> Running {
        self.running_as(&pod(name), &container("main", annotations)).await
    }

    /// As `running`, of any shape.
    pub async fn running_as(&self, pod: &PodSandboxConfig, container: &ContainerConfig) -> Running {
        let made = self.created_as(pod, container).await;
        self.cri.start(&made.id).await.expect("started");
        made
    }

    /// The calls of a method that the runtime has heard.
    pub fn heard(&self, method: &str) -> Vec<Heard> {
        self.runtime.heard().into_iter().filter(|heard| heard.method == method).collect()
    }

    /// The timeouts of the `StopContainer` calls that the runtime has heard.
    pub fn stop_timeouts(&self) -> Vec<i64> {
        let timeout = |heard: &Heard| heard.request::<StopContainerRequest>().expect("its message").timeout;
        self.heard("StopContainer").iter().map(timeout).collect()
    }

    /// Waits until the runtime has heard so many calls of a method.
    pub async fn wait_heard(&self, method: &str, count: usize) -> Vec<Heard> {
        until(&format!("{count} calls of {method} at the runtime"), || async {
            let heard = self.heard(method);
            if heard.len() >= count { Ok(heard) } else { Err(heard.len()) }
        })
        .await
    }

    /// All runs, the newest first; none if crihook cannot read them now.
    pub async fn history(&self) -> Option<Vec<Value>> {
        let (code, body) = ask(&self.dir.join("admin.sock"), "/v1/runs").await;
        (code == 200).then(|| serde_json::from_str(&body).expect("an array of runs"))
    }

    /// The runs of a hook, oldest first.
    pub async fn runs(&self, hook: &str) -> Vec<Value> {
        let all = admin(&self.dir.join("admin.sock"), "/v1/runs").await;
        let mut all = serde_json::from_str::<Vec<Value>>(&all).expect("an array of runs");
        all.retain(|run| run["hook"] == hook);
        all.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
        all
    }

    /// Waits until so many runs of a hook have an outcome.
    pub async fn ended(&self, hook: &str, count: usize) -> Vec<Value> {
        until(&format!("{count} runs of {hook} that have ended"), || async {
            let runs = self.runs(hook).await;
            let ended = runs.iter().filter(|run| run["outcome"].is_string()).count();
            if ended >= count { Ok(runs) } else { Err(runs) }
        })
        .await
    }

    /// Waits until one run of a hook has an outcome, and gives it.
    pub async fn outcome(&self, hook: &str) -> Value {
        self.ended(hook, 1).await.swap_remove(0)
    }

    /// Waits until the samples of `name` with these labels sum up to `value`.
    pub async fn wait_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        until(&format!("{name} {labels:?} of {value}"), || async {
            let page = self.crihook.metrics().await;
            let sum = page.sum(name, labels);
            let of_it: Vec<_> = page.all(name).cloned().collect();
            if (sum - value).abs() < 0.001 { Ok(()) } else { Err((sum, of_it)) }
        })
        .await;
    }

    /// Waits until so many calls of a method are in crihook.
    pub async fn wait_in_flight(&self, method: &str, count: f64) {
        self.wait_metric("crihook_cri_requests_in_flight", &[("method", method)], count).await;
    }

    /// What /metrics says.
    pub async fn metrics(&self) -> Exposition {
        self.crihook.metrics().await
    }

    /// The code and the text of /readyz.
    pub async fn readiness(&self) -> (u16, String) {
        get(&self.crihook.metrics_addr().await, "/readyz").await
    }
}

/// Serves a runtime there until the set is dropped.
fn served(runtime: &Runtime, dir: &Path) -> JoinSet<()> {
    let socket = dir.join("runtime.sock");
    let _dead = std::fs::remove_file(&socket);
    let served = serve(runtime.clone(), UnixListener::bind(socket).expect("a socket"), std::future::pending());
    let mut serving = JoinSet::new();
    serving.spawn(async move { served.await.expect("the runtime serves") });
    serving
}

/// GETs a path of the admin socket; the body of an answer with 200.
pub async fn admin(socket: &Path, path: &str) -> String {
    let (code, body) = ask(socket, path).await;
    assert_eq!(code, 200, "{body}");
    body
}

/// GETs a path of the admin socket; the answer's code and body.
async fn ask(socket: &Path, path: &str) -> (u16, String) {
    // It may come a little later than the socket that calls go to.
    let mut io = until("the admin socket", || UnixStream::connect(socket)).await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: crihook\r\nconnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await.expect("the request is taken");
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.expect("an answer in text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    (code, body.to_owned())
}

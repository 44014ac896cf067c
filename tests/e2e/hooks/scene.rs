//! What a test of hooks needs at once: policies, a node, crihook, and a pod whose containers and hooks write down what they do.

use std::fs;
use std::path::PathBuf;

use crihook::cri::v1::{ContainerConfig, ContainerState, Mount};
use serde_json::Value;

use crate::client::Client;
use crate::leftovers::commands;
use crate::node::{Node, Series};
use crate::pod::{self, Pod};
use crate::proxy::Crihook;
use crate::wait::until;

/// Says `up` and, when it is told to go, `term`; then it ends with exit code 7.
pub const POLITE: &str = "trap 'echo term >>/seen/lines; exit 7' TERM; echo up >>/seen/lines; sleep 1000000 & wait";
/// Says `up` and ignores SIGTERM.
pub const DEAF: &str = "trap '' TERM; echo up >>/seen/lines; exec sleep 1000000";

/// A policy document. `matching` is what stands in the braces of `match`, each of `hooks` what stands in those of a hook.
pub fn policy(name: &str, matching: &str, hooks: &[&str]) -> String {
    let hooks = hooks.iter().map(|hook| format!("{{{hook}}}")).collect::<Vec<_>>().join(", ");
    format!(
        "---\napiVersion: crihook.dev/v1\nkind: HookPolicy\nmetadata: {{name: {name}}}\n\
         spec: {{match: {{{matching}}}, hooks: [{hooks}]}}\n"
    )
}

/// An `exec` handler: `script` for the container's shell.
pub fn shell(script: &str) -> String {
    format!("exec: {{command: [/bin/sh, -c, {}]}}", Value::from(script))
}

/// See the module.
pub struct Scene {
    pub crihook: Crihook,
    /// A kubelet's, through crihook.
    pub client: Client,
    /// Containerd's own, past crihook.
    pub direct: Client,
    pub pod: Pod,
    pub node: Node,
}

impl Scene {
    /// A node of `series` with these policies, and the pod `web` on it.
    pub async fn start(series: Series, policies: &[String]) -> Self {
        Self::start_with(series, policies, &[]).await
    }

    /// The same with more flags for crihook.
    pub async fn start_with(series: Series, policies: &[String], flags: &[&str]) -> Self {
        let node = Node::start(series).await;
        let crihook = Crihook::with_policies(&node, &policies.concat(), flags).await;
        let (mut client, direct) = (crihook.client().await, node.direct().await);
        let pod = Pod::run(&mut client, &node, "web").await;
        Self { crihook, client, direct, pod, node }
    }

    /// Creates and starts a container through crihook, and returns its id.
    pub async fn run(&self, name: &str, script: &str) -> String {
        let container = self.create(name, script, |_| ()).await;
        pod::start(&mut self.client.clone(), &container).await;
        container
    }

    /// [`Self::run`], then waits until it has said `up`.
    pub async fn up(&self, name: &str, script: &str) -> String {
        let container = self.run(name, script).await;
        self.says(name, "up").await;
        container
    }

    /// Creates a container that shares the directory `/seen` with the test, with what `edit` makes of it.
    pub async fn create(&self, name: &str, script: &str, edit: impl FnOnce(&mut ContainerConfig)) -> String {
        let seen = self.seen(name);
        fs::create_dir_all(&seen).unwrap();
        let edit = |config: &mut ContainerConfig| {
            config.mounts.push(Mount {
                container_path: "/seen".to_owned(),
                host_path: seen.display().to_string(),
                ..Default::default()
            });
            edit(config);
        };
        let created = self.pod.create_with(&mut self.client.clone(), name, script, edit).await;
        created.expect("CreateContainer")
    }

    /// The directory that the container sees as `/seen`.
    pub fn seen(&self, container: &str) -> PathBuf {
        self.node.path().join("seen").join(container)
    }

    /// What the container and its hooks have written to `/seen/lines`, in order.
    pub fn lines(&self, container: &str) -> Vec<String> {
        let text = fs::read_to_string(self.seen(container).join("lines")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until `line` is among [`Self::lines`].
    pub async fn says(&self, container: &str, line: &str) {
        until(&format!("{container} to say {line:?}"), async || {
            let lines = self.lines(container);
            if lines.iter().any(|said| said == line) { Ok(()) } else { Err(lines) }
        })
        .await;
    }

    /// Makes the empty file `/seen/go`, which scripts wait for.
    pub fn go(&self, container: &str) {
        fs::write(self.seen(container).join("go"), "").unwrap();
    }

    /// The only run of this hook, once it is over.
    pub async fn ended(&self, hook: &str) -> Value {
        until(&format!("the run of {hook}"), async || {
            let mut runs = self.runs(hook).await;
            assert!(runs.len() < 2, "{hook} ran more than once: {runs:#?}");
            match runs.pop() {
                Some(run) if run["outcome"].is_string() => Ok(run),
                other => Err(other),
            }
        })
        .await
    }

    /// [`Self::ended`] with this outcome; gives its last attempt.
    pub async fn ended_as(&self, hook: &str, outcome: &str) -> Value {
        let run = self.ended(hook).await;
        assert_eq!(run["outcome"], outcome, "{run:#}");
        run["attempts"].as_array().expect("attempts").last().cloned().unwrap_or_default()
    }

    /// All runs of this hook.
    pub async fn runs(&self, hook: &str) -> Vec<Value> {
        self.crihook.runs().await.into_iter().filter(|run| run["hook"] == hook).collect()
    }

    /// The timeout, in seconds, of the first `StopContainer` for it that containerd was asked for, in its own words.
    pub fn forwarded(&self, container: &str) -> i64 {
        let log = self.node.log();
        let mut stops = log.lines().filter(|line| line.contains("StopContainer for") && line.contains(container));
        let seconds = stops.find_map(|line| line.split_once("with timeout ")?.1.split_once(" (s)")?.0.parse().ok());
        seconds.unwrap_or_else(|| panic!("containerd was not told to stop {container}"))
    }

    /// Its state and its exit code, in containerd's words.
    pub async fn fate(&self, container: &str) -> (ContainerState, i32) {
        let status = pod::status(&mut self.direct.clone(), container).await.expect("ContainerStatus");
        (status.state(), status.exit_code)
    }

    /// Waits until no process of the machine has `what` in its command.
    pub async fn gone(what: &str) {
        until(&format!("the end of {what:?}"), async || {
            let found = commands().into_iter().filter(|command| command.contains(what)).collect::<Vec<_>>();
            if found.is_empty() { Ok(()) } else { Err(found) }
        })
        .await;
    }

    /// Removes the pod and ends crihook, which must go without complaint, and with metrics that promtool has nothing against.
    pub async fn close(mut self) {
        self.pod.remove(&mut self.client).await;
        self.crihook.check_metrics().await;
        self.crihook.stop();
    }
}

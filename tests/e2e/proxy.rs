//! crihook as its users run it: a process of its own, in front of a node's containerd.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::client::Client;
use crate::http;
use crate::node::Node;
use crate::wait::{until, until_blocking};

/// Dropping it ends the process.
pub struct Crihook {
    pub socket: PathBuf,
    pub metrics: SocketAddr,
    pub admin: PathBuf,
    process: Child,
    successor: Option<Pid>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Crihook {
    /// Starts it in front of `node` and waits until it serves.
    pub async fn start(node: &Node) -> Self {
        Self::start_with(node, &[]).await
    }

    /// The same with more flags.
    async fn start_with(node: &Node, flags: &[&str]) -> Self {
        let (dir, socket) = (node.path(), node.path().join("crihook.sock"));
        let admin = dir.join("admin.sock");
        let mut process = Command::new(env!("CARGO_BIN_EXE_crihook"))
            .args(["serve", "--metrics-addr", "127.0.0.1:0", "--drain-timeout", "20s"])
            .arg("--listen")
            .arg(format!("unix://{}", socket.display()))
            .arg("--runtime-endpoint")
            .arg(format!("unix://{}", node.runtime_socket().display()))
            .arg("--admin-socket")
            .arg(format!("unix://{}", admin.display()))
            .arg("--state-dir")
            .arg(dir.join("crihook-state"))
            .arg("--hooks-dir")
            .arg(dir.join("hooks.d"))
            .args(flags)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("crihook");
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&log);
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| sink.lock().unwrap().push(line)));

        let mut crihook = Self { socket, metrics: ([127, 0, 0, 1], 0).into(), admin, process, successor: None, log };
        let metrics = until("crihook to serve", async || {
            assert_eq!(crihook.process.try_wait().unwrap(), None, "crihook ended");
            crihook.logged("serving").and(crihook.logged("metrics")).ok_or(())
        })
        .await;
        crihook.metrics = metrics["addr"].as_str().expect("an address").parse().unwrap();
        crihook
    }

    /// Writes `policies` (YAML, one document or many) into the hooks directory of `node`, then [starts](Self::start), with more flags.
    pub async fn with_policies(node: &Node, policies: &str, flags: &[&str]) -> Self {
        let dir = node.path().join("hooks.d");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("10-test.yaml"), policies).unwrap();
        Self::start_with(node, flags).await
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.socket).await
    }

    /// The process id, as long as that process runs.
    pub fn pid(&mut self) -> Option<u32> {
        self.process.try_wait().unwrap().is_none().then_some(self.process.id())
    }

    /// The value of the series `name{labels}` on the metrics page, which spells it in just that way.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let (status, page) = http::get(self.metrics, "/metrics").await;
        assert_eq!(status, 200, "{page}");
        page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Passes the metrics page through `promtool check metrics`, which must not say a word.
    pub async fn check_metrics(&self) {
        let (status, page) = http::get(self.metrics, "/metrics").await;
        assert_eq!(status, 200, "{page}");
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool: run `tests/run packages`");
        // Dropped at the end of the statement: promtool reads to the end.
        promtool.stdin.take().unwrap().write_all(page.as_bytes()).expect("the page is taken");
        let said = promtool.wait_with_output().expect("promtool to end");
        let words = [said.stdout, said.stderr].map(|words| String::from_utf8_lossy(&words).into_owned()).concat();
        assert!(said.status.success() && words.is_empty(), "{words}");
    }

    /// The sum over the series of the counter `name` that have these labels, perhaps among others.
    pub async fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let (status, page) = http::get(self.metrics, "/metrics").await;
        assert_eq!(status, 200, "{page}");
        let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let lines = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
        let chosen = lines.filter(|(found, _)| labels.iter().all(|label| found.contains(label.as_str())));
        chosen.map(|(_, value)| value.parse::<u64>().expect(value)).sum()
    }

    /// The runs of hooks that it remembers, the newest first, as its admin socket gives them.
    pub async fn runs(&self) -> Vec<Value> {
        let (status, body) = http::get_unix(&self.admin, "/v1/runs").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("an array")
    }

    /// Lets another process take over, as an operator does. That one is what ends with it from now on.
    pub async fn upgrade(&mut self) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_crihook"));
        command.args(["upgrade", "-o", "json", "--admin-socket"]).arg(&self.admin);
        let output = command.output().await.expect("crihook");
        assert!(output.status.success(), "{output:?}");
        let done: Value = serde_json::from_slice(&output.stdout).expect("a document");
        assert_eq!(done["oldPid"], self.successor.map_or(self.process.id().into(), |pid| i64::from(pid.as_raw())));
        let pid = done["newPid"].as_i64().and_then(|pid| pid.try_into().ok()).expect("a process id");
        self.successor = Some(Pid::from_raw(pid));
    }

    /// All that it has written to its log.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Ends it as a crash does: at once. [`Self::start`] on the same node is its successor.
    pub fn crash(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Ends it as systemd does, and expects it to go without complaint.
    pub fn stop(mut self) {
        assert_eq!(self.end().map(|status| status.code()), Some(Some(0)));
    }

    /// The first line of the log with this message.
    fn logged(&self, message: &str) -> Option<Value> {
        let log = self.log.lock().unwrap();
        log.iter().filter_map(|line| serde_json::from_str(line).ok()).find(|line: &Value| line["message"] == message)
    }

    /// SIGTERM, and SIGKILL if that does not help.
    fn end(&mut self) -> Option<ExitStatus> {
        if let Some(successor) = self.successor.take() {
            // Without a command line it is gone, be it a zombie of somebody else's.
            let gone = || {
                fs::read(format!("/proc/{successor}/cmdline"))
                    .map_or(Ok(()), |line| line.is_empty().then_some(()).ok_or(()))
            };
            let _ = kill(successor, Signal::SIGTERM);
            if until_blocking(Duration::from_secs(30), gone).is_err() {
                let _ = kill(successor, Signal::SIGKILL);
            }
        }
        if let Ok(Some(status)) = self.process.try_wait() {
            return Some(status);
        }
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM).unwrap();
        let ended = until_blocking(Duration::from_secs(30), || self.process.try_wait().ok().flatten().ok_or(()));
        if ended.is_err() {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
        }
        ended.ok()
    }
}

impl Drop for Crihook {
    fn drop(&mut self) {
        let ended = self.end();
        if std::thread::panicking() {
            eprintln!("crihook ended: {ended:?}; it said:\n{}", self.log());
        }
    }
}

//! A running crihook: its process, its log and its metrics.
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::exposition::Exposition;
use super::stand::until;

/// A crihook with a directory of its own; killed when dropped.
pub struct Crihook {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

/// `crihook serve` with everything under `dir`.
pub fn serve(dir: &Path) -> Flags {
    let program = env!("CARGO_BIN_EXE_crihook").into();
    let mut flags = Flags { program, launcher: Vec::new(), environment: Vec::new(), values: BTreeMap::new() };
    flags
        .set("--listen", dir.join("front.sock"))
        .set("--runtime-endpoint", dir.join("runtime.sock"))
        .set("--metrics-addr", "127.0.0.1:0")
        .set("--admin-socket", dir.join("admin.sock"))
        .set("--hooks-dir", dir.join("hooks.d"))
        .set("--state-dir", dir.join("state"));
    flags
}

/// The flags of `crihook serve`, each at most once.
pub struct Flags {
    program: PathBuf,
    /// What it is started through, and with.
    launcher: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    values: BTreeMap<&'static str, OsString>,
}

impl Flags {
    /// Sets a flag, in place of what it was before.
    pub fn set(&mut self, flag: &'static str, value: impl Into<OsString>) -> &mut Self {
        self.values.insert(flag, value.into());
        self
    }

    /// Leaves a flag out.
    pub fn without(&mut self, flag: &str) -> &mut Self {
        self.values.remove(flag);
        self
    }

    /// Starts crihook by this path.
    pub fn by(&mut self, program: PathBuf) -> &mut Self {
        self.program = program;
        self
    }

    /// Starts it through this command.
    pub fn through(&mut self, launcher: Vec<OsString>) -> &mut Self {
        self.launcher = launcher;
        self
    }

    /// Starts it with this variable.
    pub fn env(&mut self, name: &'static str, value: impl Into<OsString>) -> &mut Self {
        self.environment.push((name, value.into()));
        self
    }

    /// The whole command.
    pub fn command(&self) -> Command {
        let mut command = match self.launcher.split_first() {
            None => started_by(&self.program),
            Some((launcher, arguments)) => {
                let mut command = started_by(Path::new(launcher));
                command.args(arguments).arg(&self.program);
                command
            }
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).arg("serve");
        for (flag, value) in &self.values {
            command.arg(flag).arg(value);
        }
        command
    }
}

/// `crihook` without arguments, and without what the caller's environment would tell it.
pub fn bare() -> Command {
    started_by(Path::new(env!("CARGO_BIN_EXE_crihook")))
}

fn started_by(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CRIHOOK_")) {
        command.env_remove(name);
    }
    command
}

impl Crihook {
    /// Starts `command` and collects its standard error.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the crihook binary starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = lines.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                sink.lock().expect("no panic while it is held").push(line);
            }
        });
        Self { child, lines, reader: Some(reader) }
    }

    /// Starts `command` and waits until it serves.
    pub async fn serving_as(command: Command) -> Self {
        let crihook = Self::spawn(command);
        crihook.said("serving").await;
        crihook
    }

    /// As `serving_as`, for a command that runs crihook under strace.
    pub async fn traced(command: Command) -> Self {
        let found = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
        assert!(found.is_ok_and(|status| status.success()), "this test needs strace (Debian's package of that name)");
        Self::serving_as(command).await
    }

    /// What it wrote to standard error so far.
    pub fn log(&self) -> Vec<String> {
        self.lines.lock().expect("no panic while it is held").clone()
    }

    /// The log lines (JSON) that hold `text`, at these levels.
    pub fn lines_at(&self, levels: &[&str]) -> Vec<Value> {
        let parsed = self.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        parsed.filter(|line| levels.contains(&line["level"].as_str().unwrap_or_default())).collect()
    }

    /// Waits for the line whose message is `message`.
    pub async fn said(&self, message: &str) -> Value {
        let found = || {
            let parsed = self.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
            parsed.into_iter().find(|line| line["message"] == message)
        };
        until(&format!("a log line {message:?}"), || async {
            // Read before looking: a line that came last of all is not missed.
            let over = self.reader.as_ref().is_none_or(std::thread::JoinHandle::is_finished);
            let line = found();
            assert!(line.is_some() || !over, "crihook ended without saying {message:?}:\n{}", self.log().join("\n"));
            line.ok_or_else(|| self.log().join("\n"))
        })
        .await
    }

    /// The address of /metrics.
    pub async fn metrics_addr(&self) -> String {
        self.said("metrics").await["addr"].as_str().expect("an address").to_owned()
    }

    /// What /metrics says now.
    pub async fn metrics(&self) -> Exposition {
        Exposition::fetch(&self.metrics_addr().await).await
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a process id"));
        kill(pid, signal).expect("the process takes the signal");
    }

    /// Waits until it has ended by itself, and gives its exit code.
    pub async fn exit(&mut self) -> Option<i32> {
        loop {
            if let Some(status) = self.child.try_wait().expect("the process can be waited for") {
                if let Some(reader) = self.reader.take() {
                    reader.join().expect("the reader of standard error does not panic");
                }
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("the process ends");
    }

    /// It is still running.
    pub fn running(&mut self) -> bool {
        self.child.try_wait().expect("the process can be waited for").is_none()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(self.proc("status")).expect("own child's status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") * 1024
    }

    /// Open descriptors by what they are, to see what is left over.
    pub fn descriptors(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for entry in std::fs::read_dir(self.proc("fd")).expect("own child's descriptors").flatten() {
            let target = std::fs::read_link(entry.path()).unwrap_or_default().display().to_string();
            let kind = target.split_once(':').map_or(target.as_str(), |(kind, _)| kind).to_owned();
            *kinds.entry(kind).or_default() += 1;
        }
        kinds
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid()))
    }
}

impl Drop for Crihook {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- crihook's log\n{}", self.log().join("\n"));
        }
    }
}

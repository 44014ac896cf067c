//! A node whose crihook can be replaced.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use crihook::sim::Options;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Kubelet, until, within};
use crate::hooks::node::{Node, Place};
use crate::wire::peer::process::{Flags, bare};

/// A node, and the link that its crihook is started by. Dropping it ends all that was started by it.
pub struct Stage {
    pub node: Node,
    place: Place,
}

impl Stage {
    pub async fn start() -> Self {
        Self::with(&Options::default(), |_, _| ()).await
    }

    /// With another runtime and other flags.
    pub async fn with(options: &Options, change: impl FnOnce(&mut Flags, &Path)) -> Self {
        let place = Place::new();
        let link = place.path("crihook");
        symlink(env!("CARGO_BIN_EXE_crihook"), &link).expect("a link");
        let directory = place.path("");
        let start = |flags: &mut Flags| {
            flags.by(link);
            change(flags, &directory);
        };
        let node = place.start_on(options, start).await;
        Self { node, place }
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    pub async fn kubelet(&self) -> Kubelet {
        Kubelet::connect(&self.node.front()).await
    }

    /// Puts another program in crihook's place, at once.
    pub fn install(&self, program: &Path) {
        let new = self.path("crihook.new");
        symlink(program, &new).expect("a link");
        fs::rename(&new, self.path("crihook")).expect("the link is replaced");
    }

    /// Puts a shell script in crihook's place.
    pub fn install_script(&self, script: &str) {
        let path = self.path("crihook.sh");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        self.install(&path);
    }

    /// Puts crihook in its place again.
    pub fn install_crihook(&self) {
        self.install(Path::new(env!("CARGO_BIN_EXE_crihook")));
    }

    /// `crihook upgrade` with these arguments, as somebody types it.
    pub async fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::from(bare());
        command.arg("upgrade").arg("--admin-socket").arg(self.path("admin.sock")).args(arguments);
        within("crihook upgrade", command.output()).await.expect("the crihook binary starts")
    }

    /// Upgrades; gives the new process.
    pub async fn upgrade(&self) -> Pid {
        let output = self.ask(&["-o", "json"]).await;
        assert!(output.status.success(), "{output:?}");
        let done: Value = serde_json::from_slice(&output.stdout).expect("a document");
        assert_ne!(done["oldPid"], done["newPid"], "{done}");
        Pid::from_raw(done["newPid"].as_i64().and_then(|pid| pid.try_into().ok()).expect("a process id"))
    }

    /// Asks for an upgrade that does not come about, and gives the reason that is told.
    pub async fn refused(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments).await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    /// The first process.
    pub fn first(&self) -> Pid {
        Pid::from_raw(self.node.crihook.pid().try_into().expect("a process id"))
    }

    /// The processes that were started by the link, and run.
    pub fn processes(&self) -> Vec<Pid> {
        let directory = self.path("");
        let directory = directory.to_str().expect("text");
        let entries = fs::read_dir("/proc").expect("a list of processes").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_one = |pid: &i32| {
            let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            // A zombie has no command line.
            let line = read("cmdline");
            let mut arguments = line.split('\0');
            arguments.any(|argument| argument == "serve") && arguments.any(|argument| argument.starts_with(directory))
        };
        pids.filter(is_one).map(Pid::from_raw).collect()
    }

    /// Waits until just these processes run.
    pub async fn processes_are(&self, expected: &[Pid]) {
        until("the others end", || async {
            let found = self.processes();
            let same = found.len() == expected.len() && found.iter().all(|pid| expected.contains(pid));
            if same { Ok(()) } else { Err(found) }
        })
        .await;
    }

    /// Waits until the line of the log is there.
    pub async fn said(&self, text: &str) -> String {
        until(&format!("{text:?} in the log"), || async {
            let log = self.node.crihook.log();
            log.iter().find(|line| line.contains(text)).cloned().ok_or(log)
        })
        .await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

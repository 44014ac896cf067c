//! What a node could leave on the machine, how it is removed, and how one sees that it is gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::wait::until_blocking;

/// The names of everything that a node owns outside its own process and mount namespaces.
#[derive(Clone, Debug)]
pub struct Traces {
    pub dir: PathBuf,
    pub bridge: String,
    pub cgroup: String,
    /// As `/proc` spells it.
    pub pid_namespace: Option<String>,
}

impl Traces {
    /// Notes the namespace that the children of the process `parent` are born into.
    pub fn remember_namespace(&mut self, parent: u32) {
        let link = fs::read_link(format!("/proc/{parent}/ns/pid_for_children")).expect("the node's process namespace");
        self.pid_namespace = Some(link.display().to_string());
    }

    /// Removes what remains once the node's processes have ended, and returns what could not be removed.
    pub fn remove(&self, dir: Option<TempDir>) -> Vec<String> {
        // Best effort: what failed shows in `remaining`.
        let _ = Command::new("ip").args(["link", "del", &self.bridge]).output();
        drop(dir);
        let settled = until_blocking(Duration::from_secs(10), || {
            // A cgroup goes when the kernel has buried its last process.
            for cgroup in self.cgroups() {
                remove_cgroup(&cgroup);
            }
            let remaining = self.remaining();
            if remaining.is_empty() { Ok(()) } else { Err(remaining) }
        });
        settled.err().unwrap_or_default()
    }

    /// What is there of the node.
    pub fn remaining(&self) -> Vec<String> {
        let mut found = Vec::new();
        let link = Path::new("/sys/class/net").join(&self.bridge);
        found.extend(
            [link, self.dir.clone()].into_iter().filter(|path| path.exists()).map(|path| path.display().to_string()),
        );
        found.extend(self.cgroups().iter().map(|path| path.display().to_string()));
        let dir = self.dir.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        found.extend(mounts.lines().filter(|line| line.contains(&dir)).map(|line| format!("mount {line}")));
        found.extend(self.processes());
        found
    }

    /// One in every hierarchy of cgroup v1, or the one of v2.
    fn cgroups(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
        hierarchies.chain([root.to_owned()]).map(|path| path.join(&self.cgroup)).filter(|path| path.is_dir()).collect()
    }

    /// Those in the node's namespace, in a container's own below it, and those outside that name the node's directory,
    /// such as crihook.
    fn processes(&self) -> Vec<String> {
        let dir = self.dir.display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let process = entry.path();
            let namespace = fs::read_link(process.join("ns/pid")).map(|link| link.display().to_string()).ok();
            let cgroups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
            let inside = (namespace.is_some() && namespace == self.pid_namespace) || cgroups.contains(&self.cgroup);
            let command = command(&process);
            if inside || command.contains(&dir) {
                found.push(format!("process {} {command}", process.display()));
            }
        }
        found
    }
}

/// The commands of all processes of the machine, those in containers among them.
pub fn commands() -> Vec<String> {
    fs::read_dir("/proc").unwrap().flatten().map(|entry| command(&entry.path())).collect()
}

/// With its arguments; empty if it has just ended.
fn command(process: &Path) -> String {
    let words = fs::read(process.join("cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

/// Children first. What is still busy stays for the next attempt.
fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

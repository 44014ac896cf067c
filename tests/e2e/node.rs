//! A node of one's own: a real containerd with its own root, state, socket, network and images.
//!
//! containerd, its shims and the containers live in a process and mount namespace of their own, whose first process is a
//! shell that reads commands from the test. When the test ends in whatever way, be it a panic or SIGKILL, that shell's
//! input ends, it exits, and the kernel ends every process and mount of the node with it. The rest (bridge, cgroups,
//! directory) goes in `Drop`, which then checks that nothing is left.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crihook::cri::v1;
use tempfile::TempDir;

use crate::client::Client;
use crate::image::{self, run};
use crate::leftovers::Traces;
use crate::wait::until;

/// A release series of containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// Debian bookworm's. Without `GetContainerEvents`.
    V1_6,
    /// Debian trixie's.
    V1_7,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_6 => "1.6",
            Self::V1_7 => "1.7",
        })
    }
}

/// The group that owns containerd's socket: not root's, so that one sees it when the owner is copied.
pub const GROUP: u32 = 4711;

/// See the module. Dropping it ends everything that it started.
pub struct Node {
    pub series: Series,
    dir: Option<TempDir>,
    traces: Traces,
    init: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Node {
    /// Starts a node and waits until it is ready for pods.
    pub async fn start(series: Series) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "end-to-end tests need root: run `tests/run e2e` as root");
        let binaries = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/packages/containerd-{series}"));
        assert!(binaries.join("containerd").exists(), "no containerd {series}: run `tests/run packages`");

        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::Builder::new().prefix("crihook-e2e-").tempdir().unwrap();
        let path = dir.path().to_path_buf();
        let bridge = format!("ch{pid}x{count}");
        // A range that is set aside for tests (RFC 2544), so that it is nobody's network.
        let network = format!("198.18.{}", (pid + count) % 256);
        write_configuration(&path, &bridge, &network);
        let traces = Traces { bridge, cgroup: format!("crihook-e2e-{pid}-{count}"), dir: path, pid_namespace: None };
        let search = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
        let mut init = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private", "sh", "-eu", "-c", INIT])
            .current_dir(&traces.dir)
            .env("PATH", search)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let commands = init.stdin.take();
        let answers = BufReader::new(init.stdout.take().unwrap());
        let mut node = Self { series, dir: Some(dir), traces, init, commands, answers };
        assert_eq!(node.answer(), "up", "the node's first process did not start");
        node.traces.remember_namespace(node.init.id());
        node.create_bridge(&network);
        node.start_runtime().await;
        node.import_images(&binaries).await;
        node
    }

    /// Where containerd listens.
    pub fn runtime_socket(&self) -> PathBuf {
        self.path().join("containerd.sock")
    }

    /// The node's directory; pods' logs and crihook's files belong below it.
    pub fn path(&self) -> &Path {
        &self.traces.dir
    }

    /// The parent of every pod's cgroup.
    pub fn cgroup(&self) -> &str {
        &self.traces.cgroup
    }

    /// What must be gone once the node is.
    pub fn traces(&self) -> Traces {
        self.traces.clone()
    }

    /// A client of containerd itself, with no crihook between.
    pub async fn direct(&self) -> Client {
        Client::connect(&self.runtime_socket()).await
    }

    /// All that containerd has written to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path().join("containerd.log")).unwrap_or_default()
    }

    /// Ends containerd as a crash does: at once, leaving shims, containers and the socket's file.
    pub fn kill_runtime(&mut self) {
        assert_eq!(self.command("kill -KILL $runtime; wait $runtime 2>/dev/null || echo gone"), "gone");
    }

    /// Starts containerd, again or for the first time, and waits until it would take a pod.
    pub async fn start_runtime(&mut self) {
        assert_eq!(
            self.command("containerd --config containerd.toml >>containerd.log 2>&1 & runtime=$!; echo on"),
            "on"
        );
        let socket = self.runtime_socket();
        until("containerd and its network", async || -> Result<(), String> {
            let mut client = Client::try_connect(&socket).await.map_err(|error| error.to_string())?;
            let answer = client.runtime.status(v1::StatusRequest { verbose: false }).await;
            let conditions = answer.map_err(|status| status.to_string())?.into_inner().status.unwrap().conditions;
            conditions.iter().all(|condition| condition.status).then_some(()).ok_or(format!("{conditions:?}"))
        })
        .await;
    }

    /// The bridge has its address from here, not from the plugin, which would switch IP forwarding on for it.
    fn create_bridge(&self, network: &str) {
        let bridge = &*self.traces.bridge;
        run(Command::new("ip").args(["link", "add", bridge, "type", "bridge"]));
        run(Command::new("ip").args(["addr", "add", &format!("{network}.1/24"), "dev", bridge]));
        run(Command::new("ip").args(["link", "set", bridge, "up"]));
    }

    async fn import_images(&self, binaries: &Path) {
        let archive = image::archive(self.path());
        let mut ctr = Command::new(binaries.join("ctr"));
        ctr.arg("--address").arg(self.runtime_socket());
        run(ctr.args(["-n", "k8s.io", "images", "import", "--snapshotter", "native"]).arg(archive));
        // The CRI plugin learns of them by an event.
        let mut client = self.direct().await;
        for name in [image::PAUSE, image::BUSYBOX] {
            until(name, async || {
                let image = Some(v1::ImageSpec { image: name.to_owned(), ..Default::default() });
                let answer = client.images.image_status(v1::ImageStatusRequest { image, verbose: false }).await;
                answer.unwrap().into_inner().image.map(drop).ok_or("not yet")
            })
            .await;
        }
    }

    fn command(&mut self, line: &str) -> String {
        writeln!(self.commands.as_mut().unwrap(), "{line}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!(
                "containerd {}'s last words:\n{}",
                self.series,
                lines[lines.len().saturating_sub(30)..].join("\n")
            );
        }
        drop(self.commands.take());
        let ended = self.init.wait();
        let left = self.traces.remove(self.dir.take());
        // A second panic would end the whole run without a word about the first.
        if std::thread::panicking() {
            eprintln!("left behind: {left:?}");
        } else {
            ended.unwrap();
            assert_eq!(left, Vec::<String>::new(), "left behind by containerd {}", self.series);
        }
    }
}

/// The node's process 1. It hides the machine's own directories for namespaces, shims and leases behind empty ones.
const INIT: &str = r#"
resolver=$(readlink -m /etc/resolv.conf)
mount -t tmpfs none /run
mount -t tmpfs none /var/lib
mkdir -p "${resolver%/*}"
[ -e "$resolver" ] || : >"$resolver"
echo up
while read -r line; do eval "$line"; done
"#;

fn write_configuration(dir: &Path, bridge: &str, network: &str) {
    let at = |name: &str| dir.join(name).display().to_string();
    // restrict_oom_score_adj: this process may not lower its own either. native: overlayfs does not nest everywhere.
    let containerd = format!(
        r#"
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{socket}"
  gid = {GROUP}
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
"#,
        root = at("root"),
        state = at("state"),
        socket = at("containerd.sock"),
        cni = at("cni"),
        pause = image::PAUSE,
    );
    fs::write(dir.join("containerd.toml"), containerd).unwrap();
    let network = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "crihook-e2e",
        "plugins": [{
            "type": "bridge",
            "bridge": bridge,
            "ipam": {
                "type": "host-local",
                "dataDir": at("leases"),
                "ranges": [[{"subnet": format!("{network}.0/24"), "rangeStart": format!("{network}.2")}]],
            },
        }],
    });
    fs::create_dir(dir.join("cni")).unwrap();
    fs::write(dir.join("cni/10-bridge.conflist"), network.to_string()).unwrap();
}

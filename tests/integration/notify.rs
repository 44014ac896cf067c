//! What systemd hears from crihook by `sd_notify(3)`: that it accepts calls, that it is alive, that it is ending.

use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The end of `NOTIFY_SOCKET` that systemd has, and a crihook that writes to the other. Dropping it ends the process.
struct Service {
    dir: TempDir,
    notifications: UnixDatagram,
    process: Child,
}

impl Service {
    fn start(environment: &[(&str, String)]) -> Self {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        let notifications = UnixDatagram::bind(at("notify")).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_crihook"))
            .args(["serve", "--metrics-addr", "127.0.0.1:0", "--listen"])
            .arg(at("crihook.sock"))
            .arg("--runtime-endpoint")
            .arg(at("no-runtime.sock"))
            .arg("--admin-socket")
            .arg(at("admin.sock"))
            .arg("--state-dir")
            .arg(at("state"))
            .arg("--hooks-dir")
            .arg(at("hooks.d"))
            .env("NOTIFY_SOCKET", at("notify"))
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { dir, notifications, process }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("crihook.sock")
    }

    /// The next assignments that crihook sends, if it does within `limit`.
    fn hear(&self, limit: Duration) -> Option<Vec<String>> {
        let mut message = [0; 4096];
        self.notifications.set_read_timeout(Some(limit)).unwrap();
        let length = self.notifications.recv(&mut message).ok()?;
        Some(std::str::from_utf8(&message[..length]).unwrap().lines().map(str::to_owned).collect())
    }

    /// The time until `assignment` is heard, whatever else is said before.
    fn wait_for(&self, assignment: &str, limit: Duration) -> Option<Duration> {
        let began = Instant::now();
        while let Some(left) = limit.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
            if self.hear(left)?.iter().any(|heard| heard == assignment) {
                return Some(began.elapsed());
            }
        }
        None
    }

    fn terminate(&self) {
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM).unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("crihook to end");
    }
}

#[test]
fn ready_is_said_once_clients_are_accepted_even_without_a_runtime() {
    let service = Service::start(&[]);
    assert_eq!(service.hear(PATIENCE), Some(vec!["READY=1".to_owned()]), "the first thing that systemd hears");
    UnixStream::connect(service.socket()).expect("whoever was told READY=1 can connect");
}

#[test]
fn the_end_is_announced_and_is_a_success() {
    let mut service = Service::start(&[]);
    assert!(service.wait_for("READY=1", PATIENCE).is_some());
    service.terminate();
    assert!(service.wait_for("STOPPING=1", PATIENCE).is_some());
    assert_eq!(service.process.wait().unwrap().code(), Some(0));
    assert!(!service.socket().exists(), "the socket's file goes with it");
}

#[test]
fn the_watchdog_is_fed_in_time() {
    let limit = Duration::from_secs(3);
    let service = Service::start(&[("WATCHDOG_USEC", limit.as_micros().to_string())]);
    assert!(service.wait_for("READY=1", PATIENCE).is_some());
    for nth in 1..=3 {
        assert!(service.wait_for("WATCHDOG=1", limit).is_some(), "systemd would have killed it at the {nth}. time");
    }
}

#[test]
fn without_a_watchdog_nothing_is_fed() {
    let service = Service::start(&[("WATCHDOG_USEC", "100000".to_owned()), ("WATCHDOG_PID", "1".to_owned())]);
    assert!(service.wait_for("READY=1", PATIENCE).is_some());
    assert_eq!(service.hear(Duration::from_secs(1)), None, "the watchdog of another process is none of its business");
}

//! The files below `deploy/` as they ship, each read by the tool that will read it on a node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const UNITS: &str = "etc/systemd/system";

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let root = Root::with_crihook();
    root.ship("deploy/systemd/crihook.service", "crihook.service");
    assert_eq!(root.complaints("crihook.service"), "");
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit_for_cri_o() {
    let root = Root::with_crihook();
    root.ship("deploy/systemd/crihook.service", "crihook.service");
    root.ship("deploy/systemd/crio.conf", "crihook.service.d/crio.conf");
    assert_eq!(root.complaints("crihook.service"), "");
}

#[test]
fn systemd_finds_nothing_wrong_with_the_socket() {
    let root = Root::with_crihook();
    root.ship("deploy/systemd/crihook.service", "crihook.service");
    root.ship("deploy/systemd/crihook.socket", "crihook.socket");
    assert_eq!(root.complaints("crihook.socket"), "");
    assert_eq!(root.complaints("crihook.service"), "");
}

#[test]
fn systemd_finds_nothing_wrong_with_a_kubelet_that_is_pointed_at_crihook() {
    let root = kubelet();
    assert_eq!(root.complaints("kubelet.service"), "");
}

/// The tests above prove something only if the tool sees mistakes in these places.
#[test]
fn systemd_complains_about_mistakes_in_those_files() {
    let root = Root::with_crihook();
    root.ship("deploy/systemd/crihook.service", "crihook.service");
    root.write("crihook.service.d/mistake.conf", "[Service]\nRestrat=always\n");
    assert!(root.complaints("crihook.service").contains("Unknown key 'Restrat'"));

    root.ship("deploy/systemd/crihook.socket", "crihook.socket");
    root.write("crihook.socket.d/mistake.conf", "[Socket]\nListenStraem=/run/x.sock\n");
    assert!(root.complaints("crihook.socket").contains("Unknown key 'ListenStraem'"));

    let root = Root::default();
    root.ship("deploy/systemd/crihook.service", "crihook.service");
    assert!(root.complaints("crihook.service").contains("/usr/local/bin/crihook is not executable"));

    let root = kubelet();
    root.write("kubelet.service.d/30-mistake.conf", "[Service]\nEnvironmnet=A=1\n");
    assert!(root.complaints("kubelet.service").contains("Unknown key 'Environmnet'"));
}

#[test]
fn prometheus_accepts_the_scrape_configuration() {
    let output =
        Command::new("promtool").args(["check", "config"]).arg(shipped("deploy/prometheus/scrape.yaml")).output();
    let output = output.expect("promtool: run `tests/run packages`");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("WARNING"), "{said}");
}

#[test]
fn crihook_finds_nothing_wrong_with_the_example_policies() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_crihook")).arg("check").arg(shipped("deploy/hooks.d")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("2 policies"), "{said}");
}

/// A name that is changed in the program and not here, or the other way round, leaves a node without its runtime.
#[test]
fn the_files_name_what_crihook_uses_by_itself() {
    let help = Command::new(env!("CARGO_BIN_EXE_crihook")).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for (file, before, value) in [
        ("deploy/kubelet/20-crihook.conf", "--container-runtime-endpoint=", "unix:///run/crihook/crihook.sock"),
        ("deploy/systemd/crihook.socket", "ListenStream=", "/run/crihook/crihook.sock"),
        ("deploy/prometheus/scrape.yaml", "targets: [\"", "127.0.0.1:9797"),
        ("deploy/prometheus/podmonitor.yaml", "--upstream=http://", "127.0.0.1:9797"),
    ] {
        let text = fs::read_to_string(shipped(file)).unwrap();
        assert!(text.contains(&format!("{before}{value}")), "{file} has {before}{value}");
        let default = format!("[default: {}]", value.trim_start_matches("unix://"));
        assert!(help.contains(&default), "{default}: {help}");
    }
    let unit = fs::read_to_string(shipped("deploy/systemd/crihook.service")).unwrap();
    assert!(unit.contains("\nTimeoutStopSec=11min\n") && help.contains("[default: 10m]"), "systemd outwaits a drain");
}

fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// A kubelet as kubeadm lays it out, with the drop-in.
fn kubelet() -> Root {
    let root = Root::default();
    root.program("usr/bin/kubelet", "/bin/true");
    root.write("kubelet.service", "[Service]\nExecStart=/usr/bin/kubelet\n[Install]\nWantedBy=multi-user.target\n");
    root.write(
        "kubelet.service.d/10-kubeadm.conf",
        "[Service]\nEnvironmentFile=-/etc/default/kubelet\nExecStart=\nExecStart=/usr/bin/kubelet $KUBELET_EXTRA_ARGS\n",
    );
    root.ship("deploy/kubelet/20-crihook.conf", "kubelet.service.d/20-crihook.conf");
    root
}

/// A root directory of a node that is not there.
struct Root(TempDir);

impl Default for Root {
    fn default() -> Self {
        Self(TempDir::new().unwrap())
    }
}

impl Root {
    fn with_crihook() -> Self {
        let root = Self::default();
        root.program("usr/local/bin/crihook", env!("CARGO_BIN_EXE_crihook"));
        root.program("bin/kill", "/bin/kill");
        root
    }

    fn program(&self, path: &str, program: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(program, path).unwrap();
    }

    fn ship(&self, file: &str, unit: &str) {
        fs::copy(shipped(file), self.unit(unit)).unwrap();
    }

    fn write(&self, unit: &str, text: &str) {
        fs::write(self.unit(unit), text).unwrap();
    }

    fn unit(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(UNITS).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// What systemd says about a unit and its drop-ins; if it says nothing it must also have found nothing.
    fn complaints(&self, unit: &str) -> String {
        let root = format!("--root={}", self.0.path().display());
        let output = Command::new("systemd-analyze").args([&root, "verify", "--recursive-errors=no", unit]).output();
        let output = output.expect("systemd-analyze: run `tests/run packages`");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), said.is_empty(), "{}: {said}", output.status);
        said
    }
}

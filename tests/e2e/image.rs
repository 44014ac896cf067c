//! The two images of these tests, made from the machine's static busybox as one OCI archive.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// Holds a pod's namespaces until it is told to go.
pub const PAUSE: &str = "crihook.test/pause:1";
/// A shell and its tools.
pub const BUSYBOX: &str = "crihook.test/busybox:1";

const OCI: &str = "application/vnd.oci.image";

/// Builds the archive below `dir` and returns its path.
pub fn archive(dir: &Path) -> PathBuf {
    let layout = dir.join("oci");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let layer = dir.join("layer.tar");
    run(Command::new("tar").arg("-C").arg(root_filesystem(dir)).arg("-cf").arg(&layer).arg("."));
    let layer = add_file(&blobs, &layer);

    // As process 1 it ignores SIGTERM unless it catches it, and `wait` is what a trap interrupts.
    let pause = image(&blobs, &layer, PAUSE, &["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait"]);
    let busybox = image(&blobs, &layer, BUSYBOX, &["/bin/sh"]);
    fs::write(layout.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string()).unwrap();
    fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [pause, busybox]}).to_string())
        .unwrap();

    let archive = dir.join("images.tar");
    run(Command::new("tar").arg("-C").arg(&layout).arg("-cf").arg(&archive).arg("."));
    archive
}

fn root_filesystem(dir: &Path) -> PathBuf {
    let root = dir.join("rootfs");
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    let busybox = which("busybox");
    fs::copy(&busybox, root.join("bin/busybox")).unwrap();
    for applet in run(Command::new(&busybox).arg("--list")).lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    root
}

/// Writes an image's config and manifest and returns the manifest's entry for the index.
fn image(blobs: &Path, layer: &Blob, name: &str, command: &[&str]) -> Value {
    let config = add_json(
        blobs,
        &json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": command, "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        }),
    );
    let manifest = add_json(
        blobs,
        &json!({
            "schemaVersion": 2,
            "mediaType": format!("{OCI}.manifest.v1+json"),
            "config": config.descriptor("config.v1+json"),
            "layers": [layer.descriptor("layer.v1.tar")],
        }),
    );
    let mut entry = manifest.descriptor("manifest.v1+json");
    entry["annotations"] = json!({"io.containerd.image.name": name});
    entry
}

struct Blob {
    digest: String,
    size: u64,
}

impl Blob {
    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": format!("{OCI}.{media_type}"), "digest": self.digest, "size": self.size})
    }
}

fn add_json(blobs: &Path, document: &Value) -> Blob {
    let path = blobs.join("unnamed");
    fs::write(&path, document.to_string()).unwrap();
    add_file(blobs, &path)
}

fn add_file(blobs: &Path, file: &Path) -> Blob {
    let size = fs::metadata(file).unwrap().len();
    let line = run(Command::new("sha256sum").arg("--binary").arg(file));
    let sum = line.split_whitespace().next().unwrap();
    fs::rename(file, blobs.join(sum)).unwrap();
    Blob { digest: format!("sha256:{sum}"), size }
}

/// Go's name for the processor.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn which(program: &str) -> PathBuf {
    ["/bin", "/usr/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{program} is missing: run `tests/run packages`"))
}

/// Runs a command that must succeed and returns its standard output.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}{}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

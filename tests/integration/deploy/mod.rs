//! What `deploy/` has for Prometheus and Grafana, read by Prometheus's own tools and asked of a Prometheus that scrapes a crihook.

mod dashboard;
mod live;
mod monitor;
mod names;
mod prometheus;
mod promql;
mod rules;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Where a file lies that is shipped.
fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

/// A YAML document.
fn yaml(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What promtool says, when it succeeds.
fn promtool(arguments: &[&str], file: &Path) -> Result<String, String> {
    let output = Command::new("promtool").args(arguments).arg(file).output();
    let output = output.expect("promtool: run `tests/run packages`");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(said.into()) } else { Err(said.into()) }
}

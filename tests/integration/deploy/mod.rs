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

/// Metrics that the dashboard and the rules know and this crihook does not have yet, each as its samples are called, with its labels.
/// Once it has one, a test fails until the line is gone.
const NOT_YET: [(&str, &[&str]); 13] = [
    ("crihook_container_grace_period_seconds_bucket", &["le"]),
    ("crihook_container_grace_period_seconds_count", &[]),
    ("crihook_container_grace_period_seconds_sum", &[]),
    ("crihook_container_grace_used_ratio_bucket", &["le"]),
    ("crihook_container_termination_duration_seconds_bucket", &["end", "le"]),
    ("crihook_container_termination_duration_seconds_count", &["end"]),
    ("crihook_image_pull_duration_seconds_bucket", &["le", "result"]),
    ("crihook_image_pull_duration_seconds_count", &["result"]),
    ("crihook_native_hook_duration_seconds_bucket", &["le", "point", "result"]),
    ("crihook_native_hook_duration_seconds_count", &["point", "result"]),
    ("crihook_pod_startup_duration_seconds_bucket", &["le", "phase"]),
    ("crihook_pod_startup_duration_seconds_count", &["phase"]),
    ("crihook_pod_startup_duration_seconds_sum", &["phase"]),
];

/// Whether a query is about metrics that are not there yet, and so may have no answer.
fn is_for_later(query: &str) -> bool {
    NOT_YET.iter().any(|(name, _)| query.contains(name))
}

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

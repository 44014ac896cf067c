//! A Prometheus of the test's own.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::wire::peer::exposition::get;
use crate::wire::peer::until;

/// Scrapes one crihook. Dropping it ends the process.
pub struct Prometheus {
    address: String,
    process: Child,
    _place: TempDir,
}

impl Prometheus {
    /// Scrapes `target` and evaluates these files of rules, several times a second.
    pub async fn start(target: &str, rules: &[&Path]) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        // It cannot say which port it took, so it gets one that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let config = format!(
            "global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}}\n\
             rule_files: {rules:?}\n\
             scrape_configs:\n- job_name: crihook\n  static_configs: [{{targets: [\"{target}\"]}}]\n"
        );
        let file = place.path().join("prometheus.yaml");
        std::fs::write(&file, config).expect("the directory takes a file");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", place.path().join("data").display()))
            .arg(format!("--web.listen-address={port}"))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .spawn()
            .expect("prometheus: run `tests/run packages`");
        let prometheus = Self { address: port.to_string(), process, _place: place };
        until("prometheus", || TcpStream::connect(&prometheus.address)).await;
        until("prometheus to be ready", || async {
            let (status, body) = get(&prometheus.address, "/-/ready").await;
            if status == 200 { Ok(()) } else { Err(body) }
        })
        .await;
        prometheus
    }

    /// The data of what its API says.
    pub async fn ask(&self, path: &str) -> Result<Value, String> {
        let (status, body) = get(&self.address, path).await;
        let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{status}: {error}: {body}"))?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(body) }
    }

    /// The series that a query gives at this moment: those that have a number.
    pub async fn series(&self, query: &str) -> Result<Vec<Value>, String> {
        let encoded: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let data = self.ask(&format!("/api/v1/query?query={encoded}")).await?;
        let series = data["result"].as_array().ok_or_else(|| data.to_string())?;
        Ok(series.iter().filter(|series| series["value"][1] != "NaN").cloned().collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("prometheus to end");
    }
}

//! Debian's Prometheus scrapes crihook, and its own query API is asked for the calls that were just made.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crihook::cri::v1::{ListImagesRequest, VersionRequest};
use serde_json::Value;

use crate::http;
use crate::node::{Node, Series};
use crate::pod;
use crate::proxy::Crihook;
use crate::wait::until;

#[tokio::test]
async fn prometheus_counts_the_calls_made_on_containerd_1_6() {
    prometheus_counts_the_calls_made(Series::V1_6).await;
}

#[tokio::test]
async fn prometheus_counts_the_calls_made_on_containerd_1_7() {
    prometheus_counts_the_calls_made(Series::V1_7).await;
}

async fn prometheus_counts_the_calls_made(series: Series) {
    let node = Node::start(series).await;
    let crihook = Crihook::start(&node).await;
    let mut client = crihook.client().await;
    // ListImages is a method that nothing but this test calls; crihook may ask for Version by itself, past its listener.
    for _ in 0..7 {
        client.images.list_images(ListImagesRequest::default()).await.unwrap();
    }
    for _ in 0..3 {
        client.runtime.version(VersionRequest::default()).await.unwrap();
    }
    for _ in 0..2 {
        pod::status(&mut client, "0123456789").await.unwrap_err();
    }

    let prometheus = Prometheus::start(node.path(), crihook.metrics);
    let requests = "crihook_cri_requests_total";
    for (query, value) in [
        (format!(r#"{requests}{{service="runtime.v1.ImageService",method="ListImages",code="OK"}}"#), 7),
        (format!(r#"{requests}{{service="runtime.v1.RuntimeService",method="Version",code="OK"}}"#), 3),
        (format!(r#"{requests}{{service="runtime.v1.RuntimeService",method="ContainerStatus",code="NotFound"}}"#), 2),
        (r#"crihook_cri_request_duration_seconds_count{method="ListImages"}"#.to_owned(), 7),
        (r#"crihook_cri_upstream_duration_seconds_count{method="ListImages"}"#.to_owned(), 7),
        ("sum(crihook_cri_requests_in_flight)".to_owned(), 0),
        ("crihook_upstream_up".to_owned(), 1),
        ("count(crihook_build_info)".to_owned(), 1),
    ] {
        until(&query, async || match prometheus.query(&query).await {
            Ok(seen) if seen == [value.to_string()] => Ok(()),
            other => Err(other),
        })
        .await;
    }
    crihook.check_metrics().await;
    crihook.stop();
}

/// Dropping it ends the process.
pub struct Prometheus {
    address: SocketAddr,
    process: Child,
}

impl Prometheus {
    /// Scrapes `target` from now on; what it needs lies in `dir`.
    pub fn start(dir: &Path, target: SocketAddr) -> Self {
        // It cannot say which port it took, so it gets one that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n\
             scrape_configs:\n- job_name: crihook\n  static_configs: [{{targets: [\"{target}\"]}}]\n"
        );
        std::fs::write(dir.join("prometheus.yaml"), config).unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.join("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .spawn()
            .expect("prometheus: run `tests/run packages`");
        Self { address, process }
    }

    /// The values of the series that `query` gives at this moment.
    pub async fn query(&self, query: &str) -> Result<Vec<String>, Box<dyn std::error::Error>> {
        let encoded = query.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
        let (status, body) = http::try_get(self.address, &format!("/api/v1/query?query={encoded}")).await?;
        let answer: Value = serde_json::from_str(&body)?;
        let result = answer["data"]["result"].as_array().ok_or(format!("{status}: {body}"))?;
        Ok(result.iter().map(|series| series["value"][1].as_str().unwrap().to_owned()).collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("prometheus to end");
    }
}

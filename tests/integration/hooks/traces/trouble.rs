//! Collectors that are gone, slow or behind TLS: said once, and no call is the worse for it.

use nix::sys::signal::Signal;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tonic::transport::Identity;

use super::*;

/// The lines that tell of traces, at these levels.
fn lines(node: &Node, levels: &[&str]) -> Vec<String> {
    let told = node.crihook.lines_at(levels).into_iter().map(|line| line["message"].to_string());
    told.filter(|message| message.contains("traces")).collect()
}

/// What the status says of traces.
async fn degraded(place: &Place) -> String {
    let status: Value =
        serde_json::from_str(&node::admin(&place.path("admin.sock"), "/v1/status").await).expect("JSON");
    let said = status["degradations"].as_array().expect("a list").iter().find(|what| what["what"] == "traces");
    said.unwrap_or_else(|| panic!("nothing of traces: {status}"))["why"].to_string()
}

/// The lines that warn of traces, once there is one.
async fn warned(node: &Node) -> Vec<String> {
    until("a warning", || async {
        let told = lines(node, &["WARN", "ERROR"]);
        if told.is_empty() { Err("none") } else { Ok(told) }
    })
    .await
}

/// Makes three traced calls, one after the other, whose spans are lost.
async fn lose_three(node: &Node) {
    let mut before = 0.0;
    for _ in 0..3 {
        node.cri.traced(&parent(true)).version().await.expect("a version");
        before = until("spans that are lost", || async {
            let lost = node.metrics().await.sum("crihook_trace_spans_total", &[("result", "failed")]);
            if lost > before { Ok(lost) } else { Err(lost) }
        })
        .await;
    }
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_told_of_once_and_disturbs_no_call() {
    let (place, gone) = (Place::new(), Collector::start().await);
    let (address, url) = (gone.address, gone.url());
    drop(gone);
    let node = place
        .start_with(|flags| {
            told_to(&url)(flags);
            flags.env("OTEL_EXPORTER_OTLP_TIMEOUT", "1000");
        })
        .await;
    let traced = node.cri.traced(&parent(true));
    lose_three(&node).await;
    let warned = warned(&node).await;
    assert_eq!(warned.len(), 1, "{warned:#?}");
    assert!(tells(&warned[0], &["traces do not arrive", &url, "refused", "calls go on"]), "{warned:#?}");
    assert!(tells(&degraded(&place).await, &["do not arrive", &url]));

    let collector = Collector::at(address, None).await;
    until("that traces arrive", || async {
        traced.version().await.expect("a version");
        let told = lines(&node, &["INFO"]);
        if told.iter().any(|line| line.contains("again")) { Ok(()) } else { Err(told) }
    })
    .await;
    collector.trace(TRACE, 2).await;
    assert_eq!(lines(&node, &["WARN", "ERROR"]).len(), 1);
}

#[tokio::test]
async fn a_collector_that_is_slow_is_told_of_once_and_disturbs_no_call() {
    let (place, collector) = (Place::new(), Collector::start().await);
    collector.hang();
    let url = collector.url();
    let node = place
        .start_with(|flags| {
            told_to(&url)(flags);
            flags.env("OTEL_EXPORTER_OTLP_TIMEOUT", "50");
        })
        .await;
    lose_three(&node).await;
    let warned = warned(&node).await;
    assert_eq!(warned.len(), 1, "{warned:#?}");
    assert!(tells(&warned[0], &["traces do not arrive", &url, "imeout", "calls go on"]), "{warned:#?}");
}

#[tokio::test]
async fn a_collector_that_takes_no_connection_is_told_of() {
    // Nobody accepts, so what comes after the first connections is dropped, as where a firewall or a dead host is.
    let full = TcpSocket::new_v4().expect("a socket");
    full.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let full = full.listen(1).expect("it listens");
    let address = full.local_addr().expect("an address");
    let mut waiting = Vec::new();
    while let Ok(taken) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        waiting.push(taken.expect("a connection"));
    }
    let place = Place::new();
    let node = place
        .start_with(|flags| {
            told_to(&format!("http://{address}"))(flags);
            flags.env("OTEL_EXPORTER_OTLP_TIMEOUT", "100");
        })
        .await;
    lose_three(&node).await;
    let warned = warned(&node).await;
    assert_eq!(warned.len(), 1, "{warned:#?}");
    assert!(tells(&warned[0], &["traces do not arrive", &address.to_string(), "timeout", "100ms"]), "{warned:#?}");
}

#[tokio::test]
async fn a_collector_that_hangs_is_told_of_once_and_disturbs_no_call_and_not_the_end() {
    let (place, collector) = (Place::new(), Collector::start().await);
    collector.hang();
    let url = collector.url();
    let mut node = place
        .start_with(|flags| {
            told_to(&url)(flags);
            flags.env("OTEL_EXPORTER_OTLP_TIMEOUT", "60000");
        })
        .await;
    // One batch is under way, the queue is full, and the rest is dropped.
    let calls = (0..8).map(|_| {
        let traced = node.cri.traced(&parent(true));
        async move {
            for _ in 0..200 {
                traced.version().await.expect("a version");
            }
        }
    });
    within("the calls", futures_util::future::join_all(calls)).await;
    until("spans that are dropped", || async {
        let page = node.metrics().await;
        let dropped = page.sum("crihook_trace_spans_total", &[("result", "dropped")]);
        if dropped >= 1000.0 { Ok(()) } else { Err(dropped) }
    })
    .await;
    node.crihook.signal(Signal::SIGTERM);
    assert_eq!(within("the end", node.crihook.exit()).await, Some(0));
    let warned = lines(&node, &["WARN", "ERROR"]);
    assert_eq!(warned.len(), 1, "{warned:#?}");
    assert!(tells(&warned[0], &["the last traces did not arrive", &collector.url(), "2s"]), "{warned:#?}");
}

#[tokio::test]
async fn what_was_seen_last_is_told_before_the_end() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let url = collector.url();
    let mut node = place
        .start_with(|flags| {
            // Nothing is told before a minute has passed.
            flags.set("--otlp-endpoint", url).env("OTEL_BSP_SCHEDULE_DELAY", "60000");
        })
        .await;
    node.cri.traced(&parent(true)).version().await.expect("a version");
    node.crihook.signal(Signal::SIGTERM);
    assert_eq!(within("the end", node.crihook.exit()).await, Some(0));
    let spans = collector.spans();
    assert!(spans.iter().any(|span| span.parent == KUBELETS), "{spans:#?}");
}

#[tokio::test]
async fn a_collector_behind_tls_is_verified_against_the_nodes_authorities() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem());
    let collector = Collector::at(([127, 0, 0, 1], 0).into(), Some(identity)).await;
    let place = Place::new();
    let authority = place.path("ca.pem");
    std::fs::write(&authority, made.cert.pem()).expect("the directory takes a file");
    let url = format!("https://localhost:{}", collector.address.port());
    let node = place
        .start_with(|flags| {
            told_to(&url)(flags);
            flags.env("SSL_CERT_FILE", &authority);
        })
        .await;
    node.cri.traced(&parent(true)).version().await.expect("a version");
    collector.trace(TRACE, 2).await;
    assert!(lines(&node, &["WARN", "ERROR"]).is_empty(), "{:#?}", node.crihook.log());
}

#[tokio::test]
async fn an_exporter_that_cannot_be_made_is_told_of_and_disturbs_no_call() {
    let place = Place::new();
    let nowhere = place.path("no.pem");
    let node = place
        .start_with(|flags| {
            told_to("https://localhost:4317")(flags);
            flags.env("SSL_CERT_FILE", &nowhere).env("SSL_CERT_DIR", &nowhere);
        })
        .await;
    node.cri.traced(&parent(true)).version().await.expect("a version");
    let warned = lines(&node, &["WARN", "ERROR"]);
    assert_eq!(warned.len(), 1, "{warned:#?}");
    assert!(tells(&warned[0], &["no traces", "https://localhost:4317", "certs"]), "{warned:#?}");
    assert!(tells(&degraded(&place).await, &["no traces", "https://localhost:4317", "certs"]));
}

#[test]
fn an_endpoint_that_is_none_is_refused_with_what_would_be_right() {
    let mut command = crate::wire::peer::process::bare();
    let told = command.args(["serve", "--otlp-endpoint", "unix:///run/otel.sock"]).output().expect("it starts");
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(told.status.code(), Some(2), "{text}");
    assert!(tells(&text, &["--otlp-endpoint", "neither http:// nor https://", "http://127.0.0.1:4317"]), "{text}");
}

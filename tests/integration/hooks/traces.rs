//! Traces: spans below the kubelet's own, read back from a collector.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tonic::transport::Identity;

use super::collector::{Collector, Span};
use super::*;
use crate::wire::peer::process::Flags;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const KUBELETS: &str = "b7ad6b7169203331";

/// The kubelet's `traceparent`, recorded or not.
fn parent(recorded: bool) -> String {
    format!("00-{TRACE}-{KUBELETS}-0{}", u8::from(recorded))
}

/// Tells this collector, soon.
fn told_to(url: &str) -> impl FnOnce(&mut Flags) {
    move |flags| {
        flags.set("--otlp-endpoint", url).env("OTEL_BSP_SCHEDULE_DELAY", "20");
    }
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found = named(spans, name);
    assert_eq!(found.len(), 1, "one `{name}`: {spans:#?}");
    found[0]
}

#[tokio::test]
async fn a_call_its_hooks_and_the_runtimes_part_are_spans_below_the_kubelets() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let asked = AtomicU32::new(0);
    let before = place.server("before", move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::Status(503, "not yet"),
        _ => Reply::Ok,
    });
    let after = place.answering("after", Reply::Ok);
    let warm = webhook("warm", "PreStartContainer", &before, &json!({"retries": {"attempts": 2, "backoff": "10ms"}}));
    let announce = webhook("announce", "PostStart", &after, &plain());
    place.write("a.yaml", &policy("web", &[warm, announce]));
    let node = place.start_with(told_to(&collector.url())).await;
    let web = node.created("web", &[]).await;
    node.cri.traced(&parent(true)).start(&web.id).await.expect("started");
    node.outcome("announce").await;
    let spans = collector.trace(TRACE, 7).await;

    let call = one(&spans, "runtime.v1.RuntimeService/StartContainer");
    assert_eq!((call.parent.as_str(), call.kind, &call.error), (KUBELETS, SpanKind::Server, &None));
    let value = |name: &str| call.values[name].as_str();
    assert_eq!(
        [value("rpc.system"), value("rpc.service"), value("rpc.method"), value("rpc.grpc.status_code")],
        ["grpc", "runtime.v1.RuntimeService", "StartContainer", "0"]
    );
    assert_eq!(call.resource["service.name"], "crihook");
    assert!(!call.resource["k8s.node.name"].is_empty());

    let (waits, upstream) = (named(&spans, "hook wait"), one(&spans, "upstream"));
    let (tried, announced) = (named(&spans, "hook web/warm"), one(&spans, "hook web/announce"));
    assert_eq!((waits.len(), tried.len()), (2, 2), "before the call and after it: {spans:#?}");
    for part in waits.iter().chain(&tried).chain([&upstream, &announced]) {
        assert_eq!(part.parent, call.id, "{part:#?}");
    }
    for part in waits.iter().chain(&tried).chain([&upstream]) {
        assert!(call.time.0 <= part.time.0 && part.time.1 <= call.time.1, "within the call: {part:#?} {call:#?}");
    }
    assert!(waits[0].time.0 <= tried[0].time.0 && tried[1].time.1 <= waits[0].time.1, "{spans:#?}");
    assert!(waits[0].time.1 <= upstream.time.0 && upstream.time.1 <= waits[1].time.0, "{spans:#?}");
    let seconds = |span: &Span| Duration::from_nanos(span.time.1 - span.time.0).as_secs_f64();
    let waited: f64 = value("crihook.hook_wait_seconds").parse().expect("seconds");
    assert!((waited - seconds(waits[0]) - seconds(waits[1])).abs() < 0.01, "{waited}: {waits:#?}");

    let why = tried[0].error.as_deref().unwrap_or_default();
    assert!(why.contains("503") && tried[1].error.is_none(), "{tried:#?}");
    let told = ["crihook.attempt", "crihook.result", "crihook.point", "crihook.handler", "k8s.pod.name"];
    assert_eq!(told.map(|name| tried[0].values[name].as_str()), ["1", "failed", "PreStartContainer", "webhook", "web"]);
    assert_eq!((&*tried[1].values["crihook.attempt"], tried[0].kind), ("2", SpanKind::Client));
    let run = node.outcome("announce").await;
    assert_eq!(run["id"], announced.values["crihook.event_id"].as_str());

    // Whoever is asked can go on with the trace; the runtime hears what the kubelet said.
    let sent: Vec<_> = before.delivered().iter().map(|delivered| delivered.headers["traceparent"].clone()).collect();
    assert_eq!(sent, [&tried[0].id, &tried[1].id].map(|id| format!("00-{TRACE}-{id}-01")));
    assert_eq!(node.heard("StartContainer")[0].trace, Some(parent(true)));
    until("a count of all spans", || async {
        let counted = node.metrics().await.sum("crihook_trace_spans_total", &[("result", "exported")]);
        let told = u32::try_from(collector.spans().len()).expect("few");
        if (counted - f64::from(told)).abs() < 0.5 { Ok(()) } else { Err((counted, told)) }
    })
    .await;
}

#[tokio::test]
async fn what_the_kubelet_does_not_record_is_not_told_and_its_id_is_in_the_log() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let broken = place.answering("hook", Reply::Status(500, "no"));
    place.write("a.yaml", &policy("web", &[webhook("warm", "PreStartContainer", &broken, &plain())]));
    let url = collector.url();
    let node = place
        .start_with(move |flags| {
            told_to(&url)(flags);
            flags.set("--log-level", "debug");
        })
        .await;
    let web = node.created("web", &[]).await;
    node.cri.traced(&parent(false)).start(&web.id).await.expect("started");
    node.cri.version().await.expect("a version");
    node.cri.stop(&web.id, 1).await.expect("stopped");
    let own = until("the trace that begins here", || async {
        let spans = collector.spans();
        let stop = spans.iter().find(|span| span.name.ends_with("/StopContainer")).cloned();
        stop.ok_or(spans)
    })
    .await;
    assert_eq!(own.parent, "", "a call that changes something begins a trace where the kubelet has none");
    let told: Vec<_> = collector.spans().into_iter().filter(|span| span.trace == TRACE).collect();
    assert!(told.is_empty(), "{told:#?}");
    let polls: Vec<_> = collector.spans().into_iter().filter(|span| span.name.ends_with("/Version")).collect();
    assert!(polls.is_empty(), "polls begin none: {polls:#?}");
    assert_eq!(broken.delivered()[0].headers["traceparent"][..35], parent(false)[..35], "the decision is passed on");

    let logged = |message: &str, method: Option<&str>| {
        let lines = node.crihook.lines_at(&["DEBUG", "WARN"]).into_iter();
        lines
            .filter(|line| line["message"] == message && method.is_none_or(|method| line["method"] == method))
            .collect::<Vec<_>>()
    };
    assert_eq!(logged("call", Some("StartContainer"))[0]["trace_id"], TRACE);
    assert_eq!(logged("hook failed", None)[0]["span"]["trace_id"], TRACE);
    assert_eq!(logged("call", Some("StopContainer"))[0]["trace_id"], own.trace.as_str());
    assert_eq!(logged("call", Some("Version"))[0].get("trace_id"), None);
}

#[tokio::test]
async fn without_a_collector_nothing_is_added_anywhere() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &policy("web", &[webhook("warm", "PreStartContainer", &server, &plain())]));
    let node = place.start_with(|flags| _ = flags.set("--log-level", "debug")).await;
    let web = node.created("web", &[]).await;
    node.cri.traced(&parent(true)).start(&web.id).await.expect("started");
    assert_eq!(node.heard("StartContainer")[0].trace, Some(parent(true)));
    assert!(!server.delivered()[0].headers.contains_key("traceparent"), "a span that nobody is told of is no parent");
    assert!(!node.crihook.log().join("\n").contains("trace_id"));
    assert!(!node.metrics().await.text.contains("crihook_trace_spans_total{"));
}

#[tokio::test]
async fn a_hook_that_the_next_process_goes_on_with_stays_in_its_trace() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let server = place.server("hook", |delivered| if delivered.attempt() == 1 { Reply::Hang } else { Reply::Ok });
    place.write("a.yaml", &policy("web", &[webhook("announce", "PostStart", &server, &plain())]));
    let mut node = place.start_with(told_to(&collector.url())).await;
    let web = node.created("web", &[]).await;
    node.cri.traced(&parent(true)).start(&web.id).await.expect("started");
    server.wait(1).await;
    let call = until("the call", || async {
        let spans = collector.trace(TRACE, 1).await;
        let call = spans.iter().find(|span| span.name.ends_with("/StartContainer")).cloned();
        call.ok_or(spans)
    })
    .await;
    node.restart().await;
    node.outcome("announce").await;
    let spans = until("the second attempt", || async {
        let spans = collector.trace(TRACE, 1).await;
        if named(&spans, "hook web/announce").is_empty() { Err(spans) } else { Ok(spans) }
    })
    .await;
    let redelivered = one(&spans, "hook web/announce");
    assert_eq!((&redelivered.parent, &*redelivered.values["crihook.attempt"]), (&call.id, "2"), "{redelivered:#?}");
}

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

/// Waits until more spans are lost than `before`, and gives how many.
async fn lost_more(node: &Node, before: f64) -> f64 {
    until("spans that are lost", || async {
        let lost = node.metrics().await.sum("crihook_trace_spans_total", &[("result", "failed")]);
        if lost > before { Ok(lost) } else { Err(lost) }
    })
    .await
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
    let mut lost = 0.0;
    for _ in 0..3 {
        traced.version().await.expect("a version");
        lost = lost_more(&node, lost).await;
    }
    let warned = lines(&node, &["WARN", "ERROR"]);
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
    let mut lost = 0.0;
    for _ in 0..3 {
        node.cri.traced(&parent(true)).version().await.expect("a version");
        lost = lost_more(&node, lost).await;
    }
    let warned = lines(&node, &["WARN", "ERROR"]);
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
    let mut lost = 0.0;
    for _ in 0..3 {
        node.cri.traced(&parent(true)).version().await.expect("a version");
        lost = lost_more(&node, lost).await;
    }
    let warned = lines(&node, &["WARN", "ERROR"]);
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

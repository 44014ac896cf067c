//! Traces: spans below the kubelet's own, read back from a collector.

mod trouble;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

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

    // Lines are written by a thread of its own.
    let logged = async |message: &str, method: Option<&str>| {
        until(&format!("a line {message:?} of {method:?}"), || async {
            let mut lines = node.crihook.lines_at(&["DEBUG", "WARN"]).into_iter();
            let found =
                lines.find(|line| line["message"] == message && method.is_none_or(|method| line["method"] == method));
            found.ok_or("not yet")
        })
        .await
    };
    assert_eq!(logged("call", Some("StartContainer")).await["trace_id"], TRACE);
    assert_eq!(logged("hook failed", None).await["span"]["trace_id"], TRACE);
    assert_eq!(logged("call", Some("StopContainer")).await["trace_id"], own.trace.as_str());
    assert_eq!(logged("call", Some("Version")).await.get("trace_id"), None);
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
    node.crihook.said("call").await;
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

/// The names of these spans.
fn names(spans: &[Span]) -> Vec<&str> {
    let mut names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_call_that_is_given_up_or_refused_has_no_part_of_the_runtime() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let server = place.server("hook", |delivered| match delivered.pod() {
        "slow" => Reply::Hang,
        _ => Reply::Status(500, "no"),
    });
    let guard = webhook("guard", "PreStartContainer", &server, &json!({"timeout": "10m", "failurePolicy": "Fail"}));
    place.write("a.yaml", &policy("web", &[guard]));
    let node = place.start_with(told_to(&collector.url())).await;
    let (slow, refused) = (node.created("slow", &[]).await, node.created("refused", &[]).await);
    let given_up = tokio::spawn({
        let cri = node.cri.traced(&parent(true));
        async move { cri.start(&slow.id).await }
    });
    server.wait(1).await;
    given_up.abort();
    let spans = collector.trace(TRACE, 3).await;
    let expected = ["hook wait", "hook web/guard", "runtime.v1.RuntimeService/StartContainer"];
    assert_eq!(names(&spans), expected);
    let call = one(&spans, expected[2]);
    assert_eq!((call.values["rpc.grpc.status_code"].as_str(), call.error.as_deref()), ("1", None));
    assert_eq!(one(&spans, expected[1]).values["crihook.result"], "cancelled");
    assert!(spans.iter().all(|span| span.parent == if span.id == call.id { KUBELETS } else { &call.id }), "{spans:#?}");

    let other = format!("{}0", &TRACE[..31]);
    node.cri.traced(&parent(true).replace(TRACE, &other)).start(&refused.id).await.expect_err("refused");
    let spans = collector.trace(&other, 3).await;
    assert_eq!(names(&spans), expected);
    assert_eq!(one(&spans, expected[2]).values["rpc.grpc.status_code"], "9");
}

#[tokio::test]
async fn a_failure_of_the_runtime_is_an_error_and_an_answer_is_none() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let node = place.start_with(told_to(&collector.url())).await;
    let (failing, answered) = (parent(true), format!("{}0", &TRACE[..31]));
    node.runtime.fail_next("Version", 1).expect("a method");
    node.cri.traced(&failing).version().await.expect_err("it fails, as it was asked to");
    node.cri.traced(&failing.replace(TRACE, &answered)).start("nobody").await.expect_err("not found");
    let error = async |trace: &str, method: &str| {
        let spans = collector.trace(trace, 2).await;
        one(&spans, &format!("runtime.v1.RuntimeService/{method}")).error.clone()
    };
    assert_eq!(error(TRACE, "Version").await.as_deref(), Some("Internal"));
    assert_eq!(error(&answered, "StartContainer").await, None);
}

#[tokio::test]
async fn attempts_are_in_the_trace_of_the_call_that_they_began_for() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let server = place.answering("hook", Reply::Held);
    let drain = webhook("drain", "PreStop", &server, &json!({"timeout": "10m"}));
    place.write("a.yaml", &policy("web", &[drain]));
    let node = place.start_with(told_to(&collector.url())).await;
    let web = node.running("web", &[]).await;
    let other = format!("{}0", &TRACE[..31]);
    let stop = |trace: &str| {
        let (cri, id) = (node.cri.traced(&parent(true).replace(TRACE, trace)), web.id.clone());
        tokio::spawn(async move { cri.stop(&id, 60).await })
    };
    let first = stop(TRACE);
    server.wait(1).await;
    let second = stop(&other);
    node.wait_in_flight("StopContainer", 2.0).await;
    server.release();
    for call in [first, second] {
        within("the answer", call).await.expect("no panic").expect("stopped");
    }
    let expected = ["hook wait", "hook web/drain", "runtime.v1.RuntimeService/StopContainer", "upstream"];
    assert_eq!(names(&collector.trace(TRACE, 4).await), expected);
    // It may have come when the hook was done, and has waited for nothing then.
    let joined = collector.trace(&other, 2).await;
    assert!(names(&joined).contains(&expected[2]) && !names(&joined).contains(&expected[1]), "{joined:#?}");
}

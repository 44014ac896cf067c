//! Where a stop spends its time, told to a collector.

use std::time::{Duration, Instant};

use crihook::cri::v1::StopContainerRequest;
use tonic::Request;

use super::collector::{Collector, Span};
use super::scene::{POLITE, Scene, policy, shell};
use crate::node::Series;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const KUBELETS: &str = "00f067aa0ba902b7";

#[tokio::test]
async fn the_spans_of_a_stop_tell_what_the_kubelet_waited_for() {
    let collector = Collector::start().await;
    let drain = format!("name: drain, on: PreStop, {}", shell("sleep 1; echo drained >>/seen/lines"));
    let policies = [policy("web", "", &[&drain])];
    let scene = Box::pin(Scene::start_with(Series::V1_7, &policies, &["--otlp-endpoint", &collector.url()])).await;
    let container = scene.up("main", POLITE).await;
    let mut request = Request::new(StopContainerRequest { container_id: container, timeout: 10 });
    let parent = format!("00-{TRACE}-{KUBELETS}-01").parse().expect("a header's value");
    request.metadata_mut().insert("traceparent", parent);
    let began = Instant::now();
    scene.client.clone().runtime.stop_container(request).await.expect("StopContainer");
    let measured = began.elapsed();
    assert_eq!(scene.lines("main"), ["up", "drained", "term"]);

    let spans = collector.trace(TRACE, 4).await;
    let one = |name: &str| {
        let mut found = spans.iter().filter(|span| span.name == name);
        let span = found.next().unwrap_or_else(|| panic!("no {name}: {spans:#?}"));
        assert!(found.next().is_none(), "one {name}: {spans:#?}");
        span
    };
    let took = |span: &Span| Duration::from_nanos(span.time.1 - span.time.0);
    let [call, wait, drain, upstream] =
        ["runtime.v1.RuntimeService/StopContainer", "hook wait", "hook web/drain", "upstream"].map(one);
    assert_eq!(call.parent, KUBELETS);
    for part in [wait, drain, upstream] {
        assert_eq!(part.parent, call.id, "{part:#?}");
    }
    let second = Duration::from_secs(1);
    assert!(second <= took(drain) && took(drain) <= took(wait) && took(wait) <= took(call), "{spans:#?}");
    assert!(took(wait) + took(upstream) <= took(call) && took(call) <= measured, "{measured:?}: {spans:#?}");
    assert_eq!((&*drain.values["crihook.handler"], &*drain.values["k8s.container.name"]), ("exec", "main"));
    drop(collector);
    scene.close().await;
}

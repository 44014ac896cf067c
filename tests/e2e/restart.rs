//! containerd crashes and comes back; crihook stays.

use std::time::{Duration, Instant};

use crihook::cri::v1::{ContainerState, VersionRequest};
use tonic::{Code, Status};

use crate::http;
use crate::node::{Node, Series};
use crate::pod::{self, POLITE, Pod};
use crate::proxy::Crihook;
use crate::wait::until;

#[tokio::test]
async fn crihook_survives_a_crash_of_containerd_1_6() {
    crihook_survives_a_crash_of_containerd(Series::V1_6).await;
}

#[tokio::test]
async fn crihook_survives_a_crash_of_containerd_1_7() {
    crihook_survives_a_crash_of_containerd(Series::V1_7).await;
}

async fn crihook_survives_a_crash_of_containerd(series: Series) {
    let mut node = Node::start(series).await;
    let mut crihook = Crihook::start(&node).await;
    let mut client = crihook.client().await;
    let pid = crihook.pid();
    assert!(pid.is_some());
    let pod = Pod::run(&mut client, &node, "lasting").await;
    let container = pod.start(&mut client, "main", POLITE).await;
    upstream_becomes(&crihook, 1.0).await;

    let (mut other, id) = (client.clone(), container.clone());
    let in_flight = tokio::spawn(async move { pod::exec(&mut other, &id, "touch /tmp/begun; sleep 1000000").await });
    until("the command", async || {
        let answer = pod::exec(&mut client, &container, "test -e /tmp/begun").await.unwrap();
        if answer.exit_code == 0 { Ok(()) } else { Err(answer.exit_code) }
    })
    .await;

    node.kill_runtime();
    assert_unavailable(&in_flight.await.unwrap().unwrap_err());
    let began = Instant::now();
    assert_unavailable(&client.runtime.version(VersionRequest::default()).await.unwrap_err());
    assert!(began.elapsed() < Duration::from_secs(10), "a call fails fast while the runtime is down");
    upstream_becomes(&crihook, 0.0).await;
    let (status, body) = http::get(crihook.metrics, "/readyz").await;
    assert_eq!(status, 503, "{body}");
    assert_eq!(http::get(crihook.metrics, "/livez").await.0, 200, "crihook itself is well");

    node.start_runtime().await;
    upstream_becomes(&crihook, 1.0).await;
    assert_eq!(http::get(crihook.metrics, "/readyz").await.0, 200);
    let status = pod::status(&mut client, &container).await.unwrap();
    assert_eq!(status.state(), ContainerState::ContainerRunning, "the container went on");
    assert_eq!(pod::exec(&mut client, &container, "exit 3").await.unwrap().exit_code, 3);
    assert_eq!(crihook.pid(), pid, "the same crihook");

    pod.remove(&mut client).await;
    crihook.stop();
}

fn assert_unavailable(error: &Status) {
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    assert!(error.message().starts_with("crihook: "), "it says who speaks: {error:?}");
}

async fn upstream_becomes(crihook: &Crihook, value: f64) {
    until(&format!("crihook_upstream_up {value}"), async || {
        let seen = crihook.metric("crihook_upstream_up").await;
        if seen == Some(value) { Ok(()) } else { Err(seen) }
    })
    .await;
}

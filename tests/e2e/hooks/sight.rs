//! The hooks that a pod itself has, seen in passing, without a policy.

use std::time::{Duration, Instant};

use crihook::cri::v1::ExecSyncRequest;
use serde_json::json;

use super::scene::{DEAF, POLITE, Scene};
use crate::node::Series;
use crate::pod;
use crate::scrape::Prometheus;
use crate::wait::until;

const NATIVE: &str = r#"crihook_native_hook_duration_seconds_sum{point="PreStopContainer",result="succeeded"}"#;
/// Between what the test has measured and what Prometheus says.
const APART: f64 = 0.05;
/// The machine may be busy just between the two clocks.
const TRIES: usize = 5;
/// Of the pod, in seconds.
const GRACE: u64 = 10;

#[tokio::test]
async fn a_pods_own_pre_stop_is_timed_on_containerd_1_6() {
    Box::pin(a_pods_own_pre_stop_is_timed(Series::V1_6)).await;
}

#[tokio::test]
async fn a_pods_own_pre_stop_is_timed_on_containerd_1_7() {
    Box::pin(a_pods_own_pre_stop_is_timed(Series::V1_7)).await;
}

async fn a_pods_own_pre_stop_is_timed(series: Series) {
    let scene = Scene::start(series, &[]).await;
    let prometheus = Prometheus::start(scene.node.path(), scene.crihook.metrics);
    let (mut before, mut apart) = (0.0, Vec::new());
    for count in 1..=TRIES {
        let name = format!("web-{count}");
        let measured = stopped_as_the_kubelet_does(&scene, &name).await.as_secs_f64();
        let observed = until("Prometheus to have seen it", async || {
            let observed = prometheus.query(NATIVE).await.map_err(|error| error.to_string())?;
            let sum = observed.first().and_then(|value| value.parse::<f64>().ok()).filter(|sum| *sum > before);
            sum.ok_or_else(|| format!("{observed:?}"))
        })
        .await;
        apart.push((observed - before - measured).abs());
        before = observed;
        if apart.last().is_some_and(|apart| *apart < APART) {
            break;
        }
    }
    assert!(apart.last().is_some_and(|apart| *apart < APART), "seconds between the two: {apart:?}");

    let runs = scene.runs("preStop").await;
    let run = runs.last().expect("a run in the history");
    assert_eq!(
        (&run["policy"], &run["mode"], &run["outcome"]),
        (&json!("(pod)"), &json!("Native"), &json!("succeeded"))
    );
    assert_eq!(run["attempts"][0]["exitCode"], 0, "{run:#}");
    assert_eq!(scene.runs("postStart").await.len(), 0, "there was none");

    ends_are_told_apart(&scene, apart.len()).await;
    drop(prometheus);
    scene.close().await;
}

/// Runs a container of that name with a preStop hook and stops it. Gives how long the hook took, as the kubelet sees it.
async fn stopped_as_the_kubelet_does(scene: &Scene, name: &str) -> Duration {
    let hook = ["/bin/sh", "-c", "sleep 1; echo drained >>/seen/lines"];
    let annotation = json!({"exec": {"command": hook}}).to_string();
    let mut client = scene.client.clone();
    let container = scene
        .create(name, POLITE, |config| {
            config.annotations.insert("io.kubernetes.container.preStopHandler".to_owned(), annotation);
        })
        .await;
    pod::start(&mut client, &container).await;
    scene.says(name, "up").await;
    let cmd = hook.map(str::to_owned).to_vec();
    let began = Instant::now();
    let ran = client.runtime.exec_sync(ExecSyncRequest { container_id: container.clone(), cmd, timeout: 0 }).await;
    let took = began.elapsed();
    assert_eq!(ran.expect("ExecSync").into_inner().exit_code, 0);
    let left = GRACE.saturating_sub(took.as_secs()).max(2);
    pod::stop(&mut client, &container, i64::try_from(left).unwrap()).await;
    assert_eq!(scene.lines(name), ["up", "drained", "term"]);
    took
}

/// After so many that ended well.
async fn ends_are_told_apart(scene: &Scene, polite: usize) {
    let deaf = scene.up("deaf", DEAF).await;
    pod::stop(&mut scene.client.clone(), &deaf, 2).await;
    pod::stop(&mut scene.client.clone(), &deaf, 2).await;
    let count = |end: &str| format!("crihook_container_termination_duration_seconds_count{{end={end:?}}}");
    until("every end to be counted", async || {
        let ends = ["exited", "killed", "unknown"].map(count);
        let mut counts = Vec::new();
        for end in &ends {
            counts.push(scene.crihook.metric(end).await.unwrap_or(f64::NAN));
        }
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let expected = [polite as f64, 1.0, 0.0];
        if counts == expected { Ok(()) } else { Err(counts) }
    })
    .await;
}

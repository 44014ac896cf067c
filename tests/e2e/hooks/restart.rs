//! crihook goes and comes back while containers run: their hooks know them still.

use super::scene::{POLITE, Scene, policy, shell};
use crate::image::BUSYBOX;
use crate::node::Series;
use crate::pod::{self, Pod};
use crate::proxy::Crihook;

#[tokio::test]
async fn hooks_match_containers_that_are_older_than_crihook_on_containerd_1_6() {
    hooks_match_containers_that_are_older_than_crihook(Series::V1_6).await;
}

#[tokio::test]
async fn hooks_match_containers_that_are_older_than_crihook_on_containerd_1_7() {
    hooks_match_containers_that_are_older_than_crihook(Series::V1_7).await;
}

async fn hooks_match_containers_that_are_older_than_crihook(series: Series) {
    let note = |hook: &str| format!("name: {hook}, on: PreStop, {}", shell(&format!("echo {hook} >>/seen/lines")));
    let (repository, _) = BUSYBOX.rsplit_once(':').unwrap();
    let policies = [
        policy("a", "podSelector: {matchLabels: {app: lasting}}", &[&note("by-label")]),
        policy("b", "annotations: {example.test/drain: 'true'}", &[&note("by-annotation")]),
        policy("c", "containers: [ma*]", &[&note("by-name")]),
        policy("d", &format!("images: ['{repository}:*']"), &[&note("by-image")]),
        policy("e", "namespaces: [def*, '!default']", &[&note("not-this-namespace")]),
        policy("f", "podSelector: {matchLabels: {app: other}}", &[&note("not-this-label")]),
        policy("g", "images: ['other.test/*']", &[&note("not-this-image")]),
    ];
    let mut scene = Scene::start(series, &policies).await;
    let mut client = scene.client.clone();
    let lasting = Pod::run_with(&mut client, &scene.node, "lasting", |config| {
        config.annotations.insert("example.test/drain".to_owned(), "true".to_owned());
    })
    .await
    .expect("RunPodSandbox");
    std::mem::replace(&mut scene.pod, lasting).remove(&mut client).await;
    let crashed = scene.up("main", POLITE).await;
    let stopped = scene.up("mate", POLITE).await;
    // Never seen by crihook before its stop.
    scene.client = scene.direct.clone();
    let unseen = scene.up("mask", POLITE).await;

    scene = scene.succeed(Crihook::crash).await;
    stop_and_compare(&scene, "main", &crashed).await;
    scene = scene.succeed(Crihook::stop).await;
    stop_and_compare(&scene, "mate", &stopped).await;
    stop_and_compare(&scene, "mask", &unseen).await;
    scene.close().await;
}

async fn stop_and_compare(scene: &Scene, name: &str, container: &str) {
    pod::stop(&mut scene.client.clone(), container, 20).await;
    let expected = ["up", "by-label", "by-annotation", "by-name", "by-image", "term"];
    assert_eq!(scene.lines(name), expected, "in the order of the policies, and no other");
}

impl Scene {
    /// Ends crihook with `end` and starts another on the same node.
    pub async fn succeed(self, end: fn(Crihook)) -> Self {
        end(self.crihook);
        let crihook = Crihook::start(&self.node).await;
        Self { client: crihook.client().await, crihook, ..self }
    }
}

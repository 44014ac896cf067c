//! A pod's whole life, made by somebody who behaves as the kubelet does when its calls fail: it looks at what there is, and goes on from there.

use std::fmt::Debug;
use std::time::Instant;

use crihook::cri::v1::{Container, ContainerState, PodSandboxState};
use tonic::Status;

use super::stage::Stage;
use super::witness::Witness;
use crate::hooks::cri::{Cri, container, pod};
use crate::wire::peer::stand::PATIENCE;

/// In seconds.
const GRACE: i64 = 30;
/// How the names of pods begin that are stopped as soon as they run.
pub const HASTY: &str = "hasty-";

/// See the module.
pub struct Kubelet<'a> {
    pub stage: &'a Stage,
    pub witness: &'a Witness,
    pub dice: fastrand::Rng,
}

impl Kubelet<'_> {
    /// From its sandbox to the end of it.
    pub async fn live(&mut self, name: &str) {
        let sandbox = self.sandbox(name).await;
        let main = self.running(name, &sandbox).await;
        if !name.starts_with(HASTY) {
            // What is stopped before its hooks were delivered need not have them any more.
            self.witness.had(self.stage, &["pod-up"], &sandbox).await;
            self.witness.had(self.stage, &["up", "warm"], &main).await;
        }
        self.end(&sandbox).await;
    }

    async fn sandbox(&self, name: &str) -> String {
        let uid = format!("uid-of-{name}");
        let (patience, mut config) = (Patience::new(), pod(name));
        loop {
            let found = self.insist(("list", name), async |cri| cri.sandboxes(&uid).await).await;
            if let Some(ready) = found.iter().find(|found| found.state() == PodSandboxState::SandboxReady) {
                return ready.id.clone();
            }
            config.metadata.get_or_insert_default().attempt = u32::try_from(found.len()).expect("a few");
            let made = self.stage.call(("run", name), async |cri| cri.run_pod(&config).await).await;
            if let Some(made) = made {
                return made;
            }
            patience.goes_on(name);
        }
    }

    async fn running(&self, name: &str, sandbox: &str) -> String {
        let (patience, mut config) = (Patience::new(), container("main", &[]));
        loop {
            let found = self.insist(("list", name), async |cri| cri.containers(sandbox).await).await;
            if let Some(runs) = found.iter().find(|found| runs(found)) {
                return runs.id.clone();
            }
            config.metadata.get_or_insert_default().attempt = u32::try_from(found.len()).expect("a few");
            let create = async |cri: Cri| cri.create(sandbox, &config, &pod(name)).await;
            if let Some(id) = self.stage.call(("create", name), create).await
                && self.stage.call(("start", name), async |cri| cri.start(&id).await).await.is_some()
            {
                return id;
            }
            patience.goes_on(name);
        }
    }

    async fn end(&mut self, sandbox: &str) {
        let found = self.insist(("list", sandbox), async |cri| cri.containers(sandbox).await).await;
        for running in found.iter().filter(|found| runs(found)) {
            let patience = Patience::new();
            while self.stage.call("stop", async |cri| cri.stop(&running.id, GRACE).await).await.is_none() {
                patience.goes_on(&running.id);
                // What the kubelet does when a stop has failed: no grace for the sandbox, and then the stop again.
                if self.dice.bool() {
                    self.stage.call("stop", async |cri| cri.stop_pod(sandbox).await).await;
                }
            }
        }
        self.insist(("stop", sandbox), async |cri| cri.stop_pod(sandbox).await).await;
        for found in &found {
            self.insist(("remove", &found.id), async |cri| cri.remove(&found.id).await).await;
        }
        self.insist(("remove", sandbox), async |cri| cri.remove_pod(sandbox).await).await;
    }

    /// Makes a call until it succeeds.
    async fn insist<T>(&self, what: impl Debug, call: impl AsyncFn(Cri) -> Result<T, Status>) -> T {
        let patience = Patience::new();
        loop {
            if let Some(answer) = self.stage.call(&what, &call).await {
                return answer;
            }
            patience.goes_on(&what);
        }
    }
}

fn runs(container: &Container) -> bool {
    container.state() == ContainerState::ContainerRunning
}

/// Fails a test that does not get on.
struct Patience(Instant);

impl Patience {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn goes_on(&self, with: impl Debug) {
        assert!(self.0.elapsed() < 3 * PATIENCE, "{with:?}: still not done");
    }
}

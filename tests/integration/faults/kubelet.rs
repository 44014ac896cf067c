//! A pod's whole life, made by somebody who behaves as the kubelet does when its calls fail: it looks at what there is, and goes on from there.

use std::time::Instant;

use crihook::cri::v1::{ContainerState, PodSandboxState};

use super::stage::Stage;
use super::witness::Witness;
use crate::hooks::cri::{container, pod};
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

/// Fails a test that does not get on.
struct Patience(Instant);

impl Patience {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn goes_on(&self, with: &str) {
        assert!(self.0.elapsed() < 3 * PATIENCE, "{with}: still not done");
    }
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
        let patience = Patience::new();
        loop {
            patience.goes_on(name);
            let uid = format!("uid-of-{name}");
            let Some(found) = self.stage.call(("list", name), |cri| async move { cri.sandboxes(&uid).await }).await
            else {
                continue;
            };
            if let Some(ready) = found.iter().find(|found| found.state() == PodSandboxState::SandboxReady) {
                return ready.id.clone();
            }
            let mut config = pod(name);
            config.metadata.get_or_insert_default().attempt = u32::try_from(found.len()).expect("a few");
            let made = self.stage.call(("run", name), |cri| async move { cri.run_pod(&config).await }).await;
            if let Some(made) = made {
                return made;
            }
        }
    }

    async fn running(&self, name: &str, sandbox: &str) -> String {
        let patience = Patience::new();
        loop {
            patience.goes_on(name);
            let Some(found) = self.stage.call(("list", name), |cri| async move { cri.containers(sandbox).await }).await
            else {
                continue;
            };
            if let Some(runs) = found.iter().find(|found| found.state() == ContainerState::ContainerRunning) {
                return runs.id.clone();
            }
            let mut config = container("main", &[]);
            config.metadata.get_or_insert_default().attempt = u32::try_from(found.len()).expect("a few");
            let create = async |cri: crate::hooks::cri::Cri| cri.create(sandbox, &config, &pod(name)).await;
            let Some(made) = self.stage.call(("create", name), create).await else { continue };
            let id = made.clone();
            if self.stage.call(("start", name), |cri| async move { cri.start(&id).await }).await.is_some() {
                return made;
            }
        }
    }

    async fn end(&mut self, sandbox: &str) {
        let patience = Patience::new();
        let found = loop {
            patience.goes_on(sandbox);
            let found = self.stage.call(("list", sandbox), |cri| async move { cri.containers(sandbox).await }).await;
            if let Some(found) = found {
                break found;
            }
        };
        for running in found.iter().filter(|found| found.state() == ContainerState::ContainerRunning) {
            let stop = |cri: crate::hooks::cri::Cri| async move { cri.stop(&running.id, GRACE).await };
            while self.stage.call(("stop", &running.id), stop).await.is_none() {
                patience.goes_on(sandbox);
                // What the kubelet does when a stop has failed: no grace for the sandbox, and then the stop again.
                if self.dice.bool() {
                    self.stage.call(("stop", sandbox), |cri| async move { cri.stop_pod(sandbox).await }).await;
                }
            }
        }
        while self.stage.call(("stop", sandbox), |cri| async move { cri.stop_pod(sandbox).await }).await.is_none() {
            patience.goes_on(sandbox);
        }
        for found in &found {
            let remove = |cri: crate::hooks::cri::Cri| async move { cri.remove(&found.id).await };
            while self.stage.call(("remove", &found.id), remove).await.is_none() {
                patience.goes_on(sandbox);
            }
        }
        while self.stage.call(("remove", sandbox), |cri| async move { cri.remove_pod(sandbox).await }).await.is_none() {
            patience.goes_on(sandbox);
        }
    }
}

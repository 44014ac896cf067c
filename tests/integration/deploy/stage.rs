//! A crihook in front of the embedded runtime, where everything happens that the dashboard tells of.

use std::time::Duration;

use crihook::sim::kubelet::Kubelet;
use serde_json::json;
use tokio::sync::Mutex;

use crate::hooks::cri::{container, pod_in};
use crate::hooks::node::{Node, Place};
use crate::hooks::server::{HookServer, Reply};
use crate::hooks::{policy_for, webhook};
use crate::wire::peer::{until, within};

/// A node with policies, and the servers that they name.
pub struct Stage {
    pub node: Node,
    /// The kubelet, and how many pods it has run.
    kubelet: Mutex<(Kubelet, u32)>,
    /// Asked after a start, and never answers.
    after: HookServer,
    /// Asked before a stop, and never answers.
    before: HookServer,
    _servers: [HookServer; 3],
    place: Place,
}

impl Stage {
    /// Starts it.
    pub async fn set() -> Self {
        let place = Place::new();
        let servers = [Reply::Ok, Reply::Status(500, "no"), Reply::Hang, Reply::Hang, Reply::Hang];
        let names = ["good", "bad", "slow", "after", "before"];
        let [good, bad, slow, after, before] = std::array::from_fn(|n| place.answering(names[n], servers[n].clone()));
        let hooks = [
            webhook("good", "PreStartContainer", &good, &json!({})),
            webhook("bad", "PreStartContainer", &bad, &json!({})),
            webhook("slow", "PreCreateContainer", &slow, &json!({"timeout": "50ms"})),
            webhook("announce", "PostStart", &after, &json!({"timeout": "60s"})),
            webhook("behind", "PostStart", &good, &json!({})),
            webhook("drain", "PreStop", &before, &json!({"timeout": "60s"})),
        ];
        place.write("a.yaml", &policy_for("mixed", &json!({"namespaces": ["shop"]}), &hooks));
        // Nobody takes traces there.
        let node = place.start_with(|flags| _ = flags.set("--otlp-endpoint", "http://127.0.0.1:9")).await;
        let mut kubelet = Kubelet::new(&node.front(), Duration::ZERO);
        kubelet.start().await.expect("the kubelet starts");
        Self { node, kubelet: Mutex::new((kubelet, 0)), after, before, _servers: [good, bad, slow], place }
    }

    /// A pod's whole life without hooks, and one whose hooks succeed, fail, time out, are cancelled and are abandoned.
    pub async fn act(&self) {
        let (kubelet, round) = &mut *self.kubelet.lock().await;
        *round += 1;
        // Its script begins without images.
        self.node.cri.remove_image().await;
        within("a pod's life", Box::pin(kubelet.run_pod(*round))).await.expect("as the script has it");

        let (started, stopped, left) =
            (self.after.delivered().len(), self.before.delivered().len(), self.before.left());
        self.node.cri.pull().await;
        let web = self.node.running_as(&pod_in("shop", &format!("web-{round}")), &container("main", &[])).await;
        self.after.wait(started + 1).await;
        let (cri, id) = (self.node.cri.clone(), web.id.clone());
        let stop = tokio::spawn(async move { cri.stop(&id, 30).await });
        self.before.wait(stopped + 1).await;
        stop.abort();
        self.before.wait_left(left + 1).await;
        self.node.cri.stop(&web.id, 0).await.expect("killed");
        self.node.cri.remove_pod(&web.sandbox).await.expect("removed");

        for outcome in ["succeeded", "failed", "timed_out", "cancelled", "abandoned"] {
            until(&format!("a run that is {outcome}"), || async {
                let seen = self.node.metrics().await.sum("crihook_hook_runs_total", &[("outcome", outcome)]);
                if seen >= 1.0 { Ok(()) } else { Err(seen) }
            })
            .await;
        }
    }

    /// Writes a policy that is wrong.
    pub async fn blunder(&self) {
        self.place.write("b.yaml", "kind: Mistake\n");
        self.node.wait_metric("crihook_policy_last_reload_successful", &[], 0.0).await;
    }
}

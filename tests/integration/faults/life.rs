//! A node on which pods come and go whatever becomes of the journal, and what its people are told of that.

use serde_json::{Value, json};

use crate::hooks::node::{Node, Place};
use crate::hooks::server::HookServer;
use crate::hooks::{plain, policy, webhook};
use crate::wire::peer::{until, within};

/// One in the background, and one that a call waits for.
pub fn hooks(server: &HookServer) -> String {
    let hooks = [webhook("announce", "PostStart", server, &plain()), webhook("drain", "PreStop", server, &plain())];
    policy("watch-web", &hooks)
}

/// See the module.
pub struct Life<'a> {
    pub node: Node,
    server: &'a HookServer,
}

impl<'a> Life<'a> {
    /// Starts the node.
    pub async fn begin(place: &Place, server: &'a HookServer) -> Self {
        Self::of(place.start().await, server)
    }

    /// On a node that runs.
    pub fn of(node: Node, server: &'a HookServer) -> Self {
        Self { node, server }
    }

    /// A pod from its beginning to its end: no call fails, and each of its hooks is run once.
    pub async fn pod(&self, name: &str) {
        let made = within("a pod that starts", self.node.running(name, &[])).await;
        until(&format!("PostStart of {name}"), || async {
            let told = self.told(name);
            if told == ["announce"] { Ok(()) } else { Err(told) }
        })
        .await;
        within("a container that stops", self.node.cri.stop(&made.id, 30)).await.expect("stopped");
        assert_eq!(self.told(name), ["announce", "drain"]);
        within("a sandbox that stops", self.node.cri.stop_pod(&made.sandbox)).await.expect("stopped");
        within("a sandbox that goes", self.node.cri.remove_pod(&made.sandbox)).await.expect("removed");
    }

    /// The hooks of that pod that the server has heard of, in order.
    fn told(&self, pod: &str) -> Vec<String> {
        let all = self.server.delivered();
        all.iter().filter(|delivered| delivered.pod() == pod).map(|delivered| delivered.hook().to_owned()).collect()
    }

    /// Waits until people are told that the journal is not safe, in these words: by the metric, by readiness, which it does not end, and in the log.
    pub async fn is_degraded(&self, words: &[&str]) {
        self.node.wait_metric("crihook_journal_degraded", &[], 1.0).await;
        until(&format!("readiness that says {words:?}"), || async {
            let (code, text) = self.node.readiness().await;
            let line = text.lines().find(|line| line.contains("journal")).unwrap_or_default().to_owned();
            let told = code == 200 && line.contains("degraded") && words.iter().all(|word| line.contains(word));
            if told { Ok(()) } else { Err((code, text)) }
        })
        .await;
        until(&format!("a line of the log that says {words:?}"), || async {
            let lines = self.node.crihook.lines_at(&["ERROR", "WARN"]);
            let says = |line: &Value| {
                line["message"].as_str().is_some_and(|text| words.iter().all(|word| text.contains(word)))
            };
            if lines.iter().any(says) { Ok(()) } else { Err(lines) }
        })
        .await;
    }

    /// Waits until people are told that all is well.
    pub async fn is_well(&self) {
        self.node.wait_metric("crihook_journal_degraded", &[], 0.0).await;
        let (code, text) = self.node.readiness().await;
        assert!(code == 200 && text.contains("journal") && !text.contains("degraded"), "{text}");
    }

    /// Waits until the history has both hooks of each of these pods, once and succeeded, and nothing else.
    pub async fn is_remembered(&self, pods: &[&str]) {
        let mut expected: Vec<_> = pods
            .iter()
            .flat_map(|pod| [json!([pod, "announce", "succeeded"]), json!([pod, "drain", "succeeded"])])
            .collect();
        expected.sort_by_key(Value::to_string);
        until(&format!("a history of {pods:?}"), || async {
            let all = self.node.history().await.unwrap_or_default();
            let mut all: Vec<_> = all.iter().map(|run| json!([run["pod"], run["hook"], run["outcome"]])).collect();
            all.sort_by_key(Value::to_string);
            if all == expected { Ok(()) } else { Err(all) }
        })
        .await;
    }
}

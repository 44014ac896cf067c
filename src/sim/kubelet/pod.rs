//! The pod that the scripted kubelet knows: two containers, described as the kubelet describes them.

use std::collections::HashMap;

use crate::cri::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainerConfig, LinuxContainerResources,
    LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata,
};
use crate::sim::STOP_TAKES;

const NAME: &str = "web";
const NAMESPACE: &str = "payments";
const UID: &str = "6c7b1f1e-0c1c-4e0a-9a53-7d1f6f2b3a10";

/// A container of the pod.
pub(super) struct Member {
    pub name: &'static str,
    pub image: &'static str,
    /// How long it takes to exit.
    stop_takes: &'static str,
    ports: &'static str,
    /// Its preStop hook, which the kubelet runs by `ExecSync`; empty for none.
    pub pre_stop: &'static [&'static str],
}

pub(super) const CONTAINERS: [Member; 2] = [
    Member {
        name: "main",
        image: "registry.example/payments/web:2.7.1",
        stop_takes: "120ms",
        ports: r#"[{"name":"http","containerPort":8080,"protocol":"TCP"}]"#,
        pre_stop: &["/bin/sleep", "0.05"],
    },
    Member {
        name: "sidecar",
        image: "registry.example/mesh/proxy:1.4.0",
        stop_takes: "40ms",
        ports: "[]",
        pre_stop: &[],
    },
];

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The labels that the kubelet adds to everything of a pod.
fn labels() -> HashMap<String, String> {
    map(&[("io.kubernetes.pod.name", NAME), ("io.kubernetes.pod.namespace", NAMESPACE), ("io.kubernetes.pod.uid", UID)])
}

/// Whether something with these labels belongs to the pod.
pub(super) fn is_member(labels: &HashMap<String, String>) -> bool {
    labels.get("io.kubernetes.pod.uid").is_some_and(|uid| uid == UID)
}

/// The pod's sandbox; each attempt is another sandbox of the same pod.
pub(super) fn sandbox(attempt: u32) -> PodSandboxConfig {
    let mut all = labels();
    all.insert("app".to_owned(), NAME.to_owned());
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: NAME.to_owned(),
            uid: UID.to_owned(),
            namespace: NAMESPACE.to_owned(),
            attempt,
        }),
        hostname: NAME.to_owned(),
        log_directory: format!("/var/log/pods/{NAMESPACE}_{NAME}_{UID}"),
        labels: all,
        annotations: map(&[("kubernetes.io/config.source", "api")]),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_")),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

impl Member {
    /// What `CreateContainer` is asked for; `image_id` is what the pull has answered.
    pub fn config(&self, image_id: &str) -> ContainerConfig {
        let mut own = labels();
        own.insert("io.kubernetes.container.name".to_owned(), self.name.to_owned());
        let mut annotations = map(&[
            ("io.kubernetes.container.hash", "5d1c0f2a"),
            ("io.kubernetes.container.restartCount", "0"),
            ("io.kubernetes.container.ports", self.ports),
            ("io.kubernetes.pod.terminationGracePeriod", "30"),
            (STOP_TAKES, self.stop_takes),
        ]);
        if !self.pre_stop.is_empty() {
            let handler = serde_json::json!({"exec": {"command": self.pre_stop}}).to_string();
            annotations.insert("io.kubernetes.container.preStopHandler".to_owned(), handler);
        }
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: self.name.to_owned(), attempt: 0 }),
            image: Some(ImageSpec {
                image: image_id.to_owned(),
                user_specified_image: self.image.to_owned(),
                ..ImageSpec::default()
            }),
            labels: own,
            annotations,
            log_path: format!("{}/0.log", self.name),
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    cpu_period: 100_000,
                    cpu_quota: 50_000,
                    cpu_shares: 256,
                    memory_limit_in_bytes: 128 << 20,
                    ..LinuxContainerResources::default()
                }),
            }),
            ..ContainerConfig::default()
        }
    }
}

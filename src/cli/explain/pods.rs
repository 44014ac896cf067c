//! Whom an explanation is about: a pod as a manifest or the runtime describes it.

use std::time::Duration;

use crate::lifecycle::{Container, Pod};

/// A pod and what is known of its containers.
#[derive(Debug, Clone, Default)]
pub(super) struct Described {
    /// The Kubernetes kind that it was found in.
    pub kind: String,
    /// As hooks see it.
    pub pod: Pod,
    /// The class that it asks for, where only that is known and not the handler.
    pub runtime_class: Option<String>,
    /// Its grace period; `None`: nothing is said.
    pub grace: Option<Duration>,
    /// In the order of their starts.
    pub members: Vec<Member>,
}

/// A container of a pod.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub kind: Kind,
    /// As hooks see it.
    pub container: Container,
    /// Whether the pod spec has a preStop hook for it.
    pub own_pre_stop: bool,
}

/// What a container is in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Kind {
    /// Runs to its end before others start.
    Init,
    /// An init container that goes on running.
    Sidecar,
    /// One of the pod's own.
    Container,
    /// Added to a running pod.
    Ephemeral,
}

impl Kind {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Init => "init container",
            Self::Sidecar => "sidecar container",
            Self::Container => "container",
            Self::Ephemeral => "ephemeral container",
        }
    }
}

impl Described {
    /// What the runtime knows: of the pod's containers, just this one.
    pub fn of_running(pod: Pod, container: Container) -> Self {
        const OWN: &str = "io.kubernetes.container.preStopHandler";
        let (grace, own_pre_stop) = (container.grace(), container.annotations.contains_key(OWN));
        let member = Member { kind: Kind::Container, container, own_pre_stop };
        Self { kind: String::new(), pod, runtime_class: None, grace, members: vec![member] }
    }
}

//! What happens to pods and containers, in plain types: no gRPC, no YAML, no metrics.
//!
//! An [`Event`] is a [`Point`] (before or after one of eight calls) together with the [`Pod`] and the [`Container`] it happens to.
//! What became of a hook's run for it is an [`Outcome`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::trace::Context;

/// Before a call is passed on, or after it has succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Before the runtime hears of the call.
    Pre,
    /// After the runtime has done it.
    Post,
}

/// The calls that change the life of a container or a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "CRI's own names")]
pub enum Call {
    RunPodSandbox,
    CreateContainer,
    StartContainer,
    UpdateContainerResources,
    StopContainer,
    RemoveContainer,
    StopPodSandbox,
    RemovePodSandbox,
}

/// A moment that hooks can be bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Point {
    /// Before or after.
    pub stage: Stage,
    /// Which call.
    pub call: Call,
}

macro_rules! points {
    ($($call:ident),*) => {
        impl Call {
            /// All eight, in the order of a pod's life.
            pub const ALL: [Self; 8] = [$(Self::$call),*];

            /// CRI's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$call => stringify!($call)),* }
            }
        }

        impl Point {
            /// All sixteen, in the order of a pod's life.
            pub const ALL: [Self; 16] = [$(
                Self { stage: Stage::Pre, call: Call::$call },
                Self { stage: Stage::Post, call: Call::$call },
            )*];

            /// As it is written in policies, labels and events: `PreStopContainer`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match (self.stage, self.call) { $(
                    (Stage::Pre, Call::$call) => concat!("Pre", stringify!($call)),
                    (Stage::Post, Call::$call) => concat!("Post", stringify!($call)),
                )* }
            }
        }
    };
}
points!(
    RunPodSandbox,
    CreateContainer,
    StartContainer,
    UpdateContainerResources,
    StopContainer,
    RemoveContainer,
    StopPodSandbox,
    RemovePodSandbox
);

impl Call {
    /// Whether it concerns one container, and not a sandbox.
    #[must_use]
    pub const fn is_container(self) -> bool {
        !matches!(self, Self::RunPodSandbox | Self::StopPodSandbox | Self::RemovePodSandbox)
    }
}

impl Point {
    /// Right after a container was started: Kubernetes' `PostStart`.
    pub const POST_START: Self = Self { stage: Stage::Post, call: Call::StartContainer };
    /// Right before a container is stopped: Kubernetes' `PreStop`.
    pub const PRE_STOP: Self = Self { stage: Stage::Pre, call: Call::StopContainer };

    /// Before `call`.
    #[must_use]
    pub const fn pre(call: Call) -> Self {
        Self { stage: Stage::Pre, call }
    }

    /// After `call` has succeeded.
    #[must_use]
    pub const fn post(call: Call) -> Self {
        Self { stage: Stage::Post, call }
    }

    /// A number below 16: the place in [`Point::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.call as usize * 2 + self.stage as usize
    }
}

impl From<Point> for String {
    fn from(point: Point) -> Self {
        point.name().to_owned()
    }
}

impl TryFrom<String> for Point {
    type Error = UnknownPoint;

    fn try_from(text: String) -> Result<Self, UnknownPoint> {
        text.parse()
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No point has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a point; write Pre or Post and one of RunPodSandbox, CreateContainer, StartContainer, UpdateContainerResources, StopContainer, RemoveContainer, StopPodSandbox, RemovePodSandbox (PostStart and PreStop are short for PostStartContainer and PreStopContainer)"
)]
pub struct UnknownPoint(pub String);

impl FromStr for Point {
    type Err = UnknownPoint;

    fn from_str(text: &str) -> Result<Self, UnknownPoint> {
        match text {
            "PostStart" => Ok(Self::POST_START),
            "PreStop" => Ok(Self::PRE_STOP),
            _ => Self::ALL.into_iter().find(|p| p.name() == text).ok_or_else(|| UnknownPoint(text.to_owned())),
        }
    }
}

/// A pod as the runtime knows it: by its sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// As in `kubectl -n NAMESPACE`.
    pub namespace: String,
    /// As in `kubectl get pods`.
    pub name: String,
    /// The API server's id of it.
    pub uid: String,
    /// How often the kubelet has made a sandbox for this pod before.
    pub attempt: u32,
    /// The runtime's id of its sandbox; empty before there is one.
    pub sandbox_id: String,
    /// The pod's labels, those that the kubelet adds included.
    pub labels: BTreeMap<String, String>,
    /// The pod's annotations.
    pub annotations: BTreeMap<String, String>,
    /// The runtime handler it was asked to run with (`""` is the runtime's default); `None` while unknown.
    pub runtime_handler: Option<String>,
}

/// A container of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// The runtime's id; empty before there is one.
    pub id: String,
    /// As in the pod spec.
    pub name: String,
    /// The name the user wrote, else the one in the container's status.
    pub image: String,
    /// How often the kubelet has made this container before.
    pub attempt: u32,
    /// As the kubelet wrote them: its own `io.kubernetes.container.*` among them.
    pub annotations: BTreeMap<String, String>,
}

/// A container's annotation: its ports by name, as JSON.
const PORTS: &str = "io.kubernetes.container.ports";
/// A container's annotation: the grace period of its pod, in seconds.
const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

impl Container {
    /// The number of the port that the pod spec calls `name`.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<u16> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Port {
            #[serde(default)]
            name: String,
            container_port: u16,
        }
        let ports: Vec<Port> = serde_json::from_str(self.annotations.get(PORTS)?).ok()?;
        ports.into_iter().find(|port| port.name == name).map(|port| port.container_port)
    }

    /// The grace period of its pod's spec, if the kubelet wrote it down.
    #[must_use]
    pub fn grace(&self) -> Option<Duration> {
        // In 32 bits: no sum with a time overflows.
        self.annotations.get(GRACE)?.parse::<u32>().ok().map(|seconds| Duration::from_secs(seconds.into()))
    }
}

/// A moment in the life of a pod or a container.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When in that life.
    pub point: Point,
    /// Whose.
    pub pod: Arc<Pod>,
    /// At a container's points, which.
    pub container: Option<Arc<Container>>,
    /// At `PreStop`: what of the grace period hooks may use.
    pub grace: Option<Duration>,
    /// When it happened.
    pub at: Moment,
    /// What the spans of its hooks are below, if the call was traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Context>,
}

impl Event {
    /// What runs are ordered by and remembered for: the container's id, else the sandbox's. Before they have one, what the kubelet
    /// names them by.
    #[must_use]
    pub fn subject(&self) -> String {
        match &self.container {
            Some(container) if container.id.is_empty() => {
                format!("{}/{}/{}", self.pod.sandbox_id, container.name, container.attempt)
            }
            Some(container) => container.id.clone(),
            None if self.pod.sandbox_id.is_empty() => format!("pod/{}/{}", self.pod.uid, self.pod.attempt),
            None => self.pod.sandbox_id.clone(),
        }
    }
}

/// An annotation of a pod that kubectl makes: a copy of what was applied, with the environment of its containers. It stays on the node and off the disk.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A pod's grace period where its spec does not say.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// What a container that is stopped is left in any case, if so much was asked for: the kubelet's own minimum
/// (`kuberuntime_container.go`, `minimumGracePeriodInSeconds`).
pub const LEAST_GRACE: Duration = Duration::from_secs(2);

/// Where a pod can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// The pod's own.
    Pod(IpAddr),
    /// It shares the node's network.
    Node,
    /// It has none, or none any more.
    Nowhere,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The handler did what it was to do.
    Succeeded,
    /// It did not, in any of its attempts.
    Failed,
    /// It was cut at its timeout or at the end of its budget.
    TimedOut,
    /// The call it belonged to was cancelled.
    Cancelled,
    /// It made no sense any more.
    Abandoned,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Succeeded, Self::Failed, Self::TimedOut, Self::Cancelled, Self::Abandoned];

    /// As labels and documents spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Abandoned => "abandoned",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_as_they_are_written_and_in_kubernetes_words() {
        for (n, point) in Point::ALL.into_iter().enumerate() {
            assert_eq!(point.name().parse(), Ok(point));
            assert_eq!(point.index(), n);
        }
        assert_eq!("PostStart".parse(), Ok(Point::post(Call::StartContainer)));
        assert_eq!("PreStop".parse(), Ok(Point::pre(Call::StopContainer)));
        assert!("PreVersion".parse::<Point>().unwrap_err().to_string().contains("`PreVersion` is not a point"));
    }

    #[test]
    fn ports_are_found_by_the_name_in_the_pod_spec() {
        let ports = r#"[{"name":"http","containerPort":8080,"protocol":"TCP"},{"containerPort":9}]"#;
        let container = Container { annotations: [(PORTS.into(), ports.into())].into(), ..Container::default() };
        assert_eq!((container.port("http"), container.port("admin")), (Some(8080), None));
        assert_eq!(Container::default().port("http"), None);
    }
}

//! The methods of CRI v1, as paths on the wire and as bounded labels.
//!
//! Any path can be forwarded; only the ones listed here have a name of their own. Everything else shares the labels
//! `other`, so that a peer that invents methods cannot grow the metrics.

/// The label of a service or method that CRI v1 does not have.
pub const OTHER: &str = "other";

/// Which of CRI's two services a path belongs to. It decides which endpoint the call goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// `runtime.v1.RuntimeService`: pods and containers.
    Runtime,
    /// `runtime.v1.ImageService`: images.
    Image,
    /// Any other service. It goes where `RuntimeService` goes.
    Other,
}

impl Service {
    /// The full name on the wire, as gRPC's own metrics label it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Runtime => "runtime.v1.RuntimeService",
            Self::Image => "runtime.v1.ImageService",
            Self::Other => OTHER,
        }
    }
}

/// A method of CRI v1, or one of the three `other` places for what it does not know.
///
/// It is an index into a table that is fixed at compile time: copying, comparing and using it as an array index cost nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method(u8);

/// CRI v1 as of Kubernetes 1.36.
const TABLE: [(Service, &str); 44] = {
    use Service::{Image, Other, Runtime};
    [
        (Runtime, "Version"),
        (Runtime, "RunPodSandbox"),
        (Runtime, "StopPodSandbox"),
        (Runtime, "RemovePodSandbox"),
        (Runtime, "PodSandboxStatus"),
        (Runtime, "ListPodSandbox"),
        (Runtime, "StreamPodSandboxes"),
        (Runtime, "CreateContainer"),
        (Runtime, "StartContainer"),
        (Runtime, "StopContainer"),
        (Runtime, "RemoveContainer"),
        (Runtime, "ListContainers"),
        (Runtime, "StreamContainers"),
        (Runtime, "ContainerStatus"),
        (Runtime, "UpdateContainerResources"),
        (Runtime, "ReopenContainerLog"),
        (Runtime, "ExecSync"),
        (Runtime, "Exec"),
        (Runtime, "Attach"),
        (Runtime, "PortForward"),
        (Runtime, "ContainerStats"),
        (Runtime, "ListContainerStats"),
        (Runtime, "StreamContainerStats"),
        (Runtime, "PodSandboxStats"),
        (Runtime, "ListPodSandboxStats"),
        (Runtime, "StreamPodSandboxStats"),
        (Runtime, "UpdateRuntimeConfig"),
        (Runtime, "Status"),
        (Runtime, "CheckpointContainer"),
        (Runtime, "GetContainerEvents"),
        (Runtime, "ListMetricDescriptors"),
        (Runtime, "ListPodSandboxMetrics"),
        (Runtime, "StreamPodSandboxMetrics"),
        (Runtime, "RuntimeConfig"),
        (Runtime, "UpdatePodSandboxResources"),
        (Image, "ListImages"),
        (Image, "StreamImages"),
        (Image, "ImageStatus"),
        (Image, "PullImage"),
        (Image, "RemoveImage"),
        (Image, "ImageFsInfo"),
        (Runtime, OTHER),
        (Image, OTHER),
        (Other, OTHER),
    ]
};

/// The calls that some policy may ask to intercept: the eight that change a container's or a sandbox's life.
const LIFECYCLE: [&str; 8] = [
    "RunPodSandbox",
    "CreateContainer",
    "StartContainer",
    "UpdateContainerResources",
    "StopContainer",
    "RemoveContainer",
    "StopPodSandbox",
    "RemovePodSandbox",
];

impl Method {
    /// How many different values there are: an array of this length can be indexed by [`Method::index`].
    pub const COUNT: usize = TABLE.len();

    const RUNTIME_OTHER: u8 = 41;
    const IMAGE_OTHER: u8 = 42;
    const OTHER: u8 = 43;

    /// Reads the `:path` of a gRPC request (`/package.Service/Method`).
    #[must_use]
    pub fn from_path(path: &str) -> Self {
        if let Some(name) = path.strip_prefix("/runtime.v1.RuntimeService/") {
            Self::position(Service::Runtime, name).unwrap_or(Self(Self::RUNTIME_OTHER))
        } else if let Some(name) = path.strip_prefix("/runtime.v1.ImageService/") {
            Self::position(Service::Image, name).unwrap_or(Self(Self::IMAGE_OTHER))
        } else {
            Self(Self::OTHER)
        }
    }

    fn position(service: Service, name: &str) -> Option<Self> {
        let at = TABLE[..usize::from(Self::RUNTIME_OTHER)].iter().position(|&(s, n)| s == service && n == name)?;
        u8::try_from(at).ok().map(Self)
    }

    /// Every value, CRI's own order first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0u8..).take(Self::COUNT).map(Self)
    }

    /// The service it belongs to.
    #[must_use]
    pub fn service(self) -> Service {
        TABLE[self.index()].0
    }

    /// The method's name, or `other`.
    #[must_use]
    pub fn name(self) -> &'static str {
        TABLE[self.index()].1
    }

    /// A number below [`Method::COUNT`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Whether a call of it lasts as long as its client wants: it is counted, not timed, and ends when a drain starts.
    #[must_use]
    pub fn is_endless(self) -> bool {
        self.name() == "GetContainerEvents"
    }

    /// Whether hooks can be attached to it.
    #[must_use]
    pub fn is_lifecycle(self) -> bool {
        LIFECYCLE.contains(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_paths_have_their_own_name() {
        for method in Method::all().filter(|m| m.name() != OTHER) {
            let path = format!("/{}/{}", method.service().name(), method.name());
            assert_eq!(Method::from_path(&path), method, "{path}");
        }
    }

    #[test]
    fn unknown_paths_share_other_but_keep_their_service() {
        let of = |path| {
            let method = Method::from_path(path);
            (method.service(), method.name())
        };
        assert_eq!(of("/runtime.v1.RuntimeService/Invented"), (Service::Runtime, OTHER));
        assert_eq!(of("/runtime.v1.ImageService/Version"), (Service::Image, OTHER), "a method of the other service");
        assert_eq!(of("/runtime.v1.RuntimeService/other"), (Service::Runtime, OTHER));
        assert_eq!(of("/runtime.v1alpha2.RuntimeService/Version"), (Service::Other, OTHER));
        assert_eq!(of("*"), (Service::Other, OTHER));
    }
}

//! What requests say of pods and containers.

use crate::cri::v1::{CreateContainerRequest, PodSandboxConfig, RunPodSandboxRequest};
use crate::lifecycle::{Container, Pod};

/// The pod that is to have a sandbox; it has no id yet. `None` if the request does not name it.
#[must_use]
pub fn new_pod(request: &RunPodSandboxRequest) -> Option<Pod> {
    pod(request.config.as_ref()?, String::new(), Some(request.runtime_handler.clone()))
}

/// The pod that a container is made in, as far as the request says: without the runtime handler. `None` if it does not name it.
#[must_use]
pub fn pod_of(request: &CreateContainerRequest) -> Option<Pod> {
    pod(request.sandbox_config.as_ref()?, request.pod_sandbox_id.clone(), None)
}

fn pod(config: &PodSandboxConfig, sandbox_id: String, runtime_handler: Option<String>) -> Option<Pod> {
    let metadata = config.metadata.as_ref()?;
    Some(Pod {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        attempt: metadata.attempt,
        sandbox_id,
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        runtime_handler,
    })
}

/// The container that is to be made; it has no id yet. `None` if the request does not name it.
#[must_use]
pub fn container(request: &CreateContainerRequest) -> Option<Container> {
    let config = request.config.as_ref()?;
    let metadata = config.metadata.as_ref()?;
    Some(Container {
        id: String::new(),
        name: metadata.name.clone(),
        image: config.image.as_ref().map(|spec| spec.name_for_people().to_owned()).unwrap_or_default(),
        attempt: metadata.attempt,
        annotations: config.annotations.clone().into_iter().collect(),
    })
}

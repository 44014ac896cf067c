//! Which pods and containers the ids in CRI calls stand for.
//!
//! What crihook sees created it remembers. What it never saw, as after a restart, it asks the runtime for when it is first needed. So
//! nothing here has to survive, and forgetting is always safe: at its cap the inventory forgets everything and asks again.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::lifecycle::{Container, Pod};

/// Sandboxes, and containers, that are remembered at most: some forty times what a node runs.
const CAP: usize = 10_000;

/// A future that a trait object gives.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the runtime is asked about pods and containers, and the one thing that it is told. `Ok(None)`: there is no such one.
pub trait Runtime: Send + Sync {
    /// The container with this id, or the only one whose id begins so.
    fn container(&self, id: &str) -> Boxed<'_, Result<Option<Member>, String>>;
    /// The sandbox with this id, or the only one whose id begins so.
    fn sandbox(&self, id: &str) -> Boxed<'_, Result<Option<Pod>, String>>;
    /// What the container does now. `Ok(None)`: there is no such one.
    fn state(&self, container: &str) -> Boxed<'_, Result<Option<State>, String>>;
    /// How the container has ended. `Ok(None)`: it has not, or there is no such one.
    fn exit(&self, container: &str) -> Boxed<'_, Result<Option<Exit>, String>>;
    /// Whether the sandbox is up. `Ok(None)`: there is no such one.
    fn is_ready(&self, sandbox: &str) -> Boxed<'_, Result<Option<bool>, String>>;
    /// The id of the sandbox that was made for this attempt at a pod, and whether it is up.
    fn find_sandbox(&self, pod_uid: &str, attempt: u32) -> Boxed<'_, Result<Option<(String, bool)>, String>>;
    /// The id of the container that was made for this attempt at a container of a pod.
    fn find_container(&self, sandbox: &str, name: &str, attempt: u32) -> Boxed<'_, Result<Option<String>, String>>;
    /// The ids of the containers that run in a sandbox now.
    fn running_in(&self, sandbox: &str) -> Boxed<'_, Result<Vec<String>, String>>;
    /// Stops a container, with this grace, rounded up to seconds.
    fn stop(&self, container: &str, grace: Duration) -> Boxed<'_, Result<(), String>>;
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was made, and not started.
    Created,
    /// It was started.
    Running,
    /// It has ended.
    Exited,
    /// The runtime does not know.
    Unknown,
}

/// How a container has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// As a shell tells it: 128 and the number of the signal that ended it, if one did.
    pub code: i32,
    /// When, by the runtime's clock.
    pub at: SystemTime,
}

/// A container, and the sandbox it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The container.
    pub container: Arc<Container>,
    /// The runtime's id of its sandbox.
    pub sandbox_id: String,
}

/// See the module.
pub struct Inventory {
    runtime: Arc<dyn Runtime>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    pods: HashMap<String, Arc<Pod>>,
    members: HashMap<String, Member>,
}

impl Inventory {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime, known: Mutex::default() }
    }

    /// The runtime that it asks.
    #[must_use]
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }

    /// No panic can leave it half changed.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a sandbox that was just made.
    pub fn learn_pod(&self, pod: &Arc<Pod>) {
        let mut known = self.known();
        if known.pods.len() >= CAP {
            known.pods.clear();
        }
        known.pods.insert(pod.sandbox_id.clone(), Arc::clone(pod));
    }

    /// Remembers a container that was just made.
    pub fn learn_container(&self, member: Member) {
        let mut known = self.known();
        if known.members.len() >= CAP {
            known.members.clear();
        }
        known.members.insert(member.container.id.clone(), member);
    }

    /// The pod of a sandbox. `Ok(None)`: there is no such sandbox.
    ///
    /// # Errors
    /// Fails if it is not known here and the runtime cannot say.
    pub async fn pod(&self, sandbox: &str) -> Result<Option<Arc<Pod>>, String> {
        if let Some(pod) = self.known().pods.get(sandbox) {
            return Ok(Some(Arc::clone(pod)));
        }
        let found = self.runtime.sandbox(sandbox).await?.map(Arc::new);
        if let Some(pod) = &found {
            self.learn_pod(pod);
        }
        Ok(found)
    }

    /// A container and its pod. `Ok(None)`: there is no such container, or no sandbox of it any more.
    ///
    /// # Errors
    /// Fails if it is not known here and the runtime cannot say.
    pub async fn container(&self, id: &str) -> Result<Option<(Arc<Pod>, Arc<Container>)>, String> {
        let known = self.known().members.get(id).cloned();
        let member = match known {
            Some(member) => member,
            None => match self.runtime.container(id).await? {
                Some(member) => {
                    self.learn_container(member.clone());
                    member
                }
                None => return Ok(None),
            },
        };
        Ok(self.pod(&member.sandbox_id).await?.map(|pod| (pod, member.container)))
    }

    /// The container is gone.
    pub fn forget_container(&self, id: &str) {
        self.known().members.remove(id);
    }

    /// The sandbox is gone, and with it whatever was in it. Gives the ids of the containers that were.
    pub fn forget_pod(&self, sandbox: &str) -> Vec<String> {
        let mut known = self.known();
        known.pods.remove(sandbox);
        let gone = known.members.extract_if(|_, member| member.sandbox_id == sandbox);
        gone.map(|(id, _)| id).collect()
    }
}

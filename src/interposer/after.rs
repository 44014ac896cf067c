//! What follows from the runtime's answer.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::settle::is_doubtful;
use super::{Interposer, Watched};
use crate::cri::Code;
use crate::cri::v1::{CreateContainerResponse, RunPodSandboxResponse};
use crate::hooks::engine::{Bound, Fired, Promise, Rejection};
use crate::inventory::Member;
use crate::lifecycle::{Call, Container, DEFAULT_GRACE, LEAST_GRACE, Pod, Point};
use crate::proxy::{Answer, Asked, Judged, Status, Witness};
use crate::trace::Context;

/// Waits for the runtime's answer to a call that was let pass. Dropped without one, it has somebody find out what became of the call, if anything
/// depends on that.
pub(super) struct Afterwards {
    interposer: Interposer,
    watched: Watched,
    promise: Option<Promise>,
}

impl Afterwards {
    pub fn new(interposer: Interposer, watched: Watched, mut promise: Option<Promise>) -> Self {
        if let Some(promise) = &mut promise {
            promise.hold();
        }
        Self { interposer, watched, promise }
    }

    async fn judge(mut self, answer: Answer) -> Judged {
        if answer.code != Code::OK {
            if !is_doubtful(answer.code)
                && let Some(promise) = self.promise.take()
            {
                promise.broken();
            }
            return Judged { replaced: None, waited: Duration::ZERO };
        }
        let made = made(self.watched.kind, &answer);
        let (interposer, watched, promise) = (self.interposer.clone(), self.watched.clone(), self.promise.take());
        drop(self);
        let hooks = watched.plan(Point::post(watched.kind));
        let began = Instant::now();
        let (fired, replaced) = interposer.succeeded(watched, made, promise, hooks).await;
        // What was promised is on its way before the client may believe that all is done.
        if fired.queued {
            interposer.0.engine.recorded().await;
        }
        let waited = if fired.ran || fired.queued { began.elapsed() } else { Duration::ZERO };
        Judged { replaced, waited }
    }
}

impl Drop for Afterwards {
    fn drop(&mut self) {
        if let Some(promise) = self.promise.take() {
            let hooks = self.watched.plan(Point::post(self.watched.kind));
            self.interposer.settle(promise, self.watched.clone(), hooks);
        }
    }
}

impl Witness for Afterwards {
    fn after(self: Box<Self>, answer: Answer) -> Asked<Judged> {
        let handle = self.interposer.0.handle.clone();
        let log = Context::log(self.watched.trace.as_ref());
        let judging = AbortOnDropHandle::new(handle.spawn(self.judge(answer).instrument(log)));
        Box::pin(async move {
            // It fails if it panicked, which the log has told, or when crihook ends.
            judging.await.unwrap_or(Judged { replaced: None, waited: Duration::ZERO })
        })
    }
}

/// The id of what the call has made.
fn made(kind: Call, answer: &Answer) -> Option<String> {
    match kind {
        Call::RunPodSandbox => Some(RunPodSandboxResponse::decode(&*answer.message).ok()?.pod_sandbox_id),
        Call::CreateContainer => Some(CreateContainerResponse::decode(&*answer.message).ok()?.container_id),
        _ => None,
    }
}

impl Interposer {
    /// The runtime has done what it was asked, and `made` what has this id: fires the hooks after that. Gives what the client is told
    /// in place of the runtime's answer, if it is.
    pub(super) async fn succeeded(
        &self,
        mut watched: Watched,
        made: Option<String>,
        promise: Option<Promise>,
        hooks: Vec<Arc<Bound>>,
    ) -> (Fired, Option<Status>) {
        let unmade = watched.event(Point::pre(watched.kind), self.0.engine.clock().now()).subject();
        if let Some(id) = made {
            self.learn(&mut watched, id);
        }
        let point = Point::post(watched.kind);
        let event = watched.event(point, self.0.engine.clock().now());
        let subject = event.subject();
        let mut fired = self.0.engine.follow(promise, event, hooks, watched.limits()).await;
        let verdict = std::mem::replace(&mut fired.verdict, Ok(()));
        let replaced = match verdict {
            Err(rejection) if point == Point::POST_START => Some(self.undo_start(&watched, rejection).await),
            _ => None,
        };
        self.forget(watched.kind, &subject, &unmade);
        (fired, replaced)
    }

    /// What was made has an id now.
    fn learn(&self, watched: &mut Watched, id: String) {
        let subject = &mut watched.subject;
        if watched.kind == Call::RunPodSandbox {
            subject.pod = Arc::new(Pod { sandbox_id: id, ..Pod::clone(&subject.pod) });
            self.0.inventory.learn_pod(&subject.pod);
        } else if let Some(container) = &subject.container {
            let container = Arc::new(Container { id, ..Container::clone(container) });
            let sandbox_id = subject.pod.sandbox_id.clone();
            self.0.inventory.learn_container(Member { container: Arc::clone(&container), sandbox_id });
            subject.container = Some(container);
        }
    }

    /// What is gone needs no memory, nor does what was `unmade` and has another name now.
    fn forget(&self, kind: Call, subject: &str, unmade: &str) {
        let inner = &self.0;
        match kind {
            Call::RunPodSandbox | Call::CreateContainer if subject != unmade => inner.engine.forget(unmade),
            Call::RemoveContainer => {
                inner.inventory.forget_container(subject);
                inner.graces.forget(subject);
                inner.engine.forget(subject);
            }
            Call::RemovePodSandbox => {
                for container in inner.inventory.forget_pod(subject) {
                    inner.graces.forget(&container);
                    inner.engine.forget(&container);
                }
                inner.engine.forget(subject);
            }
            _ => {}
        }
    }

    /// A blocking `PostStart` that must not fail has failed: the container is stopped, whether or not the client still waits for that.
    pub(super) async fn undo_start(&self, watched: &Watched, rejection: Rejection) -> Status {
        let (interposer, watched) = (self.clone(), watched.clone());
        let guard = interposer.0.drain.guard();
        let log = Context::log(watched.trace.as_ref());
        let undo = async move {
            let stopped = tokio::select! {
                stopped = stop_started(&interposer, &watched) => stopped,
                () = interposer.0.drain.forced().cancelled() => Err("crihook is ending".to_owned()),
            };
            drop(guard);
            stopped
        };
        let undoing = tokio::spawn(undo.instrument(log));
        let stopped = undoing.await.unwrap_or_else(|error| Err(error.to_string()));
        let what = match stopped {
            Ok(()) => "the container was started and stopped again".to_owned(),
            Err(why) => {
                tracing::error!("cannot stop a container whose PostStart failed: {why}");
                "the container was started, and could not be stopped again".to_owned()
            }
        };
        Status::failed_precondition(format!("{what}, for PostStart failed: {rejection}"))
    }
}

/// As the kubelet would, `PreStop` and grace included, as far as the call's deadline allows.
async fn stop_started(interposer: &Interposer, watched: &Watched) -> Result<(), String> {
    let Some(container) = &watched.subject.container else { return Ok(()) };
    let began = Instant::now();
    let most = watched.deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(began));
    let grace = container.grace().unwrap_or(DEFAULT_GRACE).max(LEAST_GRACE).min(most);
    let plan = interposer.pre_stop_plan(watched, true).await;
    interposer.pre_stop(watched, plan, grace).await;
    let left = grace.saturating_sub(began.elapsed()).max(LEAST_GRACE);
    interposer.0.inventory.runtime().stop(&container.id, left).await
}

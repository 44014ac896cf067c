//! What follows from the runtime's answer.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::stop::LEAST;
use super::{Interposer, Watched};
use crate::cri::Code;
use crate::cri::v1::{CreateContainerResponse, RunPodSandboxResponse};
use crate::hooks::engine::Rejection;
use crate::inventory::Member;
use crate::lifecycle::{Call, Container, Pod, Point};
use crate::proxy::{Answer, Asked, Judged, Status, Witness};

/// A pod's grace period where its spec does not say.
const GRACE: Duration = Duration::from_secs(30);

/// Waits for the runtime's answer to a call that was let pass.
pub(super) struct Afterwards {
    interposer: Interposer,
    watched: Watched,
}

impl Afterwards {
    pub fn new(interposer: Interposer, watched: Watched) -> Self {
        Self { interposer, watched }
    }

    async fn judge(mut self, answer: Answer) -> Judged {
        if answer.code != Code::OK {
            return Judged { replaced: None, waited: Duration::ZERO };
        }
        self.learn(&answer);
        let point = Point::post(self.watched.kind);
        let event = self.watched.subject.event(point, None);
        let subject = event.subject();
        let began = Instant::now();
        let fired = self.interposer.0.engine.fire(event, self.watched.plan(point), self.watched.limits()).await;
        let replaced = match fired.verdict {
            Err(rejection) if point == Point::POST_START => Some(self.undo_start(rejection).await),
            _ => None,
        };
        self.forget(&subject);
        Judged { replaced, waited: if fired.ran { began.elapsed() } else { Duration::ZERO } }
    }

    /// What was made has an id now.
    fn learn(&mut self, answer: &Answer) {
        let engine = &self.interposer.0.engine;
        let subject = &mut self.watched.subject;
        match self.watched.kind {
            Call::RunPodSandbox => {
                let Ok(made) = RunPodSandboxResponse::decode(&*answer.message) else { return };
                engine.forget(&subject.event(Point::pre(Call::RunPodSandbox), None).subject());
                subject.pod = Arc::new(Pod { sandbox_id: made.pod_sandbox_id, ..Pod::clone(&subject.pod) });
                self.interposer.0.inventory.learn_pod(&subject.pod);
            }
            Call::CreateContainer => {
                let Ok(made) = CreateContainerResponse::decode(&*answer.message) else { return };
                engine.forget(&subject.event(Point::pre(Call::CreateContainer), None).subject());
                let Some(container) = &subject.container else { return };
                let container = Arc::new(Container { id: made.container_id, ..Container::clone(container) });
                let sandbox_id = subject.pod.sandbox_id.clone();
                self.interposer.0.inventory.learn_container(Member { container: Arc::clone(&container), sandbox_id });
                subject.container = Some(container);
            }
            _ => {}
        }
    }

    /// What is gone needs no memory.
    fn forget(&self, subject: &str) {
        let inner = &self.interposer.0;
        match self.watched.kind {
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
    async fn undo_start(&self, rejection: Rejection) -> Status {
        let (interposer, watched) = (self.interposer.clone(), self.watched.clone());
        let guard = interposer.0.drain.guard();
        let undoing = tokio::spawn(async move {
            let stopped = stop_started(&interposer, &watched).await;
            drop(guard);
            stopped
        });
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
    let Watched { subject, deadline, .. } = watched;
    let Some(container) = &subject.container else { return Ok(()) };
    let began = Instant::now();
    let most = deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(began));
    let grace = container.grace().unwrap_or(GRACE).max(LEAST).min(most);
    let plan = interposer.pre_stop_plan(watched, subject).await;
    interposer.pre_stop(subject, plan, grace, *deadline).await;
    let left = grace.saturating_sub(began.elapsed()).max(LEAST);
    interposer.0.inventory.runtime().stop(&container.id, left).await
}

impl Witness for Afterwards {
    fn after(self: Box<Self>, answer: Answer) -> Asked<Judged> {
        let workshop = self.interposer.0.workshop.clone();
        let judging = AbortOnDropHandle::new(workshop.spawn(self.judge(answer)));
        Box::pin(async move {
            // It fails if it panicked, which the log has told, or when crihook ends.
            judging.await.unwrap_or(Judged { replaced: None, waited: Duration::ZERO })
        })
    }
}

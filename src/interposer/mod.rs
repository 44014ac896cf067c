//! The one bridge between calls and hooks: CRI call → event → hooks → verdict.
//!
//! ```text
//!   before: decode ─▶ who is it? ─▶ plan ─▶ hooks before the call ─▶ pass on (patched, for a stop), or refuse
//!   after:  what did the runtime say? ─▶ learn or forget ─▶ hooks after it ─▶ the runtime's answer, or another
//!   else:   nobody heard what it said ─▶ ask until it is known ─▶ as after it
//! ```
//!
//! The data path asks ([`Interceptor`]) and goes on with other calls; all of the work is done on the other runtime. One set of policies
//! serves a call for all of its life. Whatever cannot be found out lets the call pass: nothing here keeps a pod from going
//! away, and what is not understood is the runtime's to judge.

mod after;
mod recover;
mod request;
mod settle;
mod stop;
mod watched;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::clock::Moment;
use crate::cri::Method;
use crate::drain::Drain;
use crate::hooks::engine::{Active, Bound, Engine, Fired, Limits, Promise, Repeat};
use crate::hooks::pause::Pause;
use crate::hooks::policy::PolicySet;
use crate::identity;
use crate::inventory::Inventory;
use crate::lifecycle::{Call, Container, Event, Pod, Point};
use crate::proxy::{self, Asked, Decision, Interceptor, Status, Verdict};
use crate::trace::Context;

use after::Afterwards;
use request::Request;
use stop::Graces;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Interposer(Arc<Inner>);

struct Inner {
    engine: Arc<Engine>,
    inventory: Arc<Inventory>,
    /// The runtime that does the work.
    handle: Handle,
    /// What a blocking hook leaves of a call's deadline to the runtime.
    reserve: Duration,
    /// The calls that are watched, a bit each, by [`Call`]'s order.
    watched: AtomicU8,
    graces: Graces,
    pause: Pause,
    drain: Drain,
}

/// Whom a call is about.
#[derive(Clone)]
struct Subject {
    pod: Arc<Pod>,
    container: Option<Arc<Container>>,
}

/// A call that is watched, with what is known of it.
#[derive(Clone)]
struct Watched {
    kind: Call,
    active: Arc<Active>,
    subject: Subject,
    /// When blocking hooks of it must be over.
    deadline: Option<Instant>,
    /// What the spans of its hooks are below, if it is traced.
    trace: Option<Context>,
}

impl Watched {
    fn plan(&self, point: Point) -> Vec<Arc<Bound>> {
        self.active.plan(point, &self.subject.pod, self.subject.container.as_deref())
    }

    fn event(&self, point: Point, at: Moment) -> Event {
        let Subject { pod, container } = self.subject.clone();
        Event { point, pod, container, grace: None, at, trace: self.trace.clone() }
    }

    fn limits(&self) -> Limits {
        // A container's resources may be changed any number of times; everything else happens to it once.
        let repeat = if self.kind == Call::UpdateContainerResources { Repeat::Each } else { Repeat::Once };
        Limits { deadline: self.deadline, repeat }
    }
}

impl Interposer {
    /// Must be called within the runtime that is to do the work.
    #[must_use]
    pub fn new(engine: Arc<Engine>, inventory: Arc<Inventory>, reserve: Duration, pause: Pause, drain: Drain) -> Self {
        let (handle, watched, graces) = (Handle::current(), AtomicU8::new(0), Graces::default());
        Self(Arc::new(Inner { engine, inventory, handle, reserve, watched, graces, pause, drain }))
    }

    /// From now on, these policies hold.
    pub fn activate(&self, set: PolicySet) {
        self.0.engine.activate(set);
        let active = self.0.engine.active();
        self.0.watched.store(watched::calls(|point| active.uses(point)), Ordering::Release);
    }

    async fn decide(self, call: proxy::Call, kind: Call) -> Verdict {
        let Some(request) = Request::decode(kind, &call.message) else {
            return verdict(Decision::Undecodable, Duration::ZERO);
        };
        let active = self.0.engine.active();
        let Some(subject) = self.identify(&request).await else { return pass() };
        let deadline = call.deadline.map(|at| Instant::from_std(at.checked_sub(self.0.reserve).unwrap_or(call.seen)));
        let watched = Watched { kind, active, subject, deadline, trace: call.trace };

        self.0.engine.catch_up(&watched.event(Point::pre(kind), self.0.engine.clock().now())).await;
        let promise = self.promise(&watched);
        let began = Instant::now();
        let (fired, patched) = self.hooks_before(&watched, &request, &call.message).await;
        if let Err(rejection) = fired.verdict {
            let refused = Status::failed_precondition(format!("{} refused by {rejection}", kind.name()));
            return verdict(Decision::Refuse(refused), began.elapsed());
        }
        // What is to follow the call is safe before the runtime hears of the call.
        let owes = fired.queued || promise.is_some();
        if owes {
            self.0.engine.recorded().await;
        }
        let waited = if fired.ran || owes { began.elapsed() } else { Duration::ZERO };
        let witness = Some(Box::new(Afterwards::new(self, watched, promise)) as _);
        verdict(Decision::Pass { patched, witness }, waited)
    }

    /// Writes down what is to follow the call if it succeeds.
    fn promise(&self, watched: &Watched) -> Option<Promise> {
        let point = Point::post(watched.kind);
        let event = watched.event(point, self.0.engine.clock().now());
        self.0.engine.promise(&event, &watched.plan(point), watched.limits().repeat)
    }

    /// Everything that runs before the runtime hears of the call, and what it hears in place of the original.
    async fn hooks_before(&self, watched: &Watched, request: &Request, message: &Bytes) -> (Fired, Option<Bytes>) {
        if let Request::StopContainer(stop) = request {
            return self.before_stop(watched, stop, message).await;
        }
        let before = match request {
            Request::RemoveContainer(_) | Request::StopPodSandbox(_) => self.unfinished_pre_stops(watched).await,
            _ => false,
        };
        let point = Point::pre(watched.kind);
        let event = watched.event(point, self.0.engine.clock().now());
        let fired = self.0.engine.fire(event, watched.plan(point), watched.limits()).await;
        (Fired { ran: fired.ran || before, ..fired }, None)
    }

    /// Whom the request is about; `None` if nobody knows, or there is no such one.
    async fn identify(&self, request: &Request) -> Option<Subject> {
        let found = match request {
            Request::RunPodSandbox(run) => {
                Ok(identity::new_pod(run).map(|pod| Subject { pod: Arc::new(pod), container: None }))
            }
            Request::CreateContainer(create) => {
                let known = self.0.inventory.pod(&create.pod_sandbox_id).await;
                // The request itself says all but the runtime handler.
                let pod = known.or_else(|why| identity::pod_of(create).map(|pod| Some(Arc::new(pod))).ok_or(why));
                pod.map(|pod| Some(Subject { pod: pod?, container: Some(Arc::new(identity::container(create)?)) }))
            }
            Request::StopPodSandbox(_) | Request::RemovePodSandbox(_) => {
                let pod = self.0.inventory.pod(request.id()).await;
                pod.map(|pod| Some(Subject { pod: pod?, container: None }))
            }
            _ => self.member(request.id()).await,
        };
        found.unwrap_or_else(|why| {
            tracing::warn!(
                id = request.id(),
                "a call passes without its hooks, for the runtime cannot say whom it is about: {why}"
            );
            None
        })
    }

    async fn member(&self, container: &str) -> Result<Option<Subject>, String> {
        let found = self.0.inventory.container(container).await?;
        Ok(found.map(|(pod, container)| Subject { pod, container: Some(container) }))
    }
}

impl Interceptor for Interposer {
    fn wants(&self, method: Method) -> bool {
        let watched = self.0.watched.load(Ordering::Acquire);
        watched != 0
            && !self.0.pause.paused()
            && watched::kind(method).is_some_and(|kind| watched & watched::bit(kind) != 0)
    }

    fn before(&self, call: proxy::Call) -> Asked<Verdict> {
        let Some(kind) = watched::kind(call.method) else { return Box::pin(std::future::ready(pass())) };
        let log = Context::log(call.trace.as_ref());
        let deciding = AbortOnDropHandle::new(self.0.handle.spawn(self.clone().decide(call, kind).instrument(log)));
        Box::pin(async move {
            // It fails if it panicked, which the log has told, or when crihook ends.
            deciding.await.unwrap_or_else(|_| pass())
        })
    }
}

fn verdict(decision: Decision, waited: Duration) -> Verdict {
    Verdict { decision, waited }
}

/// Nothing to see here.
fn pass() -> Verdict {
    verdict(Decision::Pass { patched: None, witness: None }, Duration::ZERO)
}

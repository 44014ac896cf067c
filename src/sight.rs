//! What passes by, seen: the pod's own hooks, and the phases of a pod's life.
//!
//! ```text
//!   data path ── tap ──▶ begun, ended ──▶ call        what the requests say
//!                                          ├─ native       which commands are hooks of the pod itself ─▶ history
//!                                          ├─ startup      where the time goes when a pod starts
//!                                          └─ termination  how the end of a container went
//! ```
//!
//! It changes nothing and holds nothing up: a call has gone by when it is looked at, and what cannot be looked at in time is lost, and counted by the
//! tap. One task owns all that is remembered, which is bounded; forgetting makes no more of it than a gap in the metrics. What calls do not say (who a container
//! is that was made before crihook was started, how one has ended) the runtime is asked, some questions at once.

mod call;
mod history;
mod metrics;
mod native;
mod startup;
mod termination;

pub use call::looks_at;
pub use metrics::Metrics;

use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lru::LruCache;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::clock::{Clock, Moment};
use crate::cri::Code;
use crate::cri::v1::{CreateContainerResponse, ExecSyncResponse, RunPodSandboxResponse};
use crate::inventory::{Boxed, Inventory, Member};
use crate::journal::Journal;
use crate::lifecycle::{Container, Pod, Point};
use crate::proxy::{Begun, Body, Ended, Finished, Seen};
use call::Request;
use history::Native;
use metrics::Pulled;
use native::Started;
use startup::{Phase, Startups};
use termination::Stop;

/// Containers, and calls that have not ended, that are remembered at most.
const CAP: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// Questions to the runtime at once. While there are as many, nothing else is looked at.
const QUESTIONS: usize = 64;
/// Begins and ends that are looked at together.
const BATCH: usize = 4096;
/// How long nobody looks after that.
const REST: Duration = Duration::from_millis(20);
/// How often it is looked whether a pod's start is over.
const TICK: Duration = Duration::from_secs(1);

/// What is used to look at things.
pub struct Surroundings {
    /// Who containers are.
    pub inventory: Arc<Inventory>,
    /// Where the pod's own hooks are written down.
    pub journal: Arc<dyn Journal>,
    /// Hears the ids of runs that were written down.
    pub written: Box<dyn Fn(Arc<str>) + Send + Sync>,
    /// What is counted.
    pub metrics: Metrics,
    /// What time it is.
    pub clock: Clock,
    /// Whether what the pod's own hooks print is kept.
    pub output: bool,
}

/// Looks at all that comes out of a tap, until nothing more can come.
pub async fn watch(mut seen: mpsc::Receiver<Seen>, around: Surroundings) {
    let mut sight = Sight::new(around);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut rest, mut batch) = (pin!(sleep(Duration::ZERO)), Vec::new());
    loop {
        let more = async {
            // Who does not wait need not be woken: the data path wakes this side once a rest, and not twice a call.
            rest.as_mut().await;
            seen.recv_many(&mut batch, BATCH).await
        };
        tokio::select! {
            Some(()) = sight.questions.next() => {}
            _ = ticks.tick(), if !sight.startups.is_empty() => sight.look_for_silence(Instant::now()),
            count = more, if sight.questions.len() < QUESTIONS => {
                if count == 0 {
                    break;
                }
                batch.drain(..).for_each(|seen| sight.see(&seen));
                rest.as_mut().reset(tokio::time::Instant::now() + REST);
            }
        }
    }
    while sight.questions.next().await.is_some() {}
}

/// A call that has begun.
struct Open {
    request: Request,
    at: Instant,
    connection: u64,
    /// The pod whose start it is a part of.
    starting: Option<String>,
    /// It has the place of a `PostStart`.
    after_start: bool,
}

/// What is remembered of a container.
#[derive(Default)]
struct Life {
    /// The pod's uid, if the start of this container is a part of the pod's.
    starting: Option<String>,
    name: String,
    started: Option<Started>,
    /// The first try to stop it.
    stop: Option<Stop>,
    /// It was stopped, once.
    stopped: bool,
}

struct Sight {
    around: Arc<Surroundings>,
    open: LruCache<u64, Open>,
    lives: LruCache<String, Life>,
    startups: Startups,
    questions: FuturesUnordered<Boxed<'static, ()>>,
}

impl Sight {
    fn new(around: Surroundings) -> Self {
        let (open, lives) = (LruCache::new(CAP), LruCache::new(CAP));
        Self { around: Arc::new(around), open, lives, startups: Startups::new(), questions: FuturesUnordered::new() }
    }

    fn look_for_silence(&mut self, now: Instant) {
        for phases in self.startups.quiet(now) {
            self.around.metrics.startup(&phases);
        }
    }

    fn see(&mut self, seen: &Seen) {
        match seen {
            Seen::Begun(begun) => self.begun(begun),
            Seen::Ended(ended) => self.ended(ended),
        }
    }

    fn begun(&mut self, begun: &Begun) {
        let Begun { call, connection, method, at, .. } = *begun;
        let Some(message) = begun.request.message() else { return };
        let Some(request) = Request::decode(method, &message) else { return };
        let (mut starting, mut after_start) = (None, false);
        match &request {
            Request::RunPodSandbox(_) | Request::RemoveContainer(_) => {}
            Request::PullImage(pod) => starting = pod.clone().filter(|pod| self.startups.begun(pod, None)),
            Request::CreateContainer(pod, container) => {
                starting = Some(pod.uid.clone()).filter(|pod| self.startups.begun(pod, Some(&container.name)));
            }
            Request::StartContainer(id) => {
                let life = self.lives.get(id);
                let pod = life.and_then(|life| life.starting.clone());
                starting = pod.filter(|pod| self.startups.begun(pod, None));
            }
            Request::ExecSync(id, _) => {
                if let Some(life) = self.lives.get_mut(id) {
                    after_start = life.started.as_mut().is_some_and(|started| started.is_followed(connection, at));
                    let pod = life.starting.clone().filter(|_| after_start);
                    starting = pod.filter(|pod| self.startups.begun(pod, None));
                }
            }
            Request::StopContainer(id, allowed) => {
                let life = self.lives.get_or_insert_mut(id.clone(), Life::default);
                life.stop.get_or_insert(Stop { at, allowed: *allowed });
                let pod = life.starting.clone();
                self.over(|startups| startups.over(&pod?));
            }
            Request::StopPodSandbox(id) | Request::RemovePodSandbox(id) => {
                self.over(|startups| startups.sandbox_over(id));
            }
        }
        let open = Open { request, at, connection, starting, after_start };
        if let Some((_, forgotten)) = self.open.push(call, open)
            && let Some(pod) = forgotten.starting
        {
            self.startups.lost(&pod);
        }
    }

    /// A pod's start is over, if it is one.
    fn over(&mut self, over: impl FnOnce(&mut Startups) -> Option<startup::Phases>) {
        if let Some(phases) = over(&mut self.startups) {
            self.around.metrics.startup(&phases);
        }
    }

    fn ended(&mut self, ended: &Ended) {
        let Some(open) = self.open.pop(&ended.call) else { return };
        let (call, ok) = (&ended.finished, ended.finished.code == Code::OK);
        let answer = ended.answer.as_ref().and_then(Body::message).filter(|_| ok);
        let Open { request, at, connection, starting, after_start } = open;
        // What became of the calls that are part of a pod's start.
        let mut phase = |phase, started: Option<&str>| {
            if let Some(pod) = &starting {
                self.startups.ended(pod, phase, call, started);
            }
        };
        match request {
            Request::RunPodSandbox(pod) => {
                let made = answer.and_then(|answer| RunPodSandboxResponse::decode(answer).ok());
                self.sandbox_made(pod, made.map(|made| made.pod_sandbox_id), call);
            }
            Request::PullImage(_) => {
                phase(Phase::Image, None);
                self.around.metrics.pull(pulled(call.code), call.duration);
            }
            Request::CreateContainer(pod, container) => {
                phase(Phase::Create, None);
                let made = answer.and_then(|answer| CreateContainerResponse::decode(answer).ok());
                if let Some(made) = made {
                    let life = Life { starting, name: container.name.clone(), ..Life::default() };
                    self.lives.put(made.container_id.clone(), life);
                    let container = Arc::new(Container { id: made.container_id, ..container });
                    self.around.inventory.learn_container(Member { container, sandbox_id: pod.sandbox_id });
                }
            }
            Request::StartContainer(id) => {
                let at = call.begun + call.duration;
                let life = self.lives.get_or_insert_mut(id, Life::default);
                phase(Phase::Start, ok.then_some(&life.name));
                if ok {
                    life.started = Some(Started { connection, at, followed: false });
                }
            }
            Request::ExecSync(id, command) => {
                phase(Phase::Hooks, None);
                let answer = answer.and_then(|answer| ExecSyncResponse::decode(answer).ok());
                // Whether it succeeded is at the end of an answer: of one that was too large, nobody knows.
                if !ok || answer.is_some() {
                    self.executed(&id, command, after_start, answer, call);
                }
            }
            Request::StopContainer(id, allowed) => self.stopped(id, Stop { at, allowed }, call),
            Request::RemoveContainer(id) if ok => {
                self.lives.pop(&id);
                self.around.inventory.forget_container(&id);
            }
            Request::RemovePodSandbox(id) if ok => {
                for container in self.around.inventory.forget_pod(&id) {
                    self.lives.pop(&container);
                }
            }
            Request::RemoveContainer(_) | Request::StopPodSandbox(_) | Request::RemovePodSandbox(_) => {}
        }
    }

    fn sandbox_made(&mut self, pod: Pod, made: Option<String>, call: &Finished) {
        self.over(|startups| startups.sandbox(&pod.uid, made.clone(), call));
        if let Some(sandbox_id) = made {
            self.around.inventory.learn_pod(&Arc::new(Pod { sandbox_id, ..pod }));
        }
    }

    /// A command without a limit of time has ended in a container.
    fn executed(
        &mut self,
        id: &str,
        command: Vec<String>,
        after_start: bool,
        answer: Option<ExecSyncResponse>,
        call: &Finished,
    ) {
        let (around, id) = (Arc::clone(&self.around), id.to_owned());
        let (code, took, begun) = (call.code, call.duration, call.begun);
        self.questions.push(Box::pin(async move {
            let (whose, point) = match around.inventory.container(&id).await {
                Ok(Some((pod, container))) => {
                    let point = native::hook(&command, after_start, &container);
                    (Some((pod, container)), point)
                }
                unknown => {
                    tracing::debug!(id, ?unknown, "it is not known in which container a command was run");
                    (None, after_start.then_some(Point::POST_START))
                }
            };
            let Some(point) = point else { return };
            around.native(&Native { point, took, code, answer }, begun, whose);
        }));
    }

    /// A call of `StopContainer` is over.
    fn stopped(&mut self, id: String, stop: Stop, call: &Finished) {
        let life = self.lives.get_or_insert_mut(id.clone(), Life::default);
        let first = life.stop.unwrap_or(stop);
        if call.code != Code::OK || std::mem::replace(&mut life.stopped, true) {
            return;
        }
        let (around, ran, answered) = (Arc::clone(&self.around), life.started.is_some(), call.begun + call.duration);
        self.questions.push(Box::pin(async move {
            let exit = around.inventory.runtime().exit(&id).await.unwrap_or_else(|why| {
                tracing::debug!(id, "the runtime cannot say how a container has ended: {why}");
                None
            });
            // Nobody knows whether there was anything to end.
            if exit.is_none() && !ran {
                return;
            }
            let told = around.moment(first.at).wall;
            if let Some(termination) = termination::judge(first, stop, answered, exit, told) {
                around.metrics.termination(&termination);
            }
        }));
    }
}

fn pulled(code: Code) -> Pulled {
    match code {
        Code::OK => Pulled::Success,
        Code::CANCELED => Pulled::Cancelled,
        _ => Pulled::Error,
    }
}

impl Surroundings {
    /// When that was.
    fn moment(&self, at: Instant) -> Moment {
        let (now, ago) = (self.clock.now(), at.elapsed());
        let wall = now.wall.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
        let uptime = now.uptime.map(|mut uptime| {
            uptime.time = uptime.time.saturating_sub(ago);
            uptime
        });
        Moment { wall, uptime }
    }

    /// A hook of a pod itself has ended; it is known `whose`, or not any more.
    fn native(&self, native: &Native, begun: Instant, whose: Option<(Arc<Pod>, Arc<Container>)>) {
        self.metrics.native(native.point, native.ran(), native.took);
        let Some(whose) = whose else { return };
        let id = native.write(&*self.journal, self.moment(begun), whose, self.output);
        (self.written)(id);
    }
}

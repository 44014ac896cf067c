//! What is written down of a run and of its attempts, each thing once.
//!
//! ```text
//!   promised ──confirm──▶ waiting ◀──────▶ attempt
//!      │ retract             │ record: it has ended
//!      ▼                     │ leave: the next process goes on with it
//!     over ◀─────────────────┘
//! ```

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::active::Bound;
use super::run::{Ended, Run};
use super::{Means, RunSeen};
use crate::hooks::handler::Evidence;
use crate::journal::{AttemptRecord, AttemptResult, Entry, LeftRun, NewRun};
use crate::lifecycle::{Event, Outcome};
use crate::trace::{Context, KeyValue, Span, SpanKind};

/// How far a run's record has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is to be if a call succeeds.
    Promised,
    /// It is to be.
    Waiting,
    /// This process has nothing more to write.
    Over,
}

/// What is known of a run beside its hook and its event.
#[derive(Debug, Clone, Default)]
pub(super) struct Begun {
    /// Whether it is not run again once it has succeeded.
    pub(super) once: bool,
    /// Whether it depends on a call that is still to succeed.
    pub(super) intended: bool,
    /// The run that it repeats because somebody asked for it.
    pub(super) replay_of: Option<Arc<str>>,
}

impl Run {
    /// Begins its record.
    pub(super) fn begin(means: &Arc<Means>, bound: &Arc<Bound>, event: &Arc<Event>, begun: Begun) -> Self {
        let hook = &bound.hook;
        let run = Arc::new(NewRun {
            id: uuid::Uuid::now_v7().to_string().into(),
            policy: Arc::clone(&hook.policy),
            hook: Arc::clone(&hook.name),
            handler: hook.action.name().into(),
            mode: hook.mode.name().into(),
            event: Arc::clone(event),
            once: begun.once,
            replay_of: begun.replay_of,
            created_at: means.clock.wall(),
        });
        let left = LeftRun { run: Arc::clone(&run), intended: begun.intended, started: 0, failed: 0 };
        means.journal.write(Entry::Begin { run, intended: begun.intended });
        Self::adopt(means, bound, &left)
    }

    /// Goes on with the record that another process has begun.
    pub(super) fn adopt(means: &Arc<Means>, bound: &Arc<Bound>, left: &LeftRun) -> Self {
        let stage = if left.intended { Stage::Promised } else { Stage::Waiting };
        if stage == Stage::Waiting {
            means.metrics.queue().inc();
        }
        Self {
            bound: Arc::clone(bound),
            event: Arc::clone(&left.run.event),
            id: Arc::clone(&left.run.id),
            replay_of: left.run.replay_of.clone(),
            means: Arc::clone(means),
            number: left.started,
            made: left.failed,
            began: None,
            awaited: false,
            expiry: means.expiry(&left.run),
            stage,
        }
    }

    /// What it was promised for has happened, as `event` tells.
    pub(super) fn confirm(&mut self, event: &Arc<Event>) {
        if self.stage == Stage::Promised {
            self.stage = Stage::Waiting;
            self.event = Arc::clone(event);
            self.expiry = Instant::now() + self.means.max_age;
            self.means.metrics.queue().inc();
            self.means.journal.write(Entry::Confirm { id: Arc::clone(&self.id), event: Arc::clone(event) });
        }
    }

    /// What it was promised for has not happened: it never was. If it has been confirmed, it ends, for `reason`.
    pub(super) fn retract(mut self, reason: &str) {
        if self.stage == Stage::Promised {
            self.stage = Stage::Over;
            self.means.journal.write(Entry::Retract { id: Arc::clone(&self.id) });
        } else {
            self.abandon(reason);
        }
    }

    /// Ends it without another attempt, since it makes no sense any more.
    pub(super) fn abandon(mut self, reason: &str) {
        if self.stage == Stage::Promised {
            self.stage = Stage::Waiting;
            self.means.metrics.queue().inc();
        }
        self.record(&Ended::new(Outcome::Abandoned, reason));
    }

    /// This process goes no further with it; the next one does.
    pub(super) fn leave(&mut self) {
        if self.stage == Stage::Waiting {
            self.means.metrics.queue().dec();
            debug!(run = %self.id, policy = %self.bound.hook.policy, hook = %self.bound.hook.name, "hook left to the next process");
        }
        self.stage = Stage::Over;
    }

    /// An attempt begins.
    pub(super) fn begin_attempt(&mut self) {
        self.number += 1;
        let (id, number) = (Arc::clone(&self.id), self.number);
        self.means.journal.write(Entry::Start { id, number, at: self.means.clock.wall() });
    }

    /// It has ended.
    pub(super) fn record(&mut self, ended: &Ended) {
        if std::mem::replace(&mut self.stage, Stage::Over) == Stage::Over {
            return;
        }
        let (outcome, reason) = (ended.outcome, ended.reason.as_deref());
        let duration = self.began.map(|began| began.elapsed());
        self.means.metrics.queue().dec();
        self.bound.series.ended(outcome, duration);
        self.means.journal.write(Entry::End {
            id: Arc::clone(&self.id),
            at: self.means.clock.wall(),
            outcome,
            reason: ended.reason.clone(),
        });
        let log = Context::log(self.event.trace.as_ref());
        let _inside = log.enter();
        let seen = RunSeen {
            id: Arc::clone(&self.id),
            hook: Arc::clone(&self.bound.hook),
            event: Arc::clone(&self.event),
            outcome,
            reason: ended.reason.clone(),
            attempts: self.number,
            duration: duration.unwrap_or_default(),
        };
        macro_rules! log {
            ($level:ident, $words:literal) => {
                $level!(
                    run = %self.id,
                    policy = %self.bound.hook.policy,
                    hook = %self.bound.hook.name,
                    point = %self.event.point,
                    namespace = self.event.pod.namespace,
                    pod = self.event.pod.name,
                    container = self.event.container.as_ref().map(|container| container.name.as_str()),
                    outcome = outcome.name(),
                    reason,
                    attempts = self.number,
                    $words
                )
            };
        }
        match outcome {
            Outcome::Failed | Outcome::TimedOut => log!(warn, "hook failed"),
            Outcome::Cancelled | Outcome::Abandoned => log!(info, "hook given up"),
            Outcome::Succeeded => log!(debug, "hook done"),
        }
        self.means.seen(&seen);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.awaited && !self.means.drain.forced().is_cancelled() {
            self.record(&Ended::new(Outcome::Cancelled, "nobody waits for it any more"));
        } else {
            self.leave();
        }
    }
}

/// An attempt under way.
pub(super) struct Attempting {
    means: Arc<Means>,
    bound: Arc<Bound>,
    run: Arc<str>,
    number: u32,
    at: SystemTime,
    began: Instant,
    recorded: bool,
    trace: Option<(Context, Arc<Event>)>,
}

impl Attempting {
    /// The run's next one begins now.
    pub(super) fn begin(of: &Run) -> Self {
        of.means.metrics.queue().dec();
        of.means.metrics.in_flight().inc();
        let (means, bound, run) = (Arc::clone(&of.means), Arc::clone(&of.bound), Arc::clone(&of.id));
        let (at, number) = (means.clock.wall(), of.number);
        let parent = of.event.trace.as_ref().filter(|_| means.tracer.is_on());
        let trace = parent.map(|parent| (parent.child(), Arc::clone(&of.event)));
        Self { means, bound, run, number, at, began: Instant::now(), recorded: false, trace }
    }

    /// What is done in it is below this, if it is traced.
    pub(super) fn trace(&self) -> Option<&Context> {
        self.trace.as_ref().map(|(context, _)| context)
    }

    /// It is over.
    pub(super) fn over(mut self, result: AttemptResult, message: Option<&str>, evidence: &Evidence) {
        self.record(result, message, evidence);
    }

    fn record(&mut self, result: AttemptResult, message: Option<&str>, evidence: &Evidence) {
        self.recorded = true;
        self.means.metrics.in_flight().dec();
        self.means.metrics.queue().inc();
        self.bound.series.attempted(result);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let attempt = AttemptRecord {
            number: self.number,
            started_at: self.at,
            duration: self.began.elapsed(),
            result,
            message: message.map(str::to_owned),
            exit_code: evidence.exit_code,
            http_status: evidence.http_status,
            stdout: text(&evidence.stdout),
            stderr: text(&evidence.stderr),
            body: text(&evidence.body),
        };
        self.means.journal.write(Entry::Attempt { id: Arc::clone(&self.run), attempt });
        self.tell(result, message);
    }

    /// Its span is over.
    fn tell(&mut self, result: AttemptResult, message: Option<&str>) {
        let Some((context, event)) = self.trace.take().filter(|(context, _)| context.is_recorded()) else { return };
        let (hook, pod) = (&self.bound.hook, &event.pod);
        let text = |key: &'static str, value: &str| KeyValue::new(key, value.to_owned());
        let mut attributes = vec![
            text("crihook.policy", &hook.policy),
            text("crihook.hook", &hook.name),
            text("crihook.point", event.point.name()),
            text("crihook.handler", hook.action.name()),
            text("crihook.event_id", &self.run),
            KeyValue::new("crihook.attempt", i64::from(self.number)),
            text("crihook.result", result.name()),
            text("k8s.namespace.name", &pod.namespace),
            text("k8s.pod.name", &pod.name),
            text("k8s.pod.uid", &pod.uid),
        ];
        attributes.extend(event.container.iter().map(|container| text("k8s.container.name", &container.name)));
        let succeeded = result == AttemptResult::Succeeded;
        self.means.tracer.tell(Span {
            context,
            parent: event.trace.clone(),
            name: format!("hook {}/{}", hook.policy, hook.name).into(),
            kind: SpanKind::Client,
            begun: self.began.into_std(),
            ended: Instant::now().into_std(),
            attributes,
            error: (!succeeded).then(|| message.unwrap_or(result.name()).to_owned().into()),
        });
    }
}

impl Drop for Attempting {
    fn drop(&mut self) {
        if !self.recorded {
            self.record(AttemptResult::Cancelled, None, &Evidence::default());
        }
    }
}

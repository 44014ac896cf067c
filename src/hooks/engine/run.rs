//! One run: its attempts, what it waits for between them, and its record.
//!
//! ```text
//!            ┌──────────── backoff ◀───────────┐ failed, and another may help
//!            ▼                                 │
//!   new ─▶ breaker ─▶ slot ─▶ attempt ─────────┤
//!            │         │                       ├─▶ succeeded, failed, timed out
//!            └─────────┴── over: the budget is spent, the container is going, crihook is ending
//! ```
//!
//! A run is recorded exactly once, whatever becomes of its future: dropped, it was cancelled (blocking) or abandoned (background).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use super::active::Bound;
use super::breaker::Admission;
use super::record::Attempting;
use super::retry::{self, Next};
use super::slots::Slot;
use super::terms::Terms;
use super::{Means, RunSeen};
use crate::hooks::handler::{Delivery, Evidence, Failing, Failure};
use crate::hooks::policy::{Action, Mode};
use crate::journal::{AttemptResult, Entry, NewRun};
use crate::lifecycle::{Address, Event, Outcome};

/// Handlers keep to their deadline by themselves; one that has not after this long is dropped.
const BACKSTOP: Duration = Duration::from_secs(1);
/// Bytes that are kept of the words of a failure.
const MESSAGE: usize = 4096;
/// Why a run goes no further when crihook does not.
pub(super) const ENDING: &str = "crihook is ending";
/// "Never", as a time.
pub(super) const FAR: Duration = Duration::from_hours(10 * 365 * 24);

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    /// For people, without secrets.
    pub(super) reason: Option<String>,
}

impl Ended {
    pub(super) fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { outcome, reason: Some(reason.into()) }
    }

    /// Of its last failure, with what kept it from another attempt.
    fn of(failure: Failure, mode: Mode, but: &str) -> Self {
        let outcome = match failure.kind {
            Failing::TimedOut => Outcome::TimedOut,
            Failing::Gone if mode == Mode::Background => Outcome::Abandoned,
            Failing::Failed | Failing::Rejected | Failing::Gone => Outcome::Failed,
        };
        Self::new(outcome, failure.message + but)
    }

    /// The run could not go on after `failure`.
    fn after(self, failure: Option<Failure>, mode: Mode) -> Self {
        match failure {
            None => self,
            // A breaker says itself what went wrong last.
            Some(_) if self.outcome == Outcome::Failed => self,
            // Out of time: what went wrong before says more than that.
            Some(failure) if self.outcome == Outcome::TimedOut => {
                Self::of(failure, mode, "; no time is left to try again")
            }
            Some(failure) => {
                Self::new(self.outcome, format!("{}; last: {}", self.reason.unwrap_or_default(), failure.message))
            }
        }
    }
}

/// A run that has not ended.
pub(super) struct Run {
    pub(super) bound: Arc<Bound>,
    pub(super) event: Arc<Event>,
    pub(super) id: Arc<str>,
    means: Arc<Means>,
    attempts: u32,
    began: Option<Instant>,
    ended: bool,
}

impl Run {
    /// Begins its record.
    pub(super) fn new(means: &Arc<Means>, bound: &Arc<Bound>, event: &Arc<Event>) -> Self {
        let id: Arc<str> = uuid::Uuid::now_v7().to_string().into();
        let hook = &bound.hook;
        let run = NewRun {
            id: Arc::clone(&id),
            policy: Arc::clone(&hook.policy),
            hook: Arc::clone(&hook.name),
            handler: hook.action.name(),
            mode: hook.mode.name(),
            event: Arc::clone(event),
            once: true,
            replay_of: None,
            created_at: SystemTime::now(),
        };
        means.journal.write(Entry::Begin { run: Arc::new(run), intended: false });
        means.metrics.queue().inc();
        let (bound, event, means) = (Arc::clone(bound), Arc::clone(event), Arc::clone(means));
        Self { bound, event, id, means, attempts: 0, began: None, ended: false }
    }

    /// Runs it to its end and records that.
    pub(super) async fn perform(mut self, mut terms: Terms) -> Ended {
        let ended = self.attempts(&mut terms).await;
        self.record(&ended);
        ended
    }

    /// Ends it without another attempt.
    pub(super) fn end(mut self, ended: &Ended) {
        self.record(ended);
    }

    async fn attempts(&mut self, terms: &mut Terms) -> Ended {
        let mode = self.bound.hook.mode;
        let mut failed = None;
        loop {
            let admitted = tokio::select! {
                biased;
                over = terms.over() => Err(over),
                admitted = self.admission() => admitted,
            };
            let slot = match admitted {
                Ok(slot) => slot,
                Err(over) => return over.after(failed, mode),
            };
            let Err(failure) = self.attempt(terms).await else {
                return Ended { outcome: Outcome::Succeeded, reason: None };
            };
            drop(slot);
            let left = terms.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let next = retry::next(&self.bound.hook.retries, self.attempts, failure.kind, left, fastrand::f64());
            let Next::After(wait) = next else {
                let but = if next == Next::NoTime { "; no time is left to try again" } else { "" };
                return Ended::of(failure, mode, but);
            };
            debug!(run = %self.id, attempt = self.attempts, ?wait, failure = failure.message, "will be tried again");
            tokio::select! {
                biased;
                over = terms.over() => return over.after(Some(failure), mode),
                () = sleep(wait) => failed = Some(failure),
            }
        }
    }

    /// Waits until an attempt may begin. A background run waits for an open breaker, without a slot; a blocking one fails.
    async fn admission(&self) -> Result<Option<Slot>, Ended> {
        // It does nothing, so any number may do it at once.
        if matches!(self.bound.hook.action, Action::Sleep(_)) {
            return Ok(None);
        }
        let blocking = self.bound.hook.mode == Mode::Blocking;
        let slots = if blocking { &self.means.blocking } else { &self.means.background };
        let Some(breaker) = &self.bound.breaker else { return Ok(Some(slots.take(&self.bound.key).await)) };
        loop {
            match breaker.look() {
                Admission::Open { why, .. } if blocking => return Err(Ended::new(Outcome::Failed, why)),
                Admission::Open { .. } => breaker.ready().await,
                Admission::Go => {
                    let slot = slots.take(&self.bound.key).await;
                    // It may have opened, or another may be the probe, while this one waited for the slot.
                    if breaker.admit() == Admission::Go {
                        return Ok(Some(slot));
                    }
                }
            }
        }
    }

    async fn attempt(&mut self, terms: &mut Terms) -> Result<(), Failure> {
        self.attempts += 1;
        let (now, hook) = (Instant::now(), &self.bound.hook);
        self.began.get_or_insert(now);
        let start = Entry::Start { id: Arc::clone(&self.id), number: self.attempts, at: SystemTime::now() };
        self.means.journal.write(start);
        let own = now.checked_add(hook.timeout).unwrap_or(now + FAR);
        let deadline = terms.deadline().map_or(own, |budget| budget.min(own));
        let own_time = deadline == own;
        let attempting = Attempting::begin(&self.means, &self.bound, &self.id, self.attempts);
        // Whether its result says how the endpoint is.
        let mut asked = false;
        let work = AssertUnwindSafe(self.work(deadline, &mut asked)).catch_unwind();
        let (result, cut) = tokio::select! {
            biased;
            result = work => match result {
                Ok(result) => (result, false),
                Err(_panic) => (Err(failing(Failing::Failed, "the handler panicked")), false),
            },
            () = terms.cut(deadline) => {
                (Err(failing(Failing::TimedOut, "cut: a later call leaves it less time")), true)
            }
            () = sleep_until(deadline.checked_add(BACKSTOP).unwrap_or(deadline)) => {
                (Err(failing(Failing::TimedOut, "did not end at its deadline")), false)
            }
        };
        if let Some(breaker) = self.bound.breaker.as_ref().filter(|_| asked && !cut) {
            match &result {
                // A server that says no is there, and one that had less time than its policy gives it has not failed.
                Err(failure) if failure.is_answer() => {
                    breaker.answered();
                }
                Err(Failure { kind: Failing::TimedOut, .. }) if !own_time => {}
                Err(Failure { kind: Failing::Failed | Failing::TimedOut, message, .. }) if breaker.failed(message) => {
                    warn!(policy = %hook.policy, hook = %hook.name, reason = message, "breaker opened");
                }
                Ok(_) if breaker.answered() => {
                    info!(policy = %hook.policy, hook = %hook.name, "breaker closed");
                }
                _ => {}
            }
        }
        match result {
            Ok(evidence) => {
                attempting.over(AttemptResult::Succeeded, None, &evidence);
                Ok(())
            }
            Err(mut failure) => {
                failure.message.truncate(failure.message.floor_char_boundary(MESSAGE));
                let result = match failure.kind {
                    Failing::Failed => AttemptResult::Failed,
                    Failing::TimedOut => AttemptResult::TimedOut,
                    Failing::Rejected => AttemptResult::Rejected,
                    Failing::Gone => AttemptResult::Gone,
                };
                attempting.over(result, Some(&failure.message), &failure.evidence);
                Err(failure)
            }
        }
    }

    /// Asks the handler; `asked` is set once its endpoint may have been.
    async fn work(&self, deadline: Instant, asked: &mut bool) -> Result<Evidence, Failure> {
        let sandbox = &self.event.pod.sandbox_id;
        let address = if !self.bound.hook.action.wants_address() {
            None
        } else if sandbox.is_empty() {
            Some(Address::Nowhere)
        } else {
            match timeout_at(deadline, self.means.runtime.address(sandbox)).await {
                Ok(Ok(address)) => Some(address),
                Ok(Err(why)) => {
                    return Err(failing(Failing::Failed, &format!("the pod's address is not known: {why}")));
                }
                Err(_) => return Err(failing(Failing::TimedOut, "the runtime did not give the pod's address in time")),
            }
        };
        *asked = true;
        let delivery = Delivery {
            event_id: Arc::clone(&self.id),
            event: Arc::clone(&self.event),
            hook: Arc::clone(&self.bound.hook),
            attempt: self.attempts,
            deadline,
            address,
        };
        self.bound.handler.attempt(delivery).await
    }

    fn record(&mut self, ended: &Ended) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let (outcome, reason) = (ended.outcome, ended.reason.as_deref());
        let duration = self.began.map(|began| began.elapsed());
        self.means.metrics.queue().dec();
        self.bound.series.ended(outcome, duration);
        self.means.journal.write(Entry::End {
            id: Arc::clone(&self.id),
            at: SystemTime::now(),
            outcome,
            reason: ended.reason.clone(),
        });
        let seen = RunSeen {
            id: Arc::clone(&self.id),
            hook: Arc::clone(&self.bound.hook),
            event: Arc::clone(&self.event),
            outcome,
            reason: ended.reason.clone(),
            attempts: self.attempts,
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
                    attempts = self.attempts,
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
        let ended = match self.bound.hook.mode {
            _ if self.ended => return,
            Mode::Background => Ended::new(Outcome::Abandoned, ENDING),
            Mode::Blocking if self.means.drain.forced().is_cancelled() => Ended::new(Outcome::Cancelled, ENDING),
            Mode::Blocking => Ended::new(Outcome::Cancelled, "nobody waits for it any more"),
        };
        self.record(&ended);
    }
}

fn failing(kind: Failing, message: &str) -> Failure {
    Failure { kind, message: message.to_owned(), evidence: Evidence::default() }
}

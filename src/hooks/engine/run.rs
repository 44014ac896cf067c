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
//! An attempt is on record before it is made, so that a process that takes a run over knows which number comes next. How a run ends is
//! recorded exactly once, whatever becomes of its future (`record`); a run that crihook's own end keeps from ending is left to the next process.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{Instrument, debug, info, warn};

use super::Means;
use super::active::Bound;
use super::breaker::Admission;
use super::record::{Attempting, Stage};
use super::retry::{self, Next};
use super::slots::Slot;
use super::terms::Terms;
use crate::hooks::handler::{Delivery, Evidence, Failing, Failure};
use crate::hooks::policy::Action;
use crate::journal::AttemptResult;
use crate::lifecycle::{Address, Event, Outcome};
use crate::trace::Context;

/// Handlers keep to their deadline by themselves; one that has not after this long is dropped.
const BACKSTOP: Duration = Duration::from_secs(1);
/// Bytes that are kept of the words of a failure.
const MESSAGE: usize = 4096;
/// Why a call's hooks go no further when crihook does not.
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
    fn of(failure: Failure, awaited: bool, but: &str) -> Self {
        let outcome = match failure.kind {
            Failing::TimedOut => Outcome::TimedOut,
            Failing::Gone if !awaited => Outcome::Abandoned,
            Failing::Failed | Failing::Rejected | Failing::Gone => Outcome::Failed,
        };
        Self::new(outcome, failure.message + but)
    }

    /// The run could not go on after `failure`.
    fn after(self, failure: Option<Failure>, awaited: bool) -> Self {
        match failure {
            None => self,
            // A breaker says itself what went wrong last.
            Some(_) if self.outcome == Outcome::Failed => self,
            // Out of time: what went wrong before says more than that.
            Some(failure) if self.outcome == Outcome::TimedOut => {
                Self::of(failure, awaited, "; no time is left to try again")
            }
            Some(failure) => {
                Self::new(self.outcome, format!("{}; last: {}", self.reason.unwrap_or_default(), failure.message))
            }
        }
    }
}

/// The run goes no further here and has not ended: the next process goes on with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left;

/// A run that has not ended.
pub(super) struct Run {
    pub(super) bound: Arc<Bound>,
    pub(super) event: Arc<Event>,
    pub(super) id: Arc<str>,
    pub(super) replay_of: Option<Arc<str>>,
    pub(super) means: Arc<Means>,
    /// The number of the last attempt, those of processes before this one included.
    pub(super) number: u32,
    /// Attempts that came to something: so many of the policy's are used up.
    pub(super) made: u32,
    pub(super) began: Option<Instant>,
    /// Whether a call waits for it.
    pub(super) awaited: bool,
    /// In the background: when it makes no sense any more.
    pub(super) expiry: Instant,
    pub(super) stage: Stage,
}

impl Run {
    /// Runs it to its end and records that, unless it is left.
    pub(super) async fn perform(mut self, mut terms: Terms) -> Result<Ended, Left> {
        self.awaited = matches!(terms, Terms::Blocking(_));
        let log = Context::log(self.event.trace.as_ref());
        let ended = self.attempts(&mut terms).instrument(log).await;
        match &ended {
            Ok(ended) => self.record(ended),
            Err(Left) => self.leave(),
        }
        ended
    }

    async fn attempts(&mut self, terms: &mut Terms) -> Result<Ended, Left> {
        let awaited = self.awaited;
        let mut failed = None;
        loop {
            let admitted = tokio::select! {
                biased;
                over = terms.over() => Err(over?),
                admitted = self.admission() => admitted,
            };
            let slot = match admitted {
                Ok(slot) => slot,
                Err(over) => return Ok(over.after(failed, awaited)),
            };
            let Err(failure) = self.attempt(terms).await else {
                return Ok(Ended { outcome: Outcome::Succeeded, reason: None });
            };
            drop(slot);
            let left = terms.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let next = retry::next(&self.bound.hook.retries, self.made, failure.kind, left, fastrand::f64());
            let Next::After(wait) = next else {
                let but = if next == Next::NoTime { "; no time is left to try again" } else { "" };
                return Ok(Ended::of(failure, awaited, but));
            };
            debug!(run = %self.id, attempt = self.number, ?wait, failure = failure.message, "will be tried again");
            tokio::select! {
                biased;
                over = terms.over() => return Ok(over?.after(Some(failure), awaited)),
                () = sleep(wait) => failed = Some(failure),
            }
        }
    }

    /// Writes down that an attempt is about to be made, and waits until that is safe; in the background, also until calls have had their way.
    async fn start(&mut self, terms: &Terms) {
        self.begin_attempt();
        let recorded = self.means.journal.recorded();
        match terms.deadline() {
            // One that has no time left fails by itself.
            Some(deadline) => drop(timeout_at(deadline, recorded).await),
            None => recorded.await,
        }
        if !self.awaited {
            self.means.way.clear().await;
        }
    }

    /// Waits until an attempt may begin. A background run waits until hooks are on, and for an open breaker, without a slot; a blocking one
    /// fails if that is open, and goes on if it began before hooks were paused.
    async fn admission(&self) -> Result<Option<Slot>, Ended> {
        let (pause, breaker) = (&self.means.pause, self.bound.breaker.as_ref());
        loop {
            if !self.awaited {
                pause.resumed().await;
            }
            // It does nothing, so any number may do it at once.
            if matches!(self.bound.hook.action, Action::Sleep(_)) {
                return Ok(None);
            }
            if let Some(breaker) = breaker
                && let Admission::Open { why, .. } = breaker.look()
            {
                if self.awaited {
                    return Err(Ended::new(Outcome::Failed, why));
                }
                breaker.ready().await;
                continue;
            }
            let slots = if self.awaited { &self.means.blocking } else { &self.means.background };
            let slot = slots.take(&self.bound.key).await;
            // While this one waited for the slot, hooks may have been paused, the breaker may have opened, or another may have become the probe.
            let on = self.awaited || !pause.paused();
            if on && breaker.is_none_or(|breaker| breaker.admit() == Admission::Go) {
                return Ok(Some(slot));
            }
        }
    }

    async fn attempt(&mut self, terms: &mut Terms) -> Result<(), Failure> {
        self.start(terms).await;
        let (now, hook) = (Instant::now(), &self.bound.hook);
        self.began.get_or_insert(now);
        let own = now.checked_add(hook.timeout).unwrap_or(now + FAR);
        let deadline = terms.deadline().map_or(own, |budget| budget.min(own));
        let own_time = deadline == own;
        let attempting = Attempting::begin(self);
        // Whether its result says how the endpoint is.
        let mut asked = false;
        let work = AssertUnwindSafe(self.work(deadline, attempting.trace().cloned(), &mut asked)).catch_unwind();
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
        self.made += 1;
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
    async fn work(&self, deadline: Instant, trace: Option<Context>, asked: &mut bool) -> Result<Evidence, Failure> {
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
            attempt: self.number,
            replay_of: self.replay_of.clone(),
            deadline,
            address,
            trace,
        };
        self.bound.handler.attempt(delivery).await
    }
}

fn failing(kind: Failing, message: &str) -> Failure {
    Failure { kind, message: message.to_owned(), evidence: Evidence::default() }
}

//! The metrics of hooks.
//!
//! A hook's series exist from the moment it becomes active, so that `rate()` sees its first failure, and go when it is in no active
//! set and its last run has ended: [`Series`] stands for them, and they are removed with the last of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::policy::Hook;
use crate::journal::AttemptResult;
use crate::lifecycle::{Outcome, Point};
use crate::metrics::DURATION_BUCKETS;

/// The families; cheap to clone.
#[derive(Clone)]
pub struct HookMetrics(Arc<Families>);

struct Families {
    runs: IntCounterVec,
    duration: HistogramVec,
    attempts: IntCounterVec,
    in_flight: IntGauge,
    queue: IntGauge,
    breaker: IntGaugeVec,
    live: Mutex<HashMap<Labels, Weak<Series>>>,
}

/// What tells the series of one hook from those of another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Labels {
    policy: Arc<str>,
    hook: Arc<str>,
    point: Point,
    handler: &'static str,
}

/// One hook's series, shared by all that stands for the hook.
pub(super) struct Series {
    labels: Labels,
    families: Arc<Families>,
}

impl HookMetrics {
    /// Registers the families.
    ///
    /// # Errors
    /// Fails if they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let families = Families {
            runs: IntCounterVec::new(
                Opts::new("crihook_hook_runs_total", "Runs of hooks that have ended, by outcome."),
                &["policy", "hook", "point", "handler", "outcome"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new(
                    "crihook_hook_run_duration_seconds",
                    "From the beginning of a run's first attempt to the end of the run.",
                )
                .buckets(DURATION_BUCKETS.to_vec()),
                &["policy", "hook", "point", "handler"],
            )?,
            attempts: IntCounterVec::new(
                Opts::new("crihook_hook_attempts_total", "Attempts of runs, by result."),
                &["policy", "hook", "point", "result"],
            )?,
            in_flight: IntGauge::new("crihook_hook_runs_in_flight", "Runs with an attempt under way.")?,
            queue: IntGauge::new(
                "crihook_hook_queue_length",
                "Runs that wait: for their turn, a slot, a breaker or the next attempt.",
            )?,
            breaker: IntGaugeVec::new(
                Opts::new("crihook_hook_breaker_open", "1 while the breaker of the hook's endpoint is open."),
                &["policy", "hook"],
            )?,
            live: Mutex::default(),
        };
        registry.register(Box::new(families.runs.clone()))?;
        registry.register(Box::new(families.duration.clone()))?;
        registry.register(Box::new(families.attempts.clone()))?;
        registry.register(Box::new(families.in_flight.clone()))?;
        registry.register(Box::new(families.queue.clone()))?;
        registry.register(Box::new(families.breaker.clone()))?;
        Ok(Self(Arc::new(families)))
    }

    /// The series of a hook: those there are, else new ones.
    pub(super) fn series(&self, hook: &Hook) -> Arc<Series> {
        let labels = Labels {
            policy: Arc::clone(&hook.policy),
            hook: Arc::clone(&hook.name),
            point: hook.point,
            handler: hook.action.name(),
        };
        let mut live = self.0.live();
        if let Some(series) = live.get(&labels).and_then(Weak::upgrade) {
            return series;
        }
        let series = Arc::new(Series { labels: labels.clone(), families: Arc::clone(&self.0) });
        for outcome in [Outcome::Succeeded, Outcome::Failed, Outcome::TimedOut] {
            let _at_zero = self.0.runs.with_label_values(&series.outcome(outcome));
        }
        if hook.action.endpoint().is_some() {
            let _at_zero = self.0.breaker.with_label_values(&[&*labels.policy, &*labels.hook]);
        }
        live.insert(labels, Arc::downgrade(&series));
        series
    }

    /// Runs with an attempt under way.
    pub(super) fn in_flight(&self) -> &IntGauge {
        &self.0.in_flight
    }

    /// Runs that wait.
    pub(super) fn queue(&self) -> &IntGauge {
        &self.0.queue
    }
}

impl Families {
    fn live(&self) -> MutexGuard<'_, HashMap<Labels, Weak<Series>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Series {
    fn outcome(&self, outcome: Outcome) -> [&str; 5] {
        let labels = &self.labels;
        [&labels.policy, &labels.hook, labels.point.name(), labels.handler, outcome.name()]
    }

    fn hook(&self) -> [&str; 4] {
        let labels = &self.labels;
        [&labels.policy, &labels.hook, labels.point.name(), labels.handler]
    }

    fn attempt(&self, result: AttemptResult) -> [&str; 4] {
        let labels = &self.labels;
        [&labels.policy, &labels.hook, labels.point.name(), result.name()]
    }

    /// A run is over; `duration` is there if it had begun.
    pub(super) fn ended(&self, outcome: Outcome, duration: Option<Duration>) {
        self.families.runs.with_label_values(&self.outcome(outcome)).inc();
        if let Some(duration) = duration {
            self.families.duration.with_label_values(&self.hook()).observe(duration.as_secs_f64());
        }
    }

    /// An attempt is over.
    pub(super) fn attempted(&self, result: AttemptResult) {
        self.families.attempts.with_label_values(&self.attempt(result)).inc();
    }

    /// The breaker of its endpoint opened or closed.
    pub(super) fn breaker(&self, open: bool) {
        self.families.breaker.with_label_values(&[&*self.labels.policy, &*self.labels.hook]).set(i64::from(open));
    }
}

impl Drop for Series {
    fn drop(&mut self) {
        let mut live = self.families.live();
        // A successor with the same labels has taken the series over.
        if live.get(&self.labels).is_some_and(|series| series.strong_count() > 0) {
            return;
        }
        live.remove(&self.labels);
        for outcome in Outcome::ALL {
            let _absent = self.families.runs.remove_label_values(&self.outcome(outcome));
        }
        let _absent = self.families.duration.remove_label_values(&self.hook());
        // These have fewer labels: a hook of the same name with another handler, or at another point, has them too.
        let (policy, hook) = (&self.labels.policy, &self.labels.hook);
        let mut namesakes = live
            .iter()
            .filter(|(labels, series)| labels.policy == *policy && labels.hook == *hook && series.strong_count() > 0)
            .map(|(labels, _)| labels.point)
            .peekable();
        if namesakes.peek().is_none() {
            let _absent = self.families.breaker.remove_label_values(&[&**policy, &**hook]);
        }
        if namesakes.all(|point| point != self.labels.point) {
            for result in AttemptResult::ALL {
                let _absent = self.families.attempts.remove_label_values(&self.attempt(result));
            }
        }
    }
}

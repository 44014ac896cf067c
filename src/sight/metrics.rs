//! The metrics of what passes by. All of their series exist from the start.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, Registry};

use super::startup::{Phase, Phases};
use super::termination::{End, Termination};
use crate::lifecycle::Point;
use crate::metrics::DURATION_BUCKETS;

/// Seconds: what pods ask for, from a kill at once to an hour.
const GRACE_BUCKETS: [f64; 14] = [0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0, 900.0, 3600.0];
/// Parts of the grace: from hardly any to more than all.
const RATIO_BUCKETS: [f64; 12] = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.05, 1.1, 1.5, 2.0];

/// What came of a hook of a pod itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// Exit code 0.
    Succeeded,
    /// Another exit code.
    Failed,
    /// The runtime could not run it, or nobody waited for it any more.
    Error,
}

impl Ran {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Succeeded, Self::Failed, Self::Error];

    /// As labels spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Error => "error",
        }
    }
}

/// What came of an image's pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulled {
    /// It is there.
    Success,
    /// The runtime says no.
    Error,
    /// Nobody waited for it any more.
    Cancelled,
}

impl Pulled {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Success, Self::Error, Self::Cancelled];

    /// As labels spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    post_start: [Histogram; Ran::ALL.len()],
    pre_stop: [Histogram; Ran::ALL.len()],
    startup: [Histogram; Phase::ALL.len()],
    termination: [Histogram; End::ALL.len()],
    grace: Histogram,
    used: Histogram,
    pull: [Histogram; Pulled::ALL.len()],
}

impl Metrics {
    /// Registers the families.
    ///
    /// # Errors
    /// Fails if they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let family = |name: &str, help: &str, labels: &[&str]| {
            let opts = HistogramOpts::new(name, help).buckets(DURATION_BUCKETS.to_vec());
            let family = HistogramVec::new(opts, labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let single = |name: &str, help: &str, buckets: &[f64]| {
            let single = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(single.clone()))?;
            Ok::<_, prometheus::Error>(single)
        };
        let native = family(
            "crihook_native_hook_duration_seconds",
            "The exec hooks of pods themselves, which the kubelet runs.",
            &["point", "result"],
        )?;
        let at = |point: Point| Ran::ALL.map(|ran| native.with_label_values(&[point.name(), ran.name()]));
        let startup = family(
            "crihook_pod_startup_duration_seconds",
            "The start of a pod, from its first call to the end of its last StartContainer, by what the time went to.",
            &["phase"],
        )?;
        let termination = family(
            "crihook_container_termination_duration_seconds",
            "From the first StopContainer of a running container to the answer that it has ended.",
            &["end"],
        )?;
        let pull = family("crihook_image_pull_duration_seconds", "Pulls of images.", &["result"])?;
        Ok(Self {
            post_start: at(Point::POST_START),
            pre_stop: at(Point::PRE_STOP),
            startup: Phase::ALL.map(|phase| startup.with_label_values(&[phase.name()])),
            termination: End::ALL.map(|end| termination.with_label_values(&[end.name()])),
            grace: single(
                "crihook_container_grace_period_seconds",
                "The grace that containers were given when they were stopped.",
                &GRACE_BUCKETS,
            )?,
            used: single(
                "crihook_container_grace_used_ratio",
                "The part of that grace that had passed when they had ended.",
                &RATIO_BUCKETS,
            )?,
            pull: Pulled::ALL.map(|pulled| pull.with_label_values(&[pulled.name()])),
        })
    }

    pub(super) fn native(&self, point: Point, ran: Ran, took: Duration) {
        let at = if point == Point::PRE_STOP { &self.pre_stop } else { &self.post_start };
        at[ran as usize].observe(took.as_secs_f64());
    }

    pub(super) fn startup(&self, phases: &Phases) {
        for (phase, took) in self.startup.iter().zip(phases) {
            phase.observe(took.as_secs_f64());
        }
    }

    pub(super) fn termination(&self, termination: &Termination) {
        let Termination { took, allowed, end } = *termination;
        self.termination[end as usize].observe(took.as_secs_f64());
        self.grace.observe(allowed.as_secs_f64());
        // Of no grace at all, there is no part.
        if !allowed.is_zero() {
            self.used.observe(took.div_duration_f64(allowed));
        }
    }

    pub(super) fn pull(&self, pulled: Pulled, took: Duration) {
        self.pull[pulled as usize].observe(took.as_secs_f64());
    }
}

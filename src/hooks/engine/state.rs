//! How the engine is, for `crihook status`.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;

/// Runs that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Those that wait: for their turn, a slot, a breaker or the next attempt.
    pub waiting: u64,
    /// Those with an attempt under way.
    pub in_flight: u64,
}

/// A hook whose server is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenBreaker {
    /// The policy's name.
    pub policy: Arc<str>,
    /// The hook's name in it.
    pub hook: Arc<str>,
    /// For how long its breaker has been open.
    pub open: Duration,
    /// What happened.
    pub why: String,
}

impl Engine {
    /// Runs that have not ended.
    #[must_use]
    pub fn pending(&self) -> Queue {
        let count = |gauge: &prometheus::IntGauge| gauge.get().try_into().unwrap_or_default();
        Queue { waiting: count(self.means.metrics.queue()), in_flight: count(self.means.metrics.in_flight()) }
    }

    /// The hooks in force whose server is left alone, by point, then in the order of the policies.
    #[must_use]
    pub fn open_breakers(&self) -> Vec<OpenBreaker> {
        let active = self.active();
        let open = active.all().filter_map(|bound| {
            let (open, why) = bound.breaker.as_ref()?.open()?;
            let (policy, hook) = (Arc::clone(&bound.hook.policy), Arc::clone(&bound.hook.name));
            Some(OpenBreaker { policy, hook, open, why })
        });
        open.collect()
    }
}

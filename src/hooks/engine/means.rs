//! What an engine and its runs work with.

use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::run::FAR;
use super::slots::Slots;
use super::way::Way;
use super::{RunSeen, locked};
use crate::clock::Clock;
use crate::drain::Drain;
use crate::hooks::Runtime;
use crate::hooks::metrics::HookMetrics;
use crate::hooks::pause::Pause;
use crate::journal::{Journal, NewRun};
use crate::trace::Tracer;

/// What there is around an engine.
pub struct Surroundings {
    /// Where containers run.
    pub runtime: Arc<dyn Runtime>,
    /// Where runs are written down.
    pub journal: Arc<dyn Journal>,
    /// Where they are counted.
    pub metrics: HookMetrics,
    /// What holds them.
    pub pause: Pause,
    /// What tells their time.
    pub clock: Clock,
    /// What ends them.
    pub drain: Drain,
    /// Who is told of their attempts.
    pub tracer: Tracer,
}

/// What runs need.
pub(super) struct Means {
    pub(super) around: Surroundings,
    pub(super) blocking: Slots,
    pub(super) background: Slots,
    pub(super) max_age: Duration,
    pub(super) way: Way,
    pub(super) observers: Mutex<Vec<mpsc::Sender<RunSeen>>>,
}

impl Deref for Means {
    type Target = Surroundings;

    fn deref(&self) -> &Surroundings {
        &self.around
    }
}

impl Means {
    /// When it makes no sense any more to begin with a run in the background.
    pub(super) fn expiry(&self, run: &NewRun) -> Instant {
        // How old the event of a replay is was known to whoever asked for it.
        let since = if run.replay_of.is_some() { &run.created_at.into() } else { &run.event.at };
        Instant::now() + self.max_age.saturating_sub(self.clock.age(since)).min(FAR)
    }

    pub(super) fn seen(&self, run: &RunSeen) {
        locked(&self.observers)
            .retain(|observer| !matches!(observer.try_send(run.clone()), Err(mpsc::error::TrySendError::Closed(_))));
    }
}

//! What a run must keep to besides its own timeout: the budget of the calls that wait for it, or the end of its usefulness.

use std::future::pending;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::run::{Ended, Left};
use crate::lifecycle::Outcome;

/// See the module.
pub(super) enum Terms {
    /// Calls wait. Their budget may shrink at any time and never grows; `None` is without end.
    Blocking(watch::Receiver<Option<Instant>>),
    /// Nobody waits.
    Background {
        /// Ends it between attempts.
        stop: Arc<Stop>,
        /// Leaves it to the next process.
        ending: CancellationToken,
        /// When its event is too old.
        expiry: Instant,
        /// How old that is.
        max_age: Duration,
    },
}

/// Tells a background run that it makes no sense any more.
#[derive(Default)]
pub(super) struct Stop {
    told: CancellationToken,
    reason: OnceLock<String>,
}

impl Stop {
    /// Tells it why; the first reason holds.
    pub(super) fn tell(&self, reason: &str) {
        let _first = self.reason.set(reason.to_owned());
        self.told.cancel();
    }
}

impl Terms {
    /// When an attempt must be over at the latest, as things are.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Blocking(budget) => *budget.borrow(),
            Self::Background { .. } => None,
        }
    }

    /// Waits until a run that is not in an attempt must go no further, and says how it ends, or that it does not.
    pub(super) async fn over(&mut self) -> Result<Ended, Left> {
        match self {
            Self::Blocking(budget) => {
                spent(budget, None).await;
                Ok(Ended::new(Outcome::TimedOut, "no time is left of the call"))
            }
            Self::Background { stop, ending, expiry, max_age } => {
                let reason = tokio::select! {
                    biased;
                    () = stop.told.cancelled() => stop.reason.get().cloned().unwrap_or_default(),
                    () = ending.cancelled() => return Err(Left),
                    () = at(*expiry) => too_old(*max_age),
                };
                Ok(Ended::new(Outcome::Abandoned, reason))
            }
        }
    }

    /// Waits until an attempt that was given time until `deadline` must end before it after all.
    pub(super) async fn cut(&mut self, deadline: Instant) {
        match self {
            Self::Blocking(budget) => spent(budget, Some(deadline)).await,
            Self::Background { .. } => pending().await,
        }
    }
}

/// Why a run is abandoned that nobody got to in time.
pub(super) fn too_old(max_age: Duration) -> String {
    format!("its event is older than {}", humantime::format_duration(max_age))
}

/// Waits for the end of a budget that may shrink meanwhile; only for one before `before`, if that is given.
async fn spent(budget: &mut watch::Receiver<Option<Instant>>, before: Option<Instant>) {
    loop {
        let end = budget.borrow_and_update().filter(|end| before.is_none_or(|before| *end < before));
        let shrunk = async {
            if budget.changed().await.is_err() {
                pending::<()>().await;
            }
        };
        match end {
            None => shrunk.await,
            Some(end) => tokio::select! {
                biased;
                () = at(end) => return,
                () = shrunk => {}
            },
        }
    }
}

/// A time that has passed is not waited for, not even for a tick of the timer.
async fn at(time: Instant) {
    if time > Instant::now() {
        sleep_until(time).await;
    }
}

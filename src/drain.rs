//! The orderly end: one signal that everything hears, and a way to know when everything is done.
//!
//! It has two steps. *Draining*: take no new work, finish what is there. *Forced*: stop at once. Whoever does work
//! holds a [`Guard`] while it does.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Shared by all parts of the process; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    draining: CancellationToken,
    ending: CancellationToken,
    forced: CancellationToken,
    work: TaskTracker,
}

/// Held by work that a drain waits for.
#[derive(Debug)]
pub struct Guard(#[expect(dead_code, reason = "held for its Drop")] TaskTrackerToken);

impl Drain {
    /// Declares work: [`Drain::finished`] waits until the guard is dropped.
    #[must_use]
    pub fn guard(&self) -> Guard {
        Guard(self.work.token())
    }

    /// Asks everything to finish. Saying it again changes nothing.
    pub fn start(&self) {
        self.ending.cancel();
        self.draining.cancel();
        self.work.close();
    }

    /// Asks everything to stop now; implies [`Drain::start`].
    pub fn force(&self) {
        self.start();
        self.forced.cancel();
    }

    /// Whether a drain has been asked for.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// The signal to finish, to be waited on or polled.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// The signal that nobody goes on with what is left: a drain that is no handover to another process.
    #[must_use]
    pub fn ending(&self) -> &CancellationToken {
        &self.ending
    }

    /// The signal to stop now.
    #[must_use]
    pub fn forced(&self) -> &CancellationToken {
        &self.forced
    }

    /// Waits until a drain was started and every guard is gone.
    pub async fn finished(&self) {
        self.work.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_finishes_when_it_was_started_and_the_last_guard_is_gone() {
        let drain = Drain::default();
        let (one, two) = (drain.guard(), drain.guard());
        let finished = drain.finished();
        tokio::pin!(finished);
        let mut pending =
            async || tokio::select! { biased; () = &mut finished => false, () = std::future::ready(()) => true };
        assert!(pending().await, "not started");
        drain.start();
        assert!(drain.is_draining() && !drain.forced().is_cancelled());
        drop(one);
        assert!(pending().await, "a guard is held");
        drop(two);
        assert!(!pending().await);
    }
}

//! A sequence of blocking runs that one or more calls wait for.
//!
//! A call that is repeated while its hooks run joins them. What is shared ends at the earliest deadline of its calls, and is given
//! up only when the last of them has gone; one that comes after that waits for the end of the old before it begins anew.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Rejection, locked};

/// What a fire comes to.
pub(super) type Verdict = Result<(), Rejection>;

/// Shared by the task that runs the hooks and the calls that wait.
pub(super) struct Session {
    /// Calls that wait. At zero it is given up, for good.
    callers: Mutex<usize>,
    budget: watch::Sender<Option<Instant>>,
    verdict: watch::Sender<Option<Verdict>>,
    gone: CancellationToken,
    ended: CancellationToken,
}

/// A call that waits; it goes when this is dropped.
pub(super) struct Caller(Arc<Session>);

impl Session {
    /// With its first call.
    pub(super) fn new(deadline: Option<Instant>) -> (Arc<Self>, Caller) {
        let session = Arc::new(Self {
            callers: Mutex::new(1),
            budget: watch::Sender::new(deadline),
            verdict: watch::Sender::new(None),
            gone: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        (Arc::clone(&session), Caller(session))
    }

    /// One more call waits; `None` if the last has gone already.
    pub(super) fn join(self: &Arc<Self>, deadline: Option<Instant>) -> Option<Caller> {
        let mut callers = locked(&self.callers);
        if *callers == 0 {
            return None;
        }
        *callers += 1;
        self.budget.send_if_modified(|budget| {
            let shorter = deadline.filter(|deadline| budget.is_none_or(|budget| *deadline < budget));
            *budget = shorter.or(*budget);
            shorter.is_some()
        });
        Some(Caller(Arc::clone(self)))
    }

    /// The budget of its calls together.
    pub(super) fn budget(&self) -> watch::Receiver<Option<Instant>> {
        self.budget.subscribe()
    }

    /// The last call has gone.
    pub(super) fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    /// Nothing of it runs any more.
    pub(super) fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// Its task has ended.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// All that wait get this.
    pub(super) fn conclude(&self, verdict: Verdict) {
        self.verdict.send_replace(Some(verdict));
    }
}

impl Caller {
    /// Waits for the verdict; `None` if there is none because crihook was ended.
    pub(super) async fn verdict(&self) -> Option<Verdict> {
        let mut verdict = self.0.verdict.subscribe();
        tokio::select! {
            biased;
            verdict = verdict.wait_for(Option::is_some) => verdict.ok().and_then(|verdict| verdict.clone()),
            () = self.0.ended.cancelled() => self.0.verdict.borrow().clone(),
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut callers = locked(&self.0.callers);
        *callers = callers.saturating_sub(1);
        if *callers == 0 {
            self.0.gone.cancel();
        }
    }
}

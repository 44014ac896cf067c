//! The orderly end, and the handover to another process: signals that everything hears, and a way to know when everything is done.
//!
//! ```text
//!            hand_over             let_go
//!   ┌─ Ours ───────────▶ Lent ────────────▶ Gone        who accepts: this process, another one, another one for good
//!   │    ▲                 │
//!   │    └── take_back ────┘
//!   └─ start, at any time: ending ─▶ force: forced
//! ```
//!
//! *Draining*: take no new work, finish what is there. *Ending*: draining, and nobody in this process goes on with what is left, which
//! is the next one's. *Forced*: stop at once. Whoever does work holds a [`Guard`] while it does.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Whose the listening sockets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// This process accepts.
    Ours,
    /// Another process accepts; should it die, this one will again.
    Lent,
    /// Another process accepts, whatever becomes of it.
    Gone,
}

/// The time between two handovers.
#[derive(Debug)]
struct Term {
    hold: Hold,
    draining: CancellationToken,
}

/// Shared by all parts of the process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Drain {
    term: Arc<watch::Sender<Term>>,
    ending: CancellationToken,
    forced: CancellationToken,
    work: TaskTracker,
}

/// Held by work that a drain waits for.
#[derive(Debug)]
pub struct Guard(#[expect(dead_code, reason = "held for its Drop")] TaskTrackerToken);

impl Default for Drain {
    fn default() -> Self {
        let ending = CancellationToken::new();
        let term = Term { hold: Hold::Ours, draining: ending.child_token() };
        Self {
            term: Arc::new(watch::Sender::new(term)),
            ending,
            forced: CancellationToken::new(),
            work: TaskTracker::new(),
        }
    }
}

impl Drain {
    /// Declares work: [`Drain::finished`] waits until the guard is dropped.
    #[must_use]
    pub fn guard(&self) -> Guard {
        Guard(self.work.token())
    }

    /// Asks everything to finish, since the process ends. Saying it again changes nothing.
    pub fn start(&self) {
        // A term's draining is a child of it.
        self.ending.cancel();
        self.work.close();
    }

    /// Asks everything to stop now; implies [`Drain::start`].
    pub fn force(&self) {
        self.start();
        self.forced.cancel();
    }

    /// Another process accepts: everything here finishes what there is, but nothing of it is left to others.
    pub fn hand_over(&self) {
        self.term.send_if_modified(|term| {
            let ours = term.hold == Hold::Ours;
            if ours {
                term.hold = Hold::Lent;
                term.draining.cancel();
                self.work.close();
            }
            ours
        });
    }

    /// The other process is gone: new work is taken again. What was told to finish finishes all the same.
    pub fn take_back(&self) {
        self.term.send_if_modified(|term| {
            let lent = term.hold == Hold::Lent && !self.ending.is_cancelled();
            if lent {
                *term = Term { hold: Hold::Ours, draining: self.ending.child_token() };
                self.work.reopen();
            }
            lent
        });
    }

    /// What is lent will not come back.
    pub fn let_go(&self) {
        self.term.send_if_modified(|term| {
            let lent = term.hold == Hold::Lent;
            if lent {
                term.hold = Hold::Gone;
            }
            lent
        });
    }

    /// Whose the sockets are now.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.term.borrow().hold
    }

    /// Waits until this process is to accept. False if it never is again.
    pub async fn ours(&self) -> bool {
        let mut term = self.term.subscribe();
        tokio::select! {
            biased;
            () = self.ending.cancelled() => false,
            term = term.wait_for(|term| term.hold != Hold::Lent) => term.is_ok_and(|term| term.hold == Hold::Ours),
        }
    }

    /// Waits until another process is to accept.
    pub async fn lent(&self) {
        // The sender is here, so there is always an answer.
        let _ = self.term.subscribe().wait_for(|term| term.hold != Hold::Ours).await;
    }

    /// Whether everything has been asked to finish.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.term.borrow().draining.is_cancelled()
    }

    /// The signal to finish, to be waited on or polled, for what begins now.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.term.borrow().draining.clone()
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

    async fn is_pending(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
        tokio::select! { biased; () = future => false, () = std::future::ready(()) => true }
    }

    #[tokio::test]
    async fn it_finishes_when_it_was_started_and_the_last_guard_is_gone() {
        let drain = Drain::default();
        let (one, two) = (drain.guard(), drain.guard());
        let mut finished = Box::pin(drain.finished());
        assert!(is_pending(&mut finished).await, "not started");
        drain.start();
        assert!(drain.is_draining() && !drain.forced().is_cancelled());
        drop(one);
        assert!(is_pending(&mut finished).await, "a guard is held");
        drop(two);
        assert!(!is_pending(&mut finished).await);
    }

    #[tokio::test]
    async fn what_was_handed_over_is_taken_back_for_what_begins_then() {
        let drain = Drain::default();
        let before = (drain.guard(), drain.draining());
        drain.hand_over();
        assert!(before.1.is_cancelled() && drain.is_draining() && !drain.ending().is_cancelled());
        drain.lent().await;
        drain.take_back();
        assert!(drain.ours().await);
        assert!(before.1.is_cancelled() && !drain.is_draining());
        drop(before);
        let mut finished = Box::pin(drain.finished());
        assert!(is_pending(&mut finished).await, "it serves");
        let after = drain.draining();
        drain.start();
        assert!(after.is_cancelled() && !drain.ours().await);
        assert!(!is_pending(&mut finished).await);
    }

    #[tokio::test]
    async fn what_is_gone_or_ends_does_not_come_back() {
        let (gone, ends) = (Drain::default(), Drain::default());
        gone.let_go();
        assert_eq!(gone.hold(), Hold::Ours, "nobody has it");
        gone.hand_over();
        gone.let_go();
        ends.hand_over();
        ends.start();
        for drain in [gone, ends] {
            drain.take_back();
            assert!(!drain.ours().await && drain.is_draining());
            drain.finished().await;
        }
    }
}

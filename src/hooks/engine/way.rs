//! Calls go first: what runs in the background gives way to calls that wait for the journal.
//!
//! When many calls come at once, what follows the first of them would otherwise take the processor and the journal from the others.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How long a run gives way at most: where calls never cease, what follows them is late by so much.
const AT_MOST: Duration = Duration::from_millis(20);

/// How many calls wait.
#[derive(Default)]
pub(super) struct Way(watch::Sender<usize>);

/// A call that waits.
pub(super) struct Passing<'a>(&'a Way);

impl Way {
    /// A call waits from now on, until this is dropped.
    pub(super) fn pass(&self) -> Passing<'_> {
        self.0.send_if_modified(|calls| {
            *calls += 1;
            false
        });
        Passing(self)
    }

    /// Waits until no call does, but not for long.
    pub(super) async fn clear(&self) {
        let mut calls = self.0.subscribe();
        // It fails when it has taken too long; its other end is here.
        let _ = timeout(AT_MOST, calls.wait_for(|calls| *calls == 0)).await;
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0.0.send_if_modified(|calls| {
            *calls -= 1;
            *calls == 0
        });
    }
}

//! Those who wait for the same commit.
//!
//! A commit that begins with the first entry of many has the rest wait for two; and to be woken by another thread is dear. So whoever waits joins a group: a task
//! on the thread of those who wait asks for their commit once all that are ready have written, and tells them.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use super::writer::Job;
use super::{Shared, locked};

/// Cancelled when everything written so far is safe, or the writer is gone.
pub(super) fn join(shared: &Arc<Shared>, jobs: &Sender<Job>) -> CancellationToken {
    let mut gathering = locked(&shared.gathering);
    if let Some(safe) = gathering.as_ref().filter(|safe| !safe.is_cancelled()) {
        return safe.clone();
    }
    let safe = CancellationToken::new();
    *gathering = Some(safe.clone());
    drop(gathering);
    tokio::spawn(tell(Arc::clone(shared), jobs.clone(), safe.clone()));
    safe
}

async fn tell(shared: Arc<Shared>, jobs: Sender<Job>, safe: CancellationToken) {
    // However this task ends, nobody waits for it any longer.
    let _told = safe.drop_guard();
    yield_now().await;
    // First nobody can join any more: who comes later may have written what this commit does not hold.
    locked(&shared.gathering).take();
    let (done, committed) = oneshot::channel();
    if jobs.send(Job::Barrier(done)).is_ok() {
        let _ = committed.await;
    }
}

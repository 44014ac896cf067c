//! A way to ask from another thread whether the data path still moves.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// The asking end.
#[derive(Debug, Clone)]
pub struct Heartbeat(mpsc::Sender<oneshot::Sender<()>>);

/// The answering end, run on the data path.
#[derive(Debug)]
pub struct Beats(mpsc::Receiver<oneshot::Sender<()>>);

impl Heartbeat {
    /// Both ends.
    #[must_use]
    pub fn new() -> (Self, Beats) {
        let (ask, asked) = mpsc::channel(8);
        (Self(ask), Beats(asked))
    }

    /// True if the data path answers within `limit`.
    pub async fn beat(&self, limit: Duration) -> bool {
        let (answer, answered) = oneshot::channel();
        timeout(limit, async { self.0.send(answer).await.is_ok() && answered.await.is_ok() }).await.unwrap_or(false)
    }
}

impl Beats {
    /// Answers for as long as somebody may ask.
    pub async fn answer(mut self) {
        while let Some(asked) = self.0.recv().await {
            let _ = asked.send(());
        }
    }
}

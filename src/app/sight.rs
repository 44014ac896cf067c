//! Puts together what looks at calls that pass: the tap in the data path, and who looks at what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::hooks::Hooks;
use crate::clock::Clock;
use crate::proxy::{Seen, Tap};
use crate::sight::{self, Surroundings};

/// How long the end waits for what was seen last to be looked at.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// Registered, and not at work yet.
pub(super) struct Sight {
    metrics: sight::Metrics,
    tap: Tap,
    seen: mpsc::Receiver<Seen>,
}

/// At work.
pub(super) struct Looking(JoinHandle<()>);

impl Sight {
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let (tap, seen) = Tap::register(registry, sight::looks_at)?;
        Ok(Self { metrics: sight::Metrics::register(registry)?, tap, seen })
    }

    /// Looks at what comes out of the tap that it gives. `output`: whether what the pods' own hooks print is kept.
    pub fn start(self, hooks: &Hooks, output: bool) -> (Tap, Looking) {
        let ended = hooks.ended.clone();
        let around = Surroundings {
            inventory: Arc::clone(&hooks.inventory),
            journal: Arc::clone(&hooks.journal) as _,
            written: Box::new(move |run| {
                // Without followers it fails.
                let _ = ended.send(run);
            }),
            metrics: self.metrics,
            clock: Clock::system(),
            output,
        };
        (self.tap, Looking(tokio::spawn(sight::watch(self.seen, around))))
    }
}

impl Looking {
    /// The tap is gone: looks at what is left.
    pub async fn finish(self) {
        if timeout(LAST_LOOK, self.0).await.is_err() {
            tracing::warn!("what passed last was not looked at within {LAST_LOOK:?}: the runtime does not answer");
        }
    }
}

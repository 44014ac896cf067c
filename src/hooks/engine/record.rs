//! The record of one attempt, made exactly once: when it is over, or when it is dropped.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::Means;
use super::active::Bound;
use crate::hooks::handler::Evidence;
use crate::journal::{AttemptRecord, AttemptResult, Entry};

/// An attempt under way.
pub(super) struct Attempting {
    means: Arc<Means>,
    bound: Arc<Bound>,
    run: Arc<str>,
    number: u32,
    at: SystemTime,
    began: Instant,
    recorded: bool,
}

impl Attempting {
    /// It begins now; `number` counts from 1.
    pub(super) fn begin(means: &Arc<Means>, bound: &Arc<Bound>, run: &Arc<str>, number: u32) -> Self {
        means.metrics.queue().dec();
        means.metrics.in_flight().inc();
        let (means, bound, run) = (Arc::clone(means), Arc::clone(bound), Arc::clone(run));
        Self { means, bound, run, number, at: SystemTime::now(), began: Instant::now(), recorded: false }
    }

    /// It is over.
    pub(super) fn over(mut self, result: AttemptResult, message: Option<&str>, evidence: &Evidence) {
        self.record(result, message, evidence);
    }

    fn record(&mut self, result: AttemptResult, message: Option<&str>, evidence: &Evidence) {
        self.recorded = true;
        self.means.metrics.in_flight().dec();
        self.means.metrics.queue().inc();
        self.bound.series.attempted(result);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let attempt = AttemptRecord {
            number: self.number,
            started_at: self.at,
            duration: self.began.elapsed(),
            result,
            message: message.map(str::to_owned),
            exit_code: evidence.exit_code,
            http_status: evidence.http_status,
            stdout: text(&evidence.stdout),
            stderr: text(&evidence.stderr),
            body: text(&evidence.body),
        };
        self.means.journal.write(Entry::Attempt { id: Arc::clone(&self.run), attempt });
    }
}

impl Drop for Attempting {
    fn drop(&mut self) {
        if !self.recorded {
            self.record(AttemptResult::Cancelled, None, &Evidence::default());
        }
    }
}

//! The metrics of the journal.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

use crate::metrics::DURATION_BUCKETS;

/// The families; cheap to clone.
#[derive(Debug, Clone)]
pub struct JournalMetrics {
    pub(super) writes: IntCounter,
    pub(super) commits: IntCounter,
    pub(super) commit_duration: Histogram,
    pub(super) errors: IntCounter,
    pub(super) slow: IntCounter,
    pub(super) dropped: IntCounter,
    pub(super) pending: IntGauge,
    pub(super) degraded: IntGauge,
    pub(super) runs: IntGauge,
    pub(super) bytes: IntGauge,
}

impl JournalMetrics {
    /// Registers the families.
    ///
    /// # Errors
    /// Fails if they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        let commit_duration = Histogram::with_opts(
            HistogramOpts::new(
                "crihook_journal_commit_duration_seconds",
                "What it takes to have what was written on the disk; one commit for all that waits.",
            )
            .buckets(DURATION_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(commit_duration.clone()))?;
        Ok(Self {
            writes: counter("crihook_journal_writes_total", "Entries that were written.")?,
            commits: counter("crihook_journal_commits_total", "Commits that entries were written with.")?,
            commit_duration,
            errors: counter("crihook_journal_errors_total", "Times that the disk did not keep the journal.")?,
            slow: counter("crihook_journal_slow_commits_total", "Times that nobody waited for a commit any longer.")?,
            dropped: counter(
                "crihook_journal_dropped_total",
                "Entries and outputs that were not kept because too many waited or made no sense.",
            )?,
            pending: gauge("crihook_journal_pending", "Entries that are not safe yet.")?,
            degraded: gauge("crihook_journal_degraded", "1 while runs are kept in memory only, or commits are slow.")?,
            runs: gauge("crihook_journal_runs", "Runs that the journal holds.")?,
            bytes: gauge("crihook_journal_bytes", "The size of the journal's files.")?,
        })
    }
}

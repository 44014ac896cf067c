//! One transaction for all entries that are there, on the disk, or in memory if that does not take them.

use std::mem;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::{Store, Writer};
use crate::journal::store::retention::sweep;
use crate::journal::store::trouble::Trouble;
use crate::journal::store::{locked, table};
use crate::journal::{Entry, Retention};

/// Entries of one commit at most.
const BATCH: usize = 4096;
/// What memory holds of runs that have ended.
const IN_MEMORY: Retention = Retention { max_age: Duration::MAX, max_runs: 20_000, max_bytes: 8 << 20 };

impl Writer {
    /// Writes down all that is there.
    pub(super) fn commit(&mut self) {
        let written = locked(&self.shared.written).as_mut().map(mem::take).unwrap_or_default();
        for entries in written.entries.chunks(BATCH) {
            self.write(entries);
            self.is_quiet = false;
        }
    }

    fn write(&mut self, entries: &[Entry]) {
        let began = Instant::now();
        let written = match &mut self.store {
            Some(Store::Disk(disk)) => write_all(&mut disk.db, &self.name, entries),
            _ => Err(Trouble::Busy),
        };
        match (written, &self.store) {
            (Ok(dropped), _) => self.shared.metrics.dropped.inc_by(dropped),
            (Err(trouble), Some(Store::Disk(_))) => {
                self.degrade(&trouble);
                self.remember(entries);
                if let Trouble::Damaged(_) = trouble {
                    self.note(entries);
                    self.committed(entries.len(), began);
                    return self.retry();
                }
            }
            (Err(_), _) => self.remember(entries),
        }
        self.note(entries);
        self.committed(entries.len(), began);
    }

    fn committed(&self, entries: usize, began: Instant) {
        let metrics = &self.shared.metrics;
        metrics.writes.inc_by(entries as u64);
        metrics.commits.inc();
        metrics.commit_duration.observe(began.elapsed().as_secs_f64());
        self.shared.safe(entries as u64);
    }

    /// Writes to memory, which always has room: what has ended goes, if it must.
    fn remember(&mut self, entries: &[Entry]) {
        let Some(Store::Memory { memory, .. }) = &mut self.store else { return };
        for entry in entries {
            memory.note(entry);
        }
        let written = write_all(&mut memory.db, &self.name, entries);
        let dropped = written.unwrap_or_else(|trouble| {
            tracing::error!("hooks cannot be written down, not even in memory: {}", trouble.tell(&self.path));
            entries.len() as u64
        });
        self.shared.metrics.dropped.inc_by(dropped);
        let gone = sweep(&mut memory.db, &IN_MEMORY, SystemTime::now()).map_or(0, |swept| swept.gone);
        self.runs = self.runs.saturating_sub(gone);
        self.shared.metrics.dropped.inc_by(gone);
    }

    /// Keeps track of what there is.
    fn note(&mut self, entries: &[Entry]) {
        for entry in entries {
            match entry {
                Entry::Begin { .. } => self.runs += 1,
                Entry::Retract { .. } => self.runs = self.runs.saturating_sub(1),
                _ => {}
            }
            self.unended.note(entry);
        }
    }
}

/// Writes all, or nothing. Gives how many made no sense, which are left out.
fn write_all(db: &mut Connection, owner: &str, entries: &[Entry]) -> Result<u64, Trouble> {
    let write = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut dropped = 0;
    for entry in entries {
        match table::write(&write, owner, entry) {
            Ok(()) => {}
            // One that breaks a rule of the schema would break it again, and take the others with it.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                tracing::error!("an entry of the journal makes no sense and is left out: {error}");
                dropped += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
    write.commit()?;
    Ok(dropped)
}

//! What is not kept any longer. A little at a time, so that nobody waits for it.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Result, TransactionBehavior, params};

use super::table::{length, nanos};
use crate::journal::Retention;

/// Runs that go at once: so few that no commit waits for it for long.
const BATCH: u64 = 200;
/// Pages that are given back to the file system at once.
const PAGES: u64 = 256;
/// How long successes are remembered at least. The kubelet repeats no call of a container after so long a time.
const DONE: Duration = Duration::from_hours(7 * 24);

/// What came of a batch.
pub(super) struct Swept {
    /// Runs that are gone.
    pub(super) gone: u64,
    /// Another batch may find more to do.
    pub(super) is_unfinished: bool,
}

/// Lets a batch of runs go that have ended, the oldest first.
pub(super) fn sweep(db: &mut Connection, kept: &Retention, now: SystemTime) -> Result<Swept> {
    let count: u64 = db.query_row("SELECT count(*) FROM runs", [], |row| row.get(0))?;
    let excess = count.saturating_sub(kept.max_runs);
    let excess = if bytes(db)? > kept.max_bytes { excess.max(BATCH) } else { excess };
    let oldest = nanos(now).saturating_sub(length(kept.max_age));
    let sweep = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    sweep.execute_batch("CREATE TEMP TABLE IF NOT EXISTS going (id TEXT PRIMARY KEY); DELETE FROM going")?;
    let found = |sql: &str, value: i64| sweep.execute(sql, params![value, BATCH]);
    let ended = "INSERT OR IGNORE INTO going SELECT id FROM runs WHERE ended_at IS NOT NULL";
    if excess > 0 {
        let excess = i64::try_from(excess).unwrap_or(i64::MAX);
        found(&format!("{ended} ORDER BY created_at LIMIT min(?1, ?2)"), excess)?;
    }
    // By the time of its beginning, which has an index; a run takes no longer than its own maxAge and its attempts.
    found(&format!("{ended} AND created_at < ?1 AND ended_at < ?1 ORDER BY created_at LIMIT ?2"), oldest)?;
    sweep.execute("DELETE FROM attempts WHERE run IN (SELECT id FROM going)", [])?;
    sweep.execute("DELETE FROM events WHERE run IN (SELECT id FROM going)", [])?;
    let gone = sweep.execute("DELETE FROM runs WHERE id IN (SELECT id FROM going)", [])?;
    let remembered = nanos(now).saturating_sub(length(kept.max_age.max(DONE)));
    sweep.execute("DELETE FROM done WHERE at < ?1", [remembered])?;
    sweep.commit()?;
    let free = pragma(db, "freelist_count")?;
    if free > 0 {
        shrink(db)?;
    }
    Ok(Swept { gone: gone as u64, is_unfinished: gone > 0 || free > PAGES })
}

/// The bytes of pages in use.
pub(super) fn bytes(db: &Connection) -> Result<u64> {
    Ok((pragma(db, "page_count")? - pragma(db, "freelist_count")?) * pragma(db, "page_size")?)
}

fn pragma(db: &Connection, name: &str) -> Result<u64> {
    db.pragma_query_value(None, name, |row| row.get(0))
}

fn shrink(db: &Connection) -> Result<()> {
    let mut statement = db.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut pages = statement.query([])?;
    while pages.next()?.is_some() {}
    Ok(())
}

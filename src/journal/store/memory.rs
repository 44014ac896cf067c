//! What holds runs while the disk does not: a database of the same form, in memory.

use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, OpenFlags, params};

use super::schema::{STEPS, migrate};
use super::table::{self, nanos};
use super::trouble::Trouble;
use crate::journal::{Entry, LeftRun};

/// It, and what it takes to bring it back to the disk.
pub(super) struct Memory {
    pub(super) db: Connection,
    uri: String,
    /// Subjects whose successes on the disk are not to be remembered any more.
    forgotten: Vec<Arc<str>>,
}

/// Where other connections of this process find the memory of `owner`.
pub(super) fn uri(owner: &str) -> String {
    format!("file:/crihook-{owner}?vfs=memdb")
}

impl Memory {
    /// Begins with the runs that have not ended. When it is dropped, what it held is gone.
    pub(super) fn open<'a>(
        owner: &str,
        unended: impl Iterator<Item = (&'a LeftRun, Option<SystemTime>)>,
    ) -> Result<Self, Trouble> {
        let uri = uri(owner);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_URI;
        let mut db = Connection::open_with_flags(&uri, flags)?;
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        migrate(&mut db, STEPS)?;
        let seeding = db.transaction()?;
        for (left, started_at) in unended {
            table::begin(&seeding, owner, &left.run, left.intended)?;
            let sql = "UPDATE runs SET started = ?2, started_at = ?3 WHERE id = ?1";
            seeding.prepare_cached(sql)?.execute(params![&*left.run.id, left.started, started_at.map(nanos)])?;
        }
        seeding.commit()?;
        Ok(Self { db, uri, forgotten: Vec::new() })
    }

    /// Notes what the disk has to be told beside what is in here.
    pub(super) fn note(&mut self, entry: &Entry) {
        if let Entry::Forget { subject } = entry {
            self.forgotten.push(Arc::clone(subject));
        }
    }

    /// Brings everything to the disk, all at once or not at all.
    pub(super) fn move_to(&self, disk: &mut Connection, owner: &str) -> Result<(), Trouble> {
        disk.execute("ATTACH ?1 AS memory", [&self.uri])?;
        let moved = self.copy_to(disk, owner);
        // A connection that cannot detach is not used any further, either.
        disk.execute("DETACH memory", []).map_err(Trouble::from).and(moved)
    }

    fn copy_to(&self, disk: &mut Connection, owner: &str) -> Result<(), Trouble> {
        let copy = disk.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for subject in &self.forgotten {
            copy.execute("DELETE FROM main.done WHERE subject = ?1", [&**subject])?;
        }
        // What this process had begun and is not in here was taken back.
        let taken_back = "owner = ?1 AND ended_at IS NULL AND id NOT IN (SELECT id FROM memory.runs)";
        copy.execute(
            &format!("DELETE FROM main.events WHERE run IN (SELECT id FROM main.runs WHERE {taken_back})"),
            [owner],
        )?;
        copy.execute(&format!("DELETE FROM main.runs WHERE {taken_back}"), [owner])?;
        for table in ["runs", "events", "attempts", "done"] {
            copy.execute(&format!("INSERT OR REPLACE INTO main.{table} SELECT * FROM memory.{table}"), [])?;
        }
        copy.commit()?;
        Ok(())
    }
}

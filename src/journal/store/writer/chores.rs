//! What the writer does when nobody waits for it: it looks who is gone, lets old runs go, copies the log, measures.

use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use rusqlite::TransactionBehavior;

use super::{Store, Writer};
use crate::journal::Left;
use crate::journal::store::owner::Others;
use crate::journal::store::retention::{self, sweep};
use crate::journal::store::trouble::Trouble;
use crate::journal::store::{read, table};
use crate::lifecycle::Outcome;

impl Writer {
    /// What is done about once a second.
    pub(super) fn tick(&mut self) {
        match &self.store {
            Some(Store::Memory { again, .. }) if Instant::now() >= *again => self.retry(),
            Some(Store::Memory { .. }) => {}
            Some(Store::Disk(disk)) if !disk.stands() => {
                self.degrade(&Trouble::Other("it was removed or replaced".to_owned()));
                self.retry();
            }
            Some(Store::Disk(_)) => {
                self.is_sweeping |= self.swept.elapsed() >= self.settings.sweep;
                if let Err(trouble) = self.look_around(false) {
                    self.fail(&trouble);
                } else if std::mem::replace(&mut self.is_quiet, true) {
                    self.checkpoint(0);
                }
            }
            None => self.begin(),
        }
        self.measure();
    }

    /// Takes over what processes that are gone have left.
    pub(super) fn look_around(&mut self, thoroughly: bool) -> Result<(), Trouble> {
        let (Some(owner), Some(Store::Disk(disk))) = (&self.owner, &mut self.store) else { return Ok(()) };
        // In this order: whoever has runs has shown before that he lives.
        let owners = table::owners(&disk.db)?;
        let Others { alive, dead } = owner.others()?;
        self.shared.company.store(!alive.is_empty(), Ordering::Relaxed);
        let has_lost = self.alive.iter().any(|owner| !alive.contains(owner));
        self.alive = alive;
        let is_gone = |owner: &String| *owner != self.name && !self.alive.contains(owner);
        let gone: Vec<_> = owners.into_iter().filter(is_gone).collect();
        if !thoroughly && !has_lost && gone.is_empty() && dead.is_empty() {
            return Ok(());
        }
        let adopt = disk.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        table::adopt(&adopt, &self.name, &gone)?;
        let (runs, unreadable) = read::left(&adopt, &self.name, |id| self.unended.knows(id))?;
        for id in unreadable {
            table::end(&adopt, &id, SystemTime::now(), Outcome::Abandoned, Some("its record cannot be read"))?;
        }
        let done = read::done(&adopt, None)?;
        adopt.commit()?;
        for (file, _lock) in dead {
            let _ = std::fs::remove_file(file);
        }
        let first = !std::mem::replace(&mut self.has_adopted, true);
        // One that had nothing left may still have done something.
        if !first && !has_lost && gone.is_empty() {
            return Ok(());
        }
        for left in &runs {
            self.unended.adopt(left.clone());
        }
        let _ = self.left.send(Left { runs, done });
        Ok(())
    }

    /// Lets a little go of what is not kept any longer; whoever waits for a commit has his turn before there is more.
    pub(super) fn sweep(&mut self) -> Result<(), Trouble> {
        self.is_sweeping = false;
        let Some(Store::Disk(disk)) = &mut self.store else { return Ok(()) };
        self.is_sweeping = sweep(&mut disk.db, &self.settings.retention, SystemTime::now())?.is_unfinished;
        self.is_quiet = false;
        if !self.is_sweeping {
            self.swept = Instant::now();
            self.count()?;
        }
        Ok(())
    }

    /// Copies the log into the file if there are more pages of it than that.
    pub(super) fn checkpoint(&self, pages: u64) {
        let Some(Store::Disk(disk)) = &self.store else { return };
        let copied = disk.uncopied().and_then(|left| if left > pages { disk.checkpoint(false) } else { Ok(()) });
        if let Err(error) = copied {
            tracing::debug!("the journal's log cannot be copied into its file: {error}");
        }
    }

    pub(super) fn count(&mut self) -> Result<(), Trouble> {
        if let Some(Store::Disk(disk)) = &self.store {
            self.runs = disk.db.query_row("SELECT count(*) FROM runs", [], |row| row.get(0))?;
            self.measure();
        }
        Ok(())
    }

    fn measure(&self) {
        let bytes = match &self.store {
            Some(Store::Disk(disk)) => disk.bytes(),
            Some(Store::Memory { memory, .. }) => retention::bytes(&memory.db).unwrap_or(0),
            None => return,
        };
        self.shared.measured(self.runs, bytes);
    }
}

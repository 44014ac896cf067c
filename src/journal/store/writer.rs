//! The thread that writes: one commit for all that waits, on the disk or, while that does not keep it, in memory.
//!
//! ```text
//!             fails: seeded with what has not ended
//!   Disk ────────────────────────────────────────────▶ Memory
//!    ▲                                                    │ tried again after 1 s, 2 s, ... 30 s
//!    └────────────────────────────────────────────────────┘
//!             moved back, all at once
//! ```
//!
//! How it is written is in `commit`; what else is done when nobody waits is in `chores`.

mod chores;
mod commit;

use std::iter;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::disk::{Disk, make_directory, set_aside};
use super::memory::Memory;
use super::owner::{Owner, StateLock};
use super::trouble::Trouble;
use super::unended::Unended;
use super::{Settings, Shared, locked, read};
use crate::journal::Left;

/// Pages of the log that are copied into the file even if somebody waits for it, once in some hundred commits; fewer are when nobody does.
const LOG: u64 = 4096;

/// What the thread is asked.
pub(super) enum Job {
    /// Something is there to be written.
    Written,
    /// Write everything that is there, and tell when it is safe.
    Barrier(oneshot::Sender<()>),
    /// Somebody could not read the file, for it seems to be damaged.
    Suspect,
    /// Give a share of the directory's lock, if it is held.
    Share(oneshot::Sender<Option<OwnedFd>>),
    /// End, in order.
    Close(oneshot::Sender<()>),
    /// End as a process that is killed.
    #[cfg(test)]
    Die,
}

pub(super) struct Writer {
    settings: Settings,
    path: PathBuf,
    /// The name of this process as an owner.
    name: String,
    shared: Arc<Shared>,
    left: mpsc::UnboundedSender<Left>,
    inherited: Option<OwnedFd>,
    lock: Option<StateLock>,
    owner: Option<Owner>,
    /// `None` only before the start.
    store: Option<Store>,
    /// Whether anything that was left on the disk has been taken over.
    has_adopted: bool,
    /// The owners that were alive when last looked.
    alive: Vec<String>,
    /// This process's own.
    unended: Unended,
    /// Runs that there are; counted now and then, since others write too.
    runs: u64,
    /// Whether nobody has written anything since the last tick.
    is_quiet: bool,
    swept: Instant,
    /// There is more to sweep.
    is_sweeping: bool,
}

enum Store {
    Disk(Disk),
    Memory { memory: Memory, again: Instant, pause: Duration },
}

enum Next {
    Go,
    End,
}

impl Writer {
    pub(super) fn new(
        settings: Settings,
        shared: Arc<Shared>,
        left: mpsc::UnboundedSender<Left>,
        inherited: Option<OwnedFd>,
    ) -> Self {
        let (path, name) = (shared.path.clone(), shared.owner.clone());
        let (lock, owner, store, unended) = Default::default();
        let (has_adopted, alive, swept) = (false, Vec::new(), Instant::now());
        let (runs, is_quiet, is_sweeping) = Default::default();
        Self {
            settings,
            path,
            name,
            shared,
            left,
            inherited,
            lock,
            owner,
            store,
            has_adopted,
            alive,
            unended,
            runs,
            is_quiet,
            swept,
            is_sweeping,
        }
    }

    /// Works until it is told to end, or nobody can tell it anything any more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        self.begin();
        self.go(jobs);
        let late = locked(&self.shared.written).take().unwrap_or_default().entries.len() as u64;
        self.shared.metrics.dropped.inc_by(late);
        self.shared.past(late);
    }

    fn go(&mut self, jobs: &Receiver<Job>) {
        let mut ticked = Instant::now();
        loop {
            let wait =
                if self.is_sweeping { Duration::ZERO } else { self.settings.tick.saturating_sub(ticked.elapsed()) };
            let next = match jobs.recv_timeout(wait) {
                Ok(job) => self.work(job, jobs),
                Err(RecvTimeoutError::Timeout) => Next::Go,
                Err(RecvTimeoutError::Disconnected) => {
                    self.commit();
                    Next::End
                }
            };
            if let Next::End = next {
                return;
            }
            if ticked.elapsed() >= self.settings.tick {
                self.commit();
                self.tick();
                ticked = Instant::now();
            }
            if self.is_sweeping
                && let Err(trouble) = self.sweep()
            {
                self.fail(&trouble);
            }
        }
    }

    fn begin(&mut self) {
        match self.open() {
            Ok(disk) => self.use_disk(disk),
            Err(trouble) => {
                self.degrade(&trouble);
                if let Trouble::Damaged(_) = trouble {
                    self.retry();
                }
            }
        }
        if !self.has_adopted {
            // Nothing is known; those who wait for it go on.
            let _ = self.left.send(Left::default());
        }
    }

    /// Does a job, and with it all that are there already.
    fn work(&mut self, first: Job, jobs: &Receiver<Job>) -> Next {
        let (mut waiting, mut closing) = (Vec::new(), None);
        for job in iter::once(first).chain(jobs.try_iter()) {
            match job {
                Job::Written => {}
                Job::Barrier(done) => waiting.push(done),
                Job::Suspect => self.examine(),
                Job::Share(answer) => {
                    let share = self.lock.as_ref().and_then(|lock| lock.share().ok());
                    let _ = answer.send(share);
                }
                Job::Close(done) => {
                    closing = Some(done);
                    break;
                }
                #[cfg(test)]
                Job::Die => {
                    self.die();
                    return Next::End;
                }
            }
        }
        self.commit();
        for waiting in waiting {
            let _ = waiting.send(());
        }
        self.checkpoint(LOG);
        let Some(done) = closing else { return Next::Go };
        self.close();
        let _ = done.send(());
        Next::End
    }

    fn open(&mut self) -> Result<Disk, Trouble> {
        let unmade = |error| Trouble::Other(format!("the state directory cannot be created: {error}"));
        make_directory(&self.settings.state_dir).map_err(unmade)?;
        if !self.lock.as_ref().is_some_and(|lock| lock.stands(&self.settings.state_dir)) {
            self.lock = None;
            self.lock = Some(StateLock::take(&self.settings.state_dir, self.inherited.take())?);
        }
        if !self.owner.as_ref().is_some_and(Owner::stands) {
            // First: it takes the file of its name with it.
            self.owner = None;
            self.owner = Some(Owner::new(&self.settings.state_dir, &self.name)?);
        }
        Disk::open(&self.path)
    }

    /// From now on, the disk holds the journal. What others have left there is taken over.
    fn use_disk(&mut self, disk: Disk) {
        self.store = Some(Store::Disk(disk));
        self.shared.well();
        if let Err(trouble) = self.look_around(true).and_then(|()| self.count()) {
            self.fail(&trouble);
        }
    }

    /// From now on, memory holds the journal.
    fn degrade(&mut self, trouble: &Trouble) {
        self.shared.metrics.errors.inc();
        let why = trouble.tell(&self.path);
        if let Trouble::Damaged(_) = trouble {
            // The connection goes before its file does.
            self.store = None;
            match set_aside(&self.path) {
                Ok(aside) => tracing::error!("{why}; set aside as {}, going on with a new one", aside.display()),
                Err(error) => tracing::error!("{why}, and cannot be set aside: {error}"),
            }
        } else {
            tracing::error!("{why}. Hooks run all the same; until that is right, they are written down in memory only");
        }
        self.shared.degraded(why);
        match Memory::open(&self.name, self.unended.iter()) {
            Ok(memory) => {
                let again = Instant::now() + self.settings.retry.0;
                self.runs = self.unended.len() as u64;
                self.store = Some(Store::Memory { memory, again, pause: self.settings.retry.0 });
            }
            Err(trouble) => tracing::error!("no memory for the journal: {}", trouble.tell(&self.path)),
        }
    }

    /// Tries the disk again.
    fn retry(&mut self) {
        let moved = self.open().and_then(|mut disk| {
            if let Some(Store::Memory { memory, .. }) = &self.store {
                memory.move_to(&mut disk.db, &self.name)?;
            }
            Ok(disk)
        });
        match moved {
            Ok(disk) => {
                tracing::info!("hooks are written down in {} again", self.path.display());
                self.use_disk(disk);
            }
            Err(Trouble::Damaged(what)) => self.damaged(what),
            Err(trouble) => {
                self.shared.metrics.errors.inc();
                let why = trouble.tell(&self.path);
                if self.shared.degraded(why.clone()) {
                    tracing::error!("{why}");
                }
                let longest = self.settings.retry.1;
                if let Some(Store::Memory { again, pause, .. }) = &mut self.store {
                    *pause = if trouble.is_passing() { (*pause * 2).min(longest) } else { longest };
                    *again = Instant::now() + *pause;
                }
            }
        }
    }

    /// The file is not what was written: it goes, and a new one comes. What it has only told of the past is lost with it.
    fn damaged(&mut self, what: String) {
        match &self.store {
            Some(Store::Disk(_)) => {
                self.degrade(&Trouble::Damaged(what));
                self.retry();
            }
            _ => match set_aside(&self.path) {
                Ok(aside) => {
                    let why = Trouble::Damaged(what).tell(&self.path);
                    tracing::error!("{why}; set aside as {}, going on with a new one", aside.display());
                    self.shared.metrics.errors.inc();
                }
                Err(error) => tracing::error!("{} is damaged and cannot be set aside: {error}", self.path.display()),
            },
        }
    }

    /// Looks whether the file is damaged, with eyes that have not seen it before. It may be another one by now than the one that was suspected.
    fn examine(&mut self) {
        let Some(Store::Disk(_)) = &self.store else { return };
        let look = |db: Connection| db.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        match read::open(&self.path).and_then(look).map_err(Trouble::from) {
            Ok(well) if well == "ok" => {}
            Ok(what) | Err(Trouble::Damaged(what)) => self.damaged(what),
            Err(trouble) => tracing::debug!("cannot look at the journal: {}", trouble.tell(&self.path)),
        }
    }

    fn fail(&mut self, trouble: &Trouble) {
        self.degrade(trouble);
        if let Trouble::Damaged(_) = trouble {
            self.retry();
        }
    }

    fn close(&mut self) {
        match &self.store {
            Some(Store::Disk(disk)) => drop(disk.checkpoint(self.alive.is_empty())),
            // The last try: who comes next finds what is left.
            Some(Store::Memory { .. }) => self.retry(),
            None => {}
        }
        self.store = None;
        (self.owner, self.lock) = (None, None);
    }

    #[cfg(test)]
    fn die(&mut self) {
        if let Some(owner) = self.owner.take() {
            owner.die();
        }
    }
}

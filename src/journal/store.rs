//! The journal on disk: a database, a thread that writes, and connections of their own for those who read.
//!
//! `table` says what entries mean on disk, `read` what is read back, `writer` when and where, `group` who waits for it; `disk`, `memory`, `owner` and `retention`
//! are what it works with.

mod disk;
mod group;
mod memory;
mod owner;
mod read;
mod retention;
mod schema;
mod table;
#[cfg(test)]
mod tests;
mod trouble;
mod unended;
mod writer;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::metrics::JournalMetrics;
use super::{Boxed, Done, Entry, Filter, Health, Journal, Left, NewRun, Retention, Run};

use trouble::Trouble;
use writer::{Job, Writer};

/// How long the end waits for the last commit.
const LAST: Duration = Duration::from_secs(5);
/// Entries that wait with what hooks have printed; beyond that, they wait without.
const MAX_PRINTED: u64 = 10_000;
/// Entries that wait at most: a disk that hangs for good would otherwise take all memory. Those beyond are lost.
const MAX_WAITING: u64 = 50_000;

/// How it works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the file is, `journal.db`.
    pub state_dir: PathBuf,
    /// How long what has ended is kept.
    pub retention: Retention,
    /// How long anybody waits for a commit.
    pub patience: Duration,
    /// How often it looks who else is there.
    pub tick: Duration,
    /// How soon a disk is tried again that has failed, at first and at last.
    pub retry: (Duration, Duration),
    /// How often what is not kept any longer goes.
    pub sweep: Duration,
}

impl Settings {
    /// As usual.
    #[must_use]
    pub fn new(state_dir: PathBuf, retention: Retention) -> Self {
        let second = Duration::from_secs(1);
        let retry = (second, Duration::from_secs(30));
        Self { state_dir, retention, patience: second, tick: second, retry, sweep: Duration::from_mins(1) }
    }
}

/// See the module.
pub struct SqliteJournal {
    shared: Arc<Shared>,
    jobs: std::sync::mpsc::Sender<Job>,
    patience: Duration,
}

/// What the thread and those who ask share.
struct Shared {
    path: PathBuf,
    /// The name of this process as an owner of runs.
    owner: String,
    metrics: JournalMetrics,
    health: Mutex<Health>,
    /// `None` once the writer is gone.
    written: Mutex<Option<Written>>,
    /// Those who wait for a commit that nobody has asked for yet.
    gathering: Mutex<Option<CancellationToken>>,
    /// Entries that are not safe yet.
    waiting: AtomicU64,
    /// Memory holds the journal.
    in_memory: AtomicBool,
    /// A commit takes longer than anybody waits.
    stalled: AtomicBool,
    /// There is no room for more entries.
    is_losing: AtomicBool,
    /// Another live process shares the file.
    company: AtomicBool,
}

impl SqliteJournal {
    /// Opens the journal on a thread of its own, and returns at once; it never fails. What was left comes from the receiver: first what was
    /// there at the start, be it nothing, and later what others leave when they are gone. `lock` is the directory's lock, if another crihook
    /// has handed it over.
    ///
    /// # Panics
    /// If there can be no more threads.
    #[must_use]
    pub fn open(
        settings: Settings,
        lock: Option<OwnedFd>,
        metrics: JournalMetrics,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Left>) {
        let path = settings.state_dir.join("journal.db");
        let shared = Arc::new(Shared {
            health: Mutex::new(Health { path: path.clone(), ..Health::default() }),
            path,
            owner: uuid::Uuid::now_v7().to_string(),
            metrics,
            written: Mutex::new(Some(Written::default())),
            gathering: Mutex::default(),
            waiting: AtomicU64::new(0),
            in_memory: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            is_losing: AtomicBool::new(false),
            company: AtomicBool::new(false),
        });
        let ((jobs, todo), (send, left)) = (std::sync::mpsc::channel(), mpsc::unbounded_channel());
        let patience = settings.patience;
        let writer = Writer::new(settings, Arc::clone(&shared), send, lock);
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || writer.run(&todo));
        assert!(thread.is_ok(), "no thread for the journal: {thread:?}");
        (Arc::new(Self { shared, jobs, patience }), left)
    }

    /// A share of the state directory's lock for a process that is to take over; `None` if this one does not hold it.
    pub async fn share_lock(&self) -> Option<OwnedFd> {
        let (answer, share) = oneshot::channel();
        self.jobs.send(Job::Share(answer)).ok()?;
        timeout(self.patience, share).await.ok()?.ok()?
    }

    /// Makes everything safe, and leaves what has not ended to whoever comes next. Nothing is written afterwards.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.send(Job::Close(done)).is_ok() && timeout(LAST, closed).await.is_err() {
            tracing::error!("the journal could not be closed within {LAST:?}");
        }
    }

    /// Ends as a process that is killed.
    #[cfg(test)]
    fn die(&self) {
        self.jobs.send(Job::Die).unwrap();
    }

    /// Reads what holds the journal; `both` reads the memory and what the disk still tells of the time before.
    fn read<T: Send + 'static>(
        &self,
        one: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
        both: impl FnOnce(&Connection, &Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Boxed<'static, Result<T, String>> {
        let (shared, jobs) = (Arc::clone(&self.shared), self.jobs.clone());
        let read = move || {
            let disk = read::open(&shared.path);
            if shared.in_memory.load(Ordering::Acquire) {
                let memory = read::open(memory::uri(&shared.owner).as_ref());
                let told = memory.and_then(|memory| match disk.as_ref().map(|disk| both(&memory, disk)) {
                    Ok(Ok(told)) => Ok(told),
                    _ => one(&memory),
                });
                // If it has gone to the disk meanwhile, that knows.
                if let Ok(told) = told {
                    return Ok(told);
                }
            }
            disk.and_then(|disk| one(&disk)).map_err(|error| {
                let trouble = Trouble::from(error);
                let told = trouble.tell(&shared.path);
                if let Trouble::Damaged(_) = trouble {
                    let _ = jobs.send(Job::Suspect);
                }
                told
            })
        };
        Box::pin(async move { tokio::task::spawn_blocking(read).await.unwrap_or_else(|gone| Err(gone.to_string())) })
    }
}

impl Journal for SqliteJournal {
    fn write(&self, mut entry: Entry) {
        let waiting = self.shared.waiting.fetch_add(1, Ordering::AcqRel);
        self.shared.metrics.pending.inc();
        if waiting >= MAX_WAITING {
            return self.shared.lose();
        }
        if waiting >= MAX_PRINTED
            && let Entry::Attempt { attempt, .. } = &mut entry
        {
            (attempt.stdout, attempt.stderr, attempt.body) = Default::default();
            self.shared.metrics.dropped.inc();
        }
        let mut written = locked(&self.shared.written);
        let Some(written) = &mut *written else {
            self.shared.metrics.dropped.inc();
            return self.shared.past(1);
        };
        // To wake the writer for it now would have it sleep once more before it is asked for the commit.
        let has_waiter = matches!(entry, Entry::Begin { .. } | Entry::Confirm { .. } | Entry::Start { .. });
        written.entries.push(entry);
        if !has_waiter && !std::mem::replace(&mut written.is_known, true) {
            let _ = self.jobs.send(Job::Written);
        }
    }

    fn recorded(&self) -> Boxed<'static, ()> {
        let shared = Arc::clone(&self.shared);
        let nobody_waits = shared.in_memory.load(Ordering::Acquire) || shared.stalled.load(Ordering::Acquire);
        if nobody_waits || shared.waiting.load(Ordering::Acquire) == 0 {
            return Box::pin(std::future::ready(()));
        }
        let (safe, patience) = (group::join(&shared, &self.jobs), self.patience);
        Box::pin(async move {
            if timeout(patience, safe.cancelled()).await.is_err() {
                shared.stall(patience);
            }
        })
    }

    fn runs(&self, filter: Filter) -> Boxed<'static, Result<Vec<Run>, String>> {
        let whole = filter.clone();
        self.read(move |db| read::runs(db, &filter), move |memory, disk| read::merged(memory, disk, &whole))
    }

    fn begun(&self, id: &str) -> Boxed<'static, Result<Option<Arc<NewRun>>, String>> {
        let id = id.to_owned();
        let begun = move |db: &Connection| Ok(read::begun(db, &id)?.map(Arc::new));
        self.read(begun.clone(), move |memory, disk| Ok(begun(memory)?.or(begun(disk)?)))
    }

    fn done_elsewhere(&self, subject: &str) -> Option<Boxed<'static, Vec<Done>>> {
        if !self.shared.company.load(Ordering::Relaxed) {
            return None;
        }
        let subject = subject.to_owned();
        let done = move |db: &Connection| read::done(db, Some(&subject));
        let done = self.read(done.clone(), move |memory, disk| Ok([done(memory)?, done(disk)?].concat()));
        Some(Box::pin(async move { done.await.unwrap_or_default() }))
    }

    fn health(&self) -> Health {
        let unwritten = self.shared.waiting.load(Ordering::Acquire);
        Health { unwritten, ..self.shared.health().clone() }
    }
}

/// What the writer has not fetched yet.
#[derive(Default)]
struct Written {
    entries: Vec<Entry>,
    /// Whether it knows that there is something that nobody waits for.
    is_known: bool,
}

impl Shared {
    fn health(&self) -> MutexGuard<'_, Health> {
        locked(&self.health)
    }

    /// So many entries do not wait any more.
    fn past(&self, entries: u64) {
        self.waiting.fetch_sub(entries, Ordering::AcqRel);
        self.metrics.pending.sub(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// An entry that there is no room for.
    fn lose(&self) {
        self.past(1);
        self.metrics.dropped.inc();
        if !self.is_losing.swap(true, Ordering::AcqRel) {
            let path = self.path.display();
            tracing::error!(
                "{MAX_WAITING} entries wait for the disk of {path}; what else hooks do is not written down"
            );
        }
    }

    /// So many entries more are safe, or as safe as they can be.
    fn safe(&self, entries: u64) {
        self.past(entries);
        self.is_losing.store(false, Ordering::Release);
        if self.stalled.swap(false, Ordering::AcqRel) && !self.in_memory.load(Ordering::Acquire) {
            self.well();
        }
    }

    /// Somebody has waited for long enough.
    fn stall(&self, patience: Duration) {
        self.metrics.slow.inc();
        if self.waiting.load(Ordering::Acquire) > 0 && !self.stalled.swap(true, Ordering::AcqRel) {
            let why = format!("the disk of {} takes longer than {patience:?} for a commit", self.path.display());
            tracing::warn!("{why}; calls do not wait for it");
            self.metrics.degraded.set(1);
            self.health().degraded.get_or_insert((why, SystemTime::now()));
        }
    }

    /// The disk keeps the journal.
    fn well(&self) {
        self.in_memory.store(false, Ordering::Release);
        self.metrics.degraded.set(0);
        self.health().degraded = None;
    }

    /// Memory holds it. True if that was not known, or not for this reason.
    fn degraded(&self, why: String) -> bool {
        self.in_memory.store(true, Ordering::Release);
        self.metrics.degraded.set(1);
        let degraded = &mut self.health().degraded;
        let since = degraded.as_ref().map_or_else(SystemTime::now, |(_, since)| *since);
        let is_new = degraded.as_ref().is_none_or(|(known, _)| *known != why);
        *degraded = Some((why, since));
        is_new
    }

    fn measured(&self, runs: u64, bytes: u64) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.runs.set(signed(runs));
        self.metrics.bytes.set(signed(bytes));
        let mut health = self.health();
        (health.runs, health.bytes) = (runs, bytes);
    }
}

/// Nothing panics while it holds one of the locks here.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

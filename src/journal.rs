//! The record of runs: what was promised, each attempt with its output, and what became of it. It outlives the process.
//!
//! ```text
//!            Begin, intended                 Confirm                     Start            Attempt
//!   a call ──────────────▶ intended ─────────────────▶ pending ─────────────▶ running ───────────▶ pending, or
//!                             │  Retract: it never was     ▲                                          │ End
//!                             ▼                            │ Begin                                    ▼
//!                          (nothing)                 a call's own hooks                            ended
//! ```
//!
//! Whoever runs hooks writes [`Entry`]s, which never blocks, and waits for [`Journal::recorded`] where something must not happen before
//! they are safe: before a call is forwarded, before it is answered, before an attempt is made. What a process leaves behind when it
//! dies comes back as [`Left`] to the one after it.

mod metrics;
mod run;
mod store;
#[cfg(test)]
pub(crate) mod testing;

pub use metrics::JournalMetrics;
pub use run::{AttemptRecord, AttemptResult, Filter, Run};
pub use store::{Settings, SqliteJournal};

use std::borrow::Cow;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::lifecycle::{Event, Outcome, Point};

/// In place of a policy's name, at runs of hooks that the pod's spec has: the kubelet runs them, and crihook has seen them. No policy can be called so.
pub const POD: &str = "(pod)";
/// The mode of such runs.
pub const NATIVE: &str = "Native";

/// A future that a trait object gives.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where runs are written down. Nothing here fails: a journal that cannot keep its promises says so in its [`Health`] and goes on
/// as well as it can.
pub trait Journal: Send + Sync {
    /// Writes something down, after everything that was written before. Returns at once.
    fn write(&self, entry: Entry);

    /// Waits until everything written so far is safe, or until that has taken longer than anybody should be kept waiting. While the
    /// journal is degraded it waits for nothing. Called inside a tokio runtime.
    fn recorded(&self) -> Boxed<'static, ()>;

    /// The runs that pass `filter`, the newest first.
    ///
    /// # Errors
    /// Says why they cannot be read.
    fn runs(&self, filter: Filter) -> Boxed<'static, Result<Vec<Run>, String>>;

    /// What it takes to deliver a run again; `None` if there is no run of that id (any more).
    ///
    /// # Errors
    /// Says why it cannot be read.
    fn begun(&self, id: &str) -> Boxed<'static, Result<Option<Arc<NewRun>>, String>>;

    /// What other live processes that use the same journal have recorded as done for `subject`; `None` if there are none.
    fn done_elsewhere(&self, subject: &str) -> Option<Boxed<'static, Vec<Done>>>;

    /// How it is.
    fn health(&self) -> Health;
}

/// Something to be written down.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A run is to be: at once, or if it is `intended`, once the call has succeeded that it follows.
    Begin {
        /// Whose, when and what.
        run: Arc<NewRun>,
        /// Whether its call is still to succeed.
        intended: bool,
    },
    /// The call that an intended run follows has succeeded. `event` is what happened, with the ids that are known only now.
    Confirm {
        /// The run's id.
        id: Arc<str>,
        /// In place of the one that it was begun with; so is the subject.
        event: Arc<Event>,
    },
    /// The call that an intended run follows has failed: the run never was.
    Retract {
        /// The run's id.
        id: Arc<str>,
    },
    /// An attempt is about to be made.
    Start {
        /// The run's id.
        id: Arc<str>,
        /// The attempt's, counted from 1.
        number: u32,
        /// When.
        at: SystemTime,
    },
    /// An attempt is over.
    Attempt {
        /// The run's id.
        id: Arc<str>,
        /// What came of it.
        attempt: AttemptRecord,
    },
    /// A run is over. Said once for each run.
    End {
        /// The run's id.
        id: Arc<str>,
        /// When.
        at: SystemTime,
        /// What became of it.
        outcome: Outcome,
        /// Why, for people.
        reason: Option<String>,
    },
    /// A subject is gone: which hooks have succeeded for it need not be remembered any more.
    Forget {
        /// As in [`NewRun::subject`].
        subject: Arc<str>,
    },
}

/// What is known of a run before it begins, and what it takes to deliver it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// Unique; what handlers get as `EVENT_ID`. In the order of time.
    pub id: Arc<str>,
    /// The policy's name.
    pub policy: Arc<str>,
    /// The hook's name in it.
    pub hook: Arc<str>,
    /// The handler, as policies spell it.
    pub handler: Cow<'static, str>,
    /// The mode, as policies spell it.
    pub mode: Cow<'static, str>,
    /// What happened.
    pub event: Arc<Event>,
    /// Whether it is not run again for its subject once it has succeeded.
    pub once: bool,
    /// The run that this one repeats because somebody asked for it.
    pub replay_of: Option<Arc<str>>,
    /// When it was asked for.
    pub created_at: SystemTime,
}

impl NewRun {
    /// What it is remembered for: see [`Event::subject`].
    #[must_use]
    pub fn subject(&self) -> String {
        self.event.subject()
    }
}

/// What a process that died has left behind, and what it knew.
#[derive(Debug, Default)]
pub struct Left {
    /// Runs that have not ended, the oldest first. They belong to this process now.
    pub runs: Vec<LeftRun>,
    /// What need not be run again.
    pub done: Vec<Done>,
}

/// A run that was left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftRun {
    /// Whose, when and what.
    pub run: Arc<NewRun>,
    /// Whether it is not known if the call that it follows has succeeded.
    pub intended: bool,
    /// The number of the last attempt that was begun; zero if none was.
    pub started: u32,
    /// How many attempts had a result of their own: these count against the policy's `attempts`.
    pub failed: u32,
}

/// A hook that has succeeded for a subject that was not forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Done {
    /// The container or sandbox.
    pub subject: Arc<str>,
    /// At which point.
    pub point: Point,
    /// The policy's name.
    pub policy: Arc<str>,
    /// The hook's name.
    pub hook: Arc<str>,
}

/// How long runs that have ended are kept: until the first of these is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Since they ended.
    pub max_age: Duration,
    /// In all.
    pub max_runs: u64,
    /// Of the journal's file.
    pub max_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_age: Duration::from_hours(7 * 24), max_runs: 100_000, max_bytes: 256 << 20 }
    }
}

/// How a journal is, for readiness, metrics and `crihook status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Its file.
    pub path: PathBuf,
    /// Why runs are not safe, and since when. `None`: all is well.
    pub degraded: Option<(String, SystemTime)>,
    /// Runs that it holds.
    pub runs: u64,
    /// Its size.
    pub bytes: u64,
    /// Entries that are not safe yet.
    pub unwritten: u64,
}

//! When hooks run: order, budgets, retries, bounds.
//!
//! ```text
//!  event ─▶ fire ─┬─▶ session: blocking runs, in order ──┐
//!                 │      joined by repeated calls        ├─▶ run: breaker ─▶ slot ─▶ attempt ─▶ record
//!                 └─▶ lane: background runs, in order ───┘     ▲                        │
//!                        one a subject                         └────── backoff ─────────┘
//! ```
//!
//! What it promises:
//! - A hook that has succeeded for a subject at a point is not run again, until the subject is forgotten.
//! - A blocking run never waits for a background one: not for its turn, nor for a slot.
//! - A hook whose server hangs never takes all slots, and an endpoint that keeps failing is left alone but for a probe.
//! - What is to follow a call is written down before the runtime hears of the call (`promise`), and an attempt before it is made. So whatever
//!   dies in between, the next process knows what is to be done (`adopt`), and delivers it under the same id.
//! - How a run ends is recorded once: in the journal, in the metrics, in the log, and to whoever observes.
//! - Everything that waits is bounded in number.
//!
//! Its methods are called inside a tokio runtime with time.

mod active;
mod adopt;
mod breaker;
mod call;
mod fire;
mod lane;
mod means;
mod promise;
mod record;
mod replay;
mod retry;
mod run;
mod session;
mod slots;
mod state;
mod subjects;
mod terms;
#[cfg(test)]
mod tests;
mod way;

pub use active::{Active, Bound, OPT_OUT};
pub use adopt::Open;
pub use call::{Fired, Limits, Rejection, Repeat};
pub use means::Surroundings;
pub use promise::Promise;
pub use replay::NoReplay;
pub use state::{OpenBreaker, Queue};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::clock::Clock;
use crate::hooks::Options;
use crate::hooks::handler::Handler;
use crate::hooks::policy::{Hook, PolicySet};
use crate::journal::Entry;
use crate::lifecycle::{Event, Outcome, Point};

use active::Unbuilt;
use breaker::Breaker;
use means::Means;
use run::Run;
use session::Session;
use slots::Slots;
use subjects::{Put, Subjects};
use terms::Stop;
use way::Way;

/// Background runs that wait for their turn, on the whole node.
const MAX_QUEUED: usize = 100_000;
/// Containers and sandboxes whose successes are remembered.
const MAX_SUBJECTS: usize = 20_000;

/// Makes a hook's handler, or says why it cannot be made.
type Build = dyn Fn(&Arc<Hook>) -> Result<Box<dyn Handler>, String> + Send + Sync;

/// What is remembered of each subject.
type Book = Subjects<Arc<Session>, Run, Arc<Stop>>;

/// Runs hooks. See the module.
pub struct Engine {
    means: Arc<Means>,
    build: Box<Build>,
    allow_opt_out: bool,
    active: watch::Sender<Arc<Active>>,
    /// By endpoint, as long as some hook uses it.
    breakers: Mutex<HashMap<String, Weak<Breaker>>>,
    book: Mutex<Book>,
}

/// A hook, by its policy's name and its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct HookKey {
    policy: Arc<str>,
    hook: Arc<str>,
}

/// A run that has ended, for those who watch.
#[derive(Debug, Clone)]
pub struct RunSeen {
    /// The run's id.
    pub id: Arc<str>,
    /// The hook.
    pub hook: Arc<Hook>,
    /// What it was run for.
    pub event: Arc<Event>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why.
    pub reason: Option<String>,
    /// How many there were.
    pub attempts: u32,
    /// From the beginning of the first attempt to the end; zero if there was none.
    pub duration: Duration,
}

impl Engine {
    /// Without any policy yet. `build` makes a hook's handler when a set becomes active.
    pub fn new(
        options: &Options,
        around: Surroundings,
        build: impl Fn(&Arc<Hook>) -> Result<Box<dyn Handler>, String> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let nothing = Active::new(PolicySet::default(), options.allow_opt_out, |_| unreachable!("it has no hooks"));
        let means = Means {
            around,
            blocking: Slots::new(options.concurrency),
            background: Slots::new(options.concurrency),
            max_age: options.max_age,
            way: Way::default(),
            observers: Mutex::default(),
        };
        Arc::new(Self {
            means: Arc::new(means),
            build: Box::new(build),
            allow_opt_out: options.allow_opt_out,
            active: watch::Sender::new(Arc::new(nothing)),
            breakers: Mutex::default(),
            book: Mutex::new(Subjects::new(MAX_QUEUED, MAX_SUBJECTS)),
        })
    }

    /// Puts a set in force, all at once. Runs and calls that have begun keep what they began with. A hook whose handler
    /// cannot be made fails with the reason whenever it is run.
    pub fn activate(&self, set: PolicySet) {
        let mut breakers = locked(&self.breakers);
        let next = Active::new(set, self.allow_opt_out, |hook| Arc::new(self.bind(hook, &mut breakers)));
        let last = self.active.send_replace(Arc::new(next));
        drop(last);
        breakers.retain(|_, breaker| breaker.strong_count() > 0);
    }

    fn bind(&self, hook: &Arc<Hook>, breakers: &mut HashMap<String, Weak<Breaker>>) -> Bound {
        let series = self.means.metrics.series(hook);
        let breaker = hook.action.endpoint().map(|endpoint| {
            let known = breakers.entry(endpoint).or_default();
            let breaker = known.upgrade().unwrap_or_default();
            *known = Arc::downgrade(&breaker);
            breaker.show(&series);
            breaker
        });
        let handler = (self.build)(hook).unwrap_or_else(|why| {
            warn!(policy = %hook.policy, hook = %hook.name, reason = why, "hook cannot be set up");
            Box::new(Unbuilt(why))
        });
        let key = HookKey { policy: Arc::clone(&hook.policy), hook: Arc::clone(&hook.name) };
        Bound { hook: Arc::clone(hook), key, handler, breaker, series }
    }

    /// The set in force.
    #[must_use]
    pub fn active(&self) -> Arc<Active> {
        Arc::clone(&self.active.borrow())
    }

    /// Tells of each set that comes into force.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Active>> {
        self.active.subscribe()
    }

    /// From now on, each run that ends is told there; those that find no room are left out.
    pub fn observe(&self, observer: mpsc::Sender<RunSeen>) {
        locked(&self.means.observers).push(observer);
    }

    /// Queues a run, and has somebody work on its lane.
    fn start(self: &Arc<Self>, book: &mut Book, subject: &Arc<str>, run: Run, once: bool) {
        if self.queue(book, subject, run, once) == Put::First {
            tokio::spawn(Arc::clone(self).work(Arc::clone(subject)));
        }
    }

    /// Learns what others that share the journal have done for what `event` happens to: the process that an upgrade has replaced finishes
    /// its calls while this one takes new ones.
    pub async fn catch_up(&self, event: &Event) {
        let subject = event.subject();
        let Some(done) = self.means.journal.done_elsewhere(&subject) else { return };
        for done in done.await {
            self.book().done(&subject, done.point, HookKey { policy: done.policy, hook: done.hook });
        }
    }

    /// For a call: waits until everything that was promised and queued so far is safe, or has taken too long to be.
    pub async fn recorded(&self) {
        let _passing = self.means.way.pass();
        self.means.journal.recorded().await;
    }

    /// Runs of `subject` at `point` that no call waits for and that have not begun, or are between two attempts, end as abandoned.
    pub fn abandon(&self, subject: &str, point: Point, reason: &str) {
        let waiting = self.book().take_waiting(subject, Some(point));
        for run in waiting {
            run.abandon(reason);
        }
        let current = self.book().current(subject, point).cloned();
        if let Some(stop) = current {
            stop.tell(reason);
        }
        self.give_up(subject, point, reason);
    }

    /// What tells the time here.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.means.clock
    }

    /// Whether some of `hooks` have not succeeded for `subject` at `point`.
    #[must_use]
    pub fn unfinished(&self, subject: &str, hooks: &[Arc<Bound>], point: Point) -> bool {
        let book = self.book();
        hooks.iter().any(|bound| !book.is_done(subject, point, &bound.key))
    }

    /// `subject` is gone: what it has seen is forgotten, once everything that is queued or under way for it has ended.
    pub fn forget(&self, subject: &str) {
        let waiting = self.book().take_waiting(subject, None);
        for run in waiting {
            run.abandon("what it was for is gone");
        }
        self.book().forget(subject);
        self.forget_if_gone(subject);
    }

    /// What succeeded for a subject that nothing is remembered of need not be known by the next process either.
    fn forget_if_gone(&self, subject: &str) {
        if !self.book().knows(subject) {
            self.means.journal.write(Entry::Forget { subject: subject.into() });
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        locked(&self.book)
    }
}

/// Nothing panics while it holds one of the locks here, so a poisoned one is as good as another.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

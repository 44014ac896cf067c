//! What a process that died has left behind, taken over.
//!
//! Runs that nobody needs to ask about are queued at once. For the others somebody has to find out first: whether the call that they follow has
//! succeeded ([`Open::Doubtful`]), or whether there is still something to do ([`Open::Unfinished`]). Runs before a call that died with the process
//! wait for the call to be repeated, which goes on with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::active::Bound;
use super::promise::Promise;
use super::run::Run;
use super::terms::too_old;
use super::{Engine, HookKey, Means};
use crate::hooks::policy::Mode;
use crate::journal::{Entry, Left, LeftRun};
use crate::lifecycle::{Event, Outcome, Point, Stage};

/// Something to be found out of the runtime.
pub enum Open {
    /// Whether the call has succeeded that these hooks follow. The answer goes to [`Engine::follow`] or to the promise.
    Doubtful(Promise, Arc<Event>, Vec<Arc<Bound>>),
    /// Whether these hooks, which a call waited for, are still to be run. The answer goes to [`Engine::fire`] or [`Engine::abandon`].
    Unfinished(Arc<Event>, Vec<Arc<Bound>>),
}

/// By what they happened to, and when in its life.
type Groups = BTreeMap<(Arc<str>, Point), (Arc<Event>, Vec<(Arc<Bound>, Run)>)>;

impl Engine {
    /// Takes over what is left. When this returns, calls that are repeated go on with it. Gives what has to be found out, in no particular order.
    pub fn adopt(self: &Arc<Self>, left: Left) -> Vec<Open> {
        if !left.runs.is_empty() {
            tracing::info!(runs = left.runs.len(), "going on with hooks that another process has left");
        }
        let active = self.active();
        let mut book = self.book();
        for done in left.done {
            let key = HookKey { policy: done.policy, hook: done.hook };
            book.done(&done.subject, done.point, key);
        }
        drop(book);
        let (mut doubtful, mut unfinished) = (Groups::new(), Groups::new());
        for left in left.runs {
            let event = &left.run.event;
            let (subject, point): (Arc<str>, _) = (event.subject().into(), event.point);
            let Some(bound) = active.bound(&left.run.policy, &left.run.hook, point) else {
                self.means.give_up(&left, "the policies have no such hook any more");
                continue;
            };
            let run = Run::adopt(&self.means, &bound, &left);
            let group = |groups: &mut Groups, run| {
                let group = groups.entry((Arc::clone(&subject), point));
                group.or_insert_with(|| (Arc::clone(event), Vec::new())).1.push((Arc::clone(&bound), run));
            };
            let once = left.run.once;
            if run.expiry <= Instant::now() {
                run.abandon(&too_old(self.means.max_age));
            } else if once && self.is_superseded(&subject, point, &bound.key) {
                run.abandon("another run has taken its place");
            } else if left.intended && once {
                group(&mut doubtful, run);
            } else if left.intended {
                run.abandon("crihook died during the call, and nobody can tell whether the runtime has done it");
            } else if bound.hook.mode == Mode::Background || left.run.replay_of.is_some() {
                self.start(&mut self.book(), &subject, run, once);
            } else if !once {
                run.abandon("crihook died during the call that it belonged to");
            } else {
                group(&mut unfinished, run);
            }
        }
        let doubtful = doubtful.into_iter().map(|(at, (event, runs))| {
            let hooks = runs.iter().map(|(bound, _)| Arc::clone(bound)).collect();
            let runs = runs.into_iter().map(|(bound, run)| (bound.key.clone(), run)).collect();
            Open::Doubtful(self.take_over(at, runs), event, hooks)
        });
        let mut open: Vec<_> = doubtful.collect();
        for ((subject, point), (event, runs)) in unfinished {
            let hooks = runs.iter().map(|(bound, _)| Arc::clone(bound)).collect();
            self.leave_at(&subject, point, runs);
            // Hooks after a call are still to be run, and so are those before a stop, which cannot be called off.
            if point.stage == Stage::Post || point == Point::PRE_STOP {
                open.push(Open::Unfinished(event, hooks));
            }
        }
        open
    }

    /// Whether some of `hooks` still wait to be gone on with.
    #[must_use]
    pub fn is_left(&self, subject: &str, hooks: &[Arc<Bound>], point: Point) -> bool {
        let book = self.book();
        hooks.iter().any(|bound| book.is_left(subject, point, &bound.key))
    }

    fn is_superseded(&self, subject: &str, point: Point, key: &HookKey) -> bool {
        let book = self.book();
        book.is_done(subject, point, key)
            || book.is_pending(subject, point, key)
            || book.is_promised(subject, point, key)
            || book.session(subject, point).is_some()
    }

    /// Keeps runs for a call that goes on with them, as long as that makes sense.
    fn leave_at(self: &Arc<Self>, subject: &Arc<str>, point: Point, runs: Vec<(Arc<Bound>, Run)>) {
        let expiry = runs.iter().map(|(_, run)| run.expiry).max().unwrap_or_else(Instant::now);
        for (bound, run) in runs {
            self.book().leave(subject, point, bound.key.clone(), run);
        }
        let (engine, subject) = (Arc::downgrade(self), Arc::clone(subject));
        tokio::spawn(async move {
            sleep_until(expiry).await;
            let Some(engine) = engine.upgrade() else { return };
            let late = engine.book().take_waiting(&subject, Some(point));
            for run in late {
                run.abandon("crihook died during the call that it belonged to, and the call was not repeated");
            }
        });
    }
}

impl Means {
    /// Ends a run that there is no hook for any more.
    fn give_up(&self, left: &LeftRun, reason: &str) {
        let run = &left.run;
        tracing::info!(run = %run.id, policy = %run.policy, hook = %run.hook, reason, "hook given up");
        self.journal.write(Entry::End {
            id: Arc::clone(&run.id),
            at: self.clock.wall(),
            outcome: Outcome::Abandoned,
            reason: Some(reason.to_owned()),
        });
    }
}

//! Runs that are to follow a call, written down before the runtime hears of the call.
//!
//! A call that succeeds keeps the promise ([`Engine::follow`]), one that fails breaks it. Of repeated calls that are under way together, the first that
//! succeeds keeps it and the last that fails breaks it. Whoever does not know what became of a call holds on to the promise until it
//! does.

use std::collections::HashMap;
use std::sync::Arc;

use super::active::Bound;
use super::record::Begun;
use super::run::Run;
use super::{Engine, Fired, HookKey, Limits, Repeat};
use crate::lifecycle::{Event, Point};

/// Held while a call is under way that runs follow. Dropped before the runtime can have heard of the call, it is broken; after that
/// ([`Promise::hold`]), the next process finds out.
pub struct Promise {
    engine: Arc<Engine>,
    at: (Arc<str>, Point),
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unheard,
    Held,
    Decided,
}

impl Engine {
    /// Promises the hooks that are to follow a call at `event`, unless there is nothing to promise. They are safe after [`Engine::recorded`].
    pub fn promise(self: &Arc<Self>, event: &Event, hooks: &[Arc<Bound>], repeat: Repeat) -> Option<Promise> {
        if hooks.is_empty() {
            return None;
        }
        let (subject, point) = (event.subject(), event.point);
        // Each call of its own has its own promise.
        let name: Arc<str> = match repeat {
            Repeat::Once => subject.into(),
            Repeat::Each => format!("{subject}#{}", uuid::Uuid::now_v7()).into(),
        };
        let once = repeat == Repeat::Once;
        let event = Arc::new(event.clone());
        let mut book = self.book();
        let missing = |bound: &&Arc<Bound>| {
            let key = &bound.key;
            !(book.is_done(&name, point, key)
                || book.is_pending(&name, point, key)
                || book.is_promised(&name, point, key)
                || book.is_left(&name, point, key))
        };
        let missing: Vec<_> = hooks.iter().filter(missing).collect();
        if missing.is_empty() && !book.promises(&name, point) {
            return None;
        }
        book.call(&name, point);
        for bound in missing {
            let begun = Begun { once, intended: true, replay_of: None };
            book.promise(&name, point, bound.key.clone(), Run::begin(&self.means, bound, &event, begun));
        }
        Some(Promise { engine: Arc::clone(self), at: (name, point), state: State::Unheard })
    }

    /// A call has succeeded, as `event` tells: fires `hooks`, with the runs that were promised for it.
    pub async fn follow(
        self: &Arc<Self>,
        promise: Option<Promise>,
        event: Event,
        hooks: Vec<Arc<Bound>>,
        limits: Limits,
    ) -> Fired {
        let ready = promise.map(|promise| promise.decide(true)).unwrap_or_default();
        self.fire_with(ready, event, hooks, limits).await
    }

    /// A promise that another process has made, and nobody knows yet whether it holds.
    pub(super) fn take_over(self: &Arc<Self>, at: (Arc<str>, Point), runs: HashMap<HookKey, Run>) -> Promise {
        let mut book = self.book();
        book.call(&at.0, at.1);
        for (key, run) in runs {
            book.promise(&at.0, at.1, key, run);
        }
        drop(book);
        Promise { engine: Arc::clone(self), at, state: State::Held }
    }
}

impl Promise {
    /// Whether anything still depends on what became of the call.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.engine.book().promises(&self.at.0, self.at.1)
    }

    /// From now on the runtime may know of the call.
    pub fn hold(&mut self) {
        self.state = State::Held;
    }

    /// The call has failed.
    pub fn broken(mut self) {
        self.break_it();
    }

    /// Nobody can ever know what became of the call.
    pub fn lost(self, why: &str) {
        for run in self.decide(false).into_values() {
            run.abandon(why);
        }
    }

    fn decide(mut self, kept: bool) -> HashMap<HookKey, Run> {
        self.state = State::Decided;
        self.engine.book().called(&self.at.0, self.at.1, kept)
    }

    fn break_it(&mut self) {
        self.state = State::Decided;
        let broken = self.engine.book().called(&self.at.0, self.at.1, false);
        for run in broken.into_values() {
            run.retract("its call has failed");
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.state == State::Unheard {
            self.break_it();
        }
    }
}

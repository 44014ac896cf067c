//! A journal for tests: it remembers everything, in order, and is always ready.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Boxed, Entry, Filter, Health, Journal, Run};

/// See the module.
#[derive(Default)]
pub struct Recorded(Mutex<Vec<(Arc<str>, Run)>>);

impl Recorded {
    fn kept(&self) -> MutexGuard<'_, Vec<(Arc<str>, Run)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All runs, the oldest first.
    pub fn all(&self) -> Vec<Run> {
        self.kept().iter().map(|(_, run)| run.clone()).collect()
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Run)) {
        if let Some((_, run)) = self.kept().iter_mut().find(|(kept, _)| **kept == *id) {
            change(run);
        }
    }
}

impl Journal for Recorded {
    fn write(&self, entry: Entry) {
        match entry {
            Entry::Begin { run, intended } => {
                let run = Run::new(&run, intended);
                self.kept().push((Arc::clone(&run.id), run));
            }
            Entry::Confirm { id, event } => self.change(&id, |run| {
                run.intended = false;
                run.concerns(&event);
            }),
            Entry::Retract { id } => self.kept().retain(|(kept, _)| *kept != id),
            Entry::Start { id, number, at } => self.change(&id, |run| {
                run.started = number;
                run.started_at.get_or_insert(at);
            }),
            Entry::Attempt { id, attempt } => self.change(&id, |run| {
                run.attempts.get_or_insert_default().push(attempt);
            }),

            Entry::End { id, at, outcome, reason } => self.change(&id, |run| {
                assert_eq!(run.outcome, None, "a run ends once");
                run.ended_at = Some(at);
                run.outcome = Some(outcome);
                run.reason = reason;
            }),
            Entry::Forget { .. } => {}
        }
    }

    fn recorded(&self) -> Boxed<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn runs(&self, _: Filter) -> Boxed<'static, Result<Vec<Run>, String>> {
        let mut all = self.all();
        all.reverse();
        Box::pin(std::future::ready(Ok(all)))
    }

    fn health(&self) -> Health {
        Health::default()
    }
}

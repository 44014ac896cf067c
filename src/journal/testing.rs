//! A journal for tests: it remembers everything, in order, and is always ready.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Boxed, Entry, Filter, Health, Journal, NewRun, Run};

/// See the module.
#[derive(Default)]
pub struct Recorded(Mutex<Vec<(Arc<NewRun>, Run)>>);

impl Recorded {
    fn kept(&self) -> MutexGuard<'_, Vec<(Arc<NewRun>, Run)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All runs, the oldest first.
    pub fn all(&self) -> Vec<Run> {
        self.kept().iter().map(|(_, run)| run.clone()).collect()
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Run)) {
        if let Some((_, run)) = self.kept().iter_mut().find(|(kept, _)| *kept.id == *id) {
            change(run);
        }
    }
}

impl Journal for Recorded {
    fn write(&self, entry: Entry) {
        match entry {
            Entry::Begin { run: new, intended } => {
                let run = Run::new(&new, intended);
                self.kept().push((new, run));
            }
            Entry::Confirm { id, event } => {
                if let Some((new, run)) = self.kept().iter_mut().find(|(kept, _)| kept.id == id) {
                    run.intended = false;
                    run.concerns(&event);
                    *new = Arc::new(NewRun { event, ..(**new).clone() });
                }
            }
            Entry::Retract { id } => self.kept().retain(|(kept, _)| kept.id != id),
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

    fn runs(&self, filter: Filter) -> Boxed<'static, Result<Vec<Run>, String>> {
        let mut all = self.all();
        all.reverse();
        all.retain(|run| passes(&filter, run));
        all.truncate(filter.limit);
        if !filter.attempts {
            for run in &mut all {
                run.attempts = None;
            }
        }
        Box::pin(std::future::ready(Ok(all)))
    }

    fn begun(&self, id: &str) -> Boxed<'static, Result<Option<Arc<NewRun>>, String>> {
        let found = self.kept().iter().find(|(kept, _)| *kept.id == *id).map(|(kept, _)| Arc::clone(kept));
        Box::pin(std::future::ready(Ok(found)))
    }

    fn done_elsewhere(&self, _: &str) -> Option<Boxed<'static, Vec<super::Done>>> {
        None
    }

    fn health(&self) -> Health {
        Health::default()
    }
}

fn passes(filter: &Filter, run: &Run) -> bool {
    let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
    let container = [&run.container, &run.container_id];
    filter.id.as_deref().is_none_or(|id| run.id.starts_with(id) || run.id.ends_with(id))
        && is(&filter.policy, &run.policy)
        && is(&filter.hook, &run.hook)
        && filter.point.is_none_or(|point| point == run.point)
        && is(&filter.namespace, &run.namespace)
        && is(&filter.pod, &run.pod)
        && (filter.container.is_none() || container.contains(&&filter.container))
        && filter.outcome.is_none_or(|outcome| run.outcome == Some(outcome))
        && filter.ended.is_none_or(|ended| run.ended_at.is_some() == ended)
        && filter.since.is_none_or(|since| run.created_at >= since)
}

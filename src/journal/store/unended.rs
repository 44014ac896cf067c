//! What of its own a process has not ended: so that it can go on in memory without asking a disk that fails.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::journal::{AttemptResult, Entry, LeftRun, NewRun};

/// By id: how far each has come, and when its first attempt began, if this process saw that.
#[derive(Debug, Default)]
pub(super) struct Unended(HashMap<Arc<str>, (LeftRun, Option<SystemTime>)>);

impl Unended {
    /// Follows an entry.
    pub(super) fn note(&mut self, entry: &Entry) {
        match entry {
            Entry::Begin { run, intended } => {
                self.adopt(LeftRun { run: Arc::clone(run), intended: *intended, started: 0, failed: 0 });
            }
            Entry::Confirm { id, event } => {
                if let Some((left, _)) = self.0.get_mut(id) {
                    left.run = Arc::new(NewRun { event: Arc::clone(event), ..NewRun::clone(&left.run) });
                    left.intended = false;
                }
            }
            Entry::Start { id, number, at } => {
                if let Some((left, started_at)) = self.0.get_mut(id) {
                    left.started = *number;
                    started_at.get_or_insert(*at);
                }
            }
            Entry::Attempt { id, attempt } => {
                if let Some((left, _)) = self.0.get_mut(id) {
                    left.failed += u32::from(attempt.result != AttemptResult::Interrupted);
                }
            }
            Entry::Retract { id } | Entry::End { id, .. } => {
                self.0.remove(id);
            }
            Entry::Forget { .. } => {}
        }
    }

    /// One that another process has begun.
    pub(super) fn adopt(&mut self, left: LeftRun) {
        self.0.insert(Arc::clone(&left.run.id), (left, None));
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&LeftRun, Option<SystemTime>)> {
        self.0.values().map(|(left, started_at)| (left, *started_at))
    }
}

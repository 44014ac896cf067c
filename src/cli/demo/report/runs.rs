//! Runs of hooks: how many, how they ended, how long they took.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{KEPT, human, percentile};
use crate::hooks::engine::RunSeen;
use crate::lifecycle::{Outcome, Point};

/// Marks what belongs to hooks.
pub(super) const MARK: char = '◆';

/// A reason is cut after so many characters.
const WIDEST: usize = 70;

/// By point ([`Point::index`], the order of a pod's life) and name.
#[derive(Default)]
pub(super) struct Runs(BTreeMap<(usize, String), Row>);

#[derive(Default)]
struct Row {
    runs: u64,
    failed: u64,
    attempts: u64,
    recent: VecDeque<Duration>,
}

impl Runs {
    pub fn add(&mut self, run: &RunSeen) {
        let row = self.0.entry((run.hook.point.index(), name(run))).or_default();
        row.runs += 1;
        row.failed += u64::from(run.outcome != Outcome::Succeeded);
        row.attempts += u64::from(run.attempts);
        if row.recent.len() == KEPT {
            row.recent.pop_front();
        }
        row.recent.push_back(run.duration);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn head() -> String {
        format!("{:<26}{:>7}{:>8}{:>11}{:>11}{:>11}   {}", "hook", "runs", "not OK", "p50", "p99", "attempts", "point")
    }

    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|((index, name), Row { runs, failed, attempts, recent })| {
            let point = Point::ALL[*index];
            let [p50, p99] = [50, 99].map(|p| human(percentile(recent.iter().copied().collect(), p)));
            format!("{name:<26}{runs:>7}{failed:>8}{p50:>11}{p99:>11}{attempts:>11}   {point}")
        })
    }
}

fn name(run: &RunSeen) -> String {
    format!("{}/{}", run.hook.policy, run.hook.name)
}

/// Whose run it was, what came of it, and why if it did not succeed.
pub(super) fn words(run: &RunSeen) -> String {
    let whom = run.event.container.as_ref().map_or(&run.event.pod.name, |container| &container.name);
    let attempts = if run.attempts == 1 { "1 attempt".to_owned() } else { format!("{} attempts", run.attempts) };
    let words = format!("{} for {whom}, {attempts}", name(run));
    match run.reason.as_deref().filter(|_| run.outcome != Outcome::Succeeded) {
        None => words,
        Some(reason) => {
            let mut reason = reason.replace(char::is_control, " ");
            if let Some((end, _)) = reason.char_indices().nth(WIDEST) {
                reason.truncate(end);
                reason.push('…');
            }
            format!("{words}: {reason}")
        }
    }
}

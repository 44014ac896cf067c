//! A journal that lives as long as the process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::{AttemptRecord, Filter, Journal, NewRun, Run};
use crate::lifecycle::Outcome;

/// Runs in memory. At a bound, the oldest run that has ended makes room, and only if none has, the oldest of all.
pub struct MemoryJournal {
    max_runs: usize,
    max_bytes: usize,
    kept: Mutex<Kept>,
}

/// Runs have a number in the order in which they came.
#[derive(Default)]
struct Kept {
    next: u64,
    runs: BTreeMap<u64, Run>,
    numbers: HashMap<Arc<str>, u64>,
    ended: BTreeSet<u64>,
    /// Of all runs together, by [`size`].
    bytes: usize,
}

/// What a run costs apart from its texts, about.
const RUN: usize = 512;
/// What an attempt costs apart from its texts, about.
const ATTEMPT: usize = 192;

impl Default for MemoryJournal {
    /// 100,000 runs, 32 MiB.
    fn default() -> Self {
        Self::new(100_000, 32 << 20)
    }
}

impl MemoryJournal {
    /// Keeps at most `max_runs` runs, of about `max_bytes` together.
    #[must_use]
    pub fn new(max_runs: usize, max_bytes: usize) -> Self {
        Self { max_runs, max_bytes, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trim(&self, kept: &mut Kept) {
        while kept.runs.len() > self.max_runs || kept.bytes > self.max_bytes {
            let Some(oldest) = kept.ended.pop_first().or_else(|| kept.runs.keys().next().copied()) else { return };
            if let Some(run) = kept.runs.remove(&oldest) {
                kept.bytes = kept.bytes.saturating_sub(size(&run));
                kept.numbers.remove(&run.new.id);
            }
        }
    }

    /// Changes a run that is still there; `change` gives the bytes that it added.
    fn change(&self, id: &str, change: impl FnOnce(&mut Run) -> usize) {
        let mut kept = self.kept();
        let Some(number) = kept.numbers.get(id).copied() else { return };
        let Some(run) = kept.runs.get_mut(&number) else { return };
        let more = change(run);
        let over = run.outcome.is_some();
        kept.bytes += more;
        if over {
            kept.ended.insert(number);
        }
        self.trim(&mut kept);
    }
}

impl Journal for MemoryJournal {
    fn begin(&self, new: NewRun) {
        let id = Arc::clone(&new.id);
        let run = Run { new, started_at: None, ended_at: None, outcome: None, reason: None, attempts: Vec::new() };
        let mut kept = self.kept();
        let number = kept.next;
        kept.next += 1;
        kept.bytes += size(&run);
        kept.runs.insert(number, run);
        kept.numbers.insert(id, number);
        self.trim(&mut kept);
    }

    fn start(&self, id: &str, at: SystemTime) {
        self.change(id, |run| {
            run.started_at = Some(at);
            0
        });
    }

    fn attempt(&self, id: &str, attempt: AttemptRecord) {
        self.change(id, |run| {
            let more = attempt_size(&attempt);
            run.attempts.push(attempt);
            more
        });
    }

    fn end(&self, id: &str, at: SystemTime, outcome: Outcome, reason: Option<&str>) {
        self.change(id, |run| {
            run.ended_at = Some(at);
            run.outcome = Some(outcome);
            run.reason = reason.map(str::to_owned);
            reason.map_or(0, str::len)
        });
    }

    fn runs(&self, filter: &Filter) -> Vec<Run> {
        self.kept().runs.values().rev().filter(|run| filter.passes(run)).take(filter.limit).cloned().collect()
    }
}

fn size(run: &Run) -> usize {
    let new = &run.new;
    let ids = [&new.container, &new.container_id, &new.sandbox_id];
    RUN + new.namespace.len()
        + new.pod.len()
        + ids.into_iter().flatten().map(String::len).sum::<usize>()
        + run.reason.as_ref().map_or(0, String::len)
        + run.attempts.iter().map(attempt_size).sum::<usize>()
}

fn attempt_size(attempt: &AttemptRecord) -> usize {
    ATTEMPT
        + attempt.message.as_ref().map_or(0, String::len)
        + attempt.stdout.len()
        + attempt.stderr.len()
        + attempt.body.len()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::journal::AttemptResult;
    use crate::lifecycle::Point;

    fn new(id: &str) -> NewRun {
        NewRun {
            id: id.into(),
            policy: "drain-web".into(),
            hook: "drain".into(),
            point: Point::PRE_STOP,
            handler: "exec",
            mode: "Blocking",
            namespace: "team-a".into(),
            pod: "web-0".into(),
            container: Some("main".into()),
            container_id: Some("c1".into()),
            sandbox_id: None,
            created_at: SystemTime::UNIX_EPOCH,
        }
    }

    fn attempt(stdout: &str) -> AttemptRecord {
        AttemptRecord {
            number: 1,
            started_at: SystemTime::UNIX_EPOCH,
            duration: Duration::from_millis(1500),
            result: AttemptResult::Failed,
            message: Some("exit code 3".into()),
            exit_code: Some(3),
            http_status: None,
            stdout: stdout.into(),
            stderr: String::new(),
            body: String::new(),
        }
    }

    fn ids(journal: &MemoryJournal) -> Vec<String> {
        journal.runs(&Filter::default()).iter().map(|run| run.new.id.to_string()).collect()
    }

    #[test]
    fn a_run_reads_as_a_document_in_camel_case() {
        let journal = MemoryJournal::default();
        journal.begin(new("r1"));
        journal.start("r1", SystemTime::UNIX_EPOCH);
        journal.attempt("r1", attempt("half done\n"));
        journal.end("r1", SystemTime::UNIX_EPOCH + Duration::from_secs(2), Outcome::Failed, Some("exit code 3"));
        let document = serde_json::to_value(&journal.runs(&Filter::default())[0]).unwrap();
        assert_eq!(
            document,
            serde_json::json!({
                "id": "r1", "policy": "drain-web", "hook": "drain", "point": "PreStopContainer", "handler": "exec",
                "mode": "Blocking", "namespace": "team-a", "pod": "web-0", "container": "main", "containerId": "c1",
                "createdAt": "1970-01-01T00:00:00.000000Z", "startedAt": "1970-01-01T00:00:00.000000Z",
                "endedAt": "1970-01-01T00:00:02.000000Z", "outcome": "failed", "reason": "exit code 3",
                "attempts": [{
                    "number": 1, "startedAt": "1970-01-01T00:00:00.000000Z", "duration": 1.5, "result": "failed",
                    "message": "exit code 3", "exitCode": 3, "stdout": "half done\n",
                }],
            })
        );
    }

    #[test]
    fn the_oldest_that_has_ended_makes_room_before_any_that_has_not() {
        let journal = MemoryJournal::new(3, usize::MAX);
        for id in ["a", "b", "c"] {
            journal.begin(new(id));
        }
        journal.end("b", SystemTime::UNIX_EPOCH, Outcome::Succeeded, None);
        journal.begin(new("d"));
        assert_eq!(ids(&journal), ["d", "c", "a"]);
        journal.begin(new("e"));
        assert_eq!(ids(&journal), ["e", "d", "c"], "none has ended: the oldest of all");
        journal.end("a", SystemTime::UNIX_EPOCH, Outcome::Succeeded, None);
        assert_eq!(ids(&journal).len(), 3, "news of a run that is not kept changes nothing");
    }

    #[test]
    fn much_output_makes_room_by_bytes() {
        let journal = MemoryJournal::new(usize::MAX, 1 << 20);
        for n in 0..100 {
            let id = n.to_string();
            journal.begin(new(&id));
            journal.attempt(&id, attempt(&"x".repeat(64 << 10)));
            journal.end(&id, SystemTime::UNIX_EPOCH, Outcome::Failed, Some("exit code 3"));
        }
        let kept = ids(&journal);
        assert!((14..=16).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept[0], "99");
    }

    #[test]
    fn what_is_asked_for_is_what_is_read() {
        let journal = MemoryJournal::default();
        journal.begin(new("a"));
        journal.begin(NewRun { policy: "other".into(), container_id: Some("c2".into()), ..new("b") });
        journal.end("a", SystemTime::UNIX_EPOCH, Outcome::TimedOut, None);
        let found = |filter: &Filter| journal.runs(filter).iter().map(|run| run.new.id.to_string()).collect::<Vec<_>>();
        assert_eq!(found(&Filter { policy: Some("other".into()), ..Filter::default() }), ["b"]);
        assert_eq!(found(&Filter { outcome: Some(Outcome::TimedOut), ..Filter::default() }), ["a"]);
        assert_eq!(found(&Filter { container: Some("c2".into()), ..Filter::default() }), ["b"]);
        assert_eq!(found(&Filter { container: Some("main".into()), limit: 1, ..Filter::default() }), ["b"]);
        assert_eq!(
            found(&Filter { id: Some("a".into()), point: Some(Point::POST_START), ..Filter::default() }).len(),
            0
        );
    }
}

//! The journal on a real file, through what everybody uses of it. A process that is killed is played by [`SqliteJournal::die`].

mod degraded;
mod kept;
mod left;
mod model;
mod waited;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus::Registry;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::*;
use crate::journal::{AttemptRecord, AttemptResult, LeftRun};
use crate::lifecycle::{Container, Event, LAST_APPLIED, Outcome, Pod, Point};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

struct Kit {
    journal: Arc<SqliteJournal>,
    left: UnboundedReceiver<Left>,
    registry: Registry,
}

/// As usual, but quick.
fn quick(dir: &Path) -> Settings {
    let millis = Duration::from_millis;
    Settings {
        patience: PATIENCE,
        tick: millis(20),
        retry: (millis(20), millis(100)),
        sweep: millis(20),
        ..Settings::new(dir.to_owned(), Retention::default())
    }
}

impl Kit {
    fn open(dir: &Path) -> Self {
        Self::with(quick(dir), None)
    }

    fn with(settings: Settings, lock: Option<OwnedFd>) -> Self {
        let registry = Registry::new();
        let (journal, left) = SqliteJournal::open(settings, lock, JournalMetrics::register(&registry).unwrap());
        Self { journal, left, registry }
    }

    async fn left(&mut self) -> Left {
        timeout(PATIENCE, self.left.recv()).await.expect("in time").expect("the journal is there")
    }

    async fn write(&self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            self.journal.write(entry);
        }
        self.journal.recorded().await;
        if self.journal.shared.in_memory.load(Ordering::Acquire) {
            // Nobody waits for memory, but who reads it next.
            until(|| self.journal.health().unwritten == 0).await;
        }
    }

    async fn runs(&self, filter: Filter) -> Vec<Run> {
        self.journal.runs(filter).await.expect("the journal can be read")
    }

    /// `hook outcome attempts`, the newest first.
    async fn told(&self) -> Vec<String> {
        let tell = |run: &Run| {
            let outcome = run.outcome.map_or("-", Outcome::name);
            format!("{} {outcome} {}", run.hook, run.attempts.as_ref().map_or(0, Vec::len))
        };
        self.runs(Filter::default()).await.iter().map(tell).collect()
    }

    fn metric(&self, name: &str) -> u64 {
        let text = String::from_utf8(crate::metrics::render(&self.registry).unwrap()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("such a metric");
        line.trim().parse().unwrap()
    }

    /// Waits until the journal is well, or is not.
    async fn becomes(&self, degraded: bool) {
        until(|| self.journal.health().degraded.is_some() == degraded).await;
    }

    /// As a process that is killed.
    async fn die(self) {
        self.journal.die();
        until(|| Arc::strong_count(&self.journal.shared) == 1).await;
    }

    async fn close(self) {
        self.journal.close().await;
        until(|| Arc::strong_count(&self.journal.shared) == 1).await;
    }
}

async fn until(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("it comes about in time");
}

fn event(container: &str) -> Event {
    let pod = Pod { namespace: "team-a".into(), name: "web-0".into(), sandbox_id: "s".into(), ..Pod::default() };
    let container = Container { id: container.into(), name: "main".into(), ..Container::default() };
    let (pod, container) = (Arc::new(pod), Some(Arc::new(container)));
    Event { point: Point::POST_START, pod, container, grace: None, at: SystemTime::now().into(), trace: None }
}

/// A run whose id and hook are `name`.
fn run(name: &str) -> Arc<NewRun> {
    Arc::new(NewRun {
        id: name.into(),
        policy: "p".into(),
        hook: name.into(),
        handler: "exec".into(),
        mode: "Background".into(),
        event: Arc::new(event(&format!("container of {name}"))),
        once: true,
        replay_of: None,
        created_at: SystemTime::now(),
    })
}

fn begin(name: &str) -> Entry {
    Entry::Begin { run: run(name), intended: false }
}

fn start(name: &str, number: u32) -> Entry {
    Entry::Start { id: name.into(), number, at: SystemTime::now() }
}

fn attempt(name: &str, number: u32, result: AttemptResult) -> Entry {
    let attempt = AttemptRecord {
        number,
        started_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        duration: Duration::from_millis(1500),
        result,
        message: Some("words".into()),
        exit_code: Some(3),
        http_status: None,
        stdout: "out".into(),
        stderr: String::new(),
        body: String::new(),
    };
    Entry::Attempt { id: name.into(), attempt }
}

fn end(name: &str, outcome: Outcome) -> Entry {
    Entry::End { id: name.into(), at: SystemTime::now(), outcome, reason: None }
}

/// A run from its beginning to its end.
fn whole(name: &str, outcome: Outcome) -> [Entry; 4] {
    let result = if outcome == Outcome::Succeeded { AttemptResult::Succeeded } else { AttemptResult::Failed };
    [begin(name), start(name, 1), attempt(name, 1, result), end(name, outcome)]
}

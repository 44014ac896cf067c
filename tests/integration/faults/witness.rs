//! The runtime's word for what has happened, held against what the server of hooks was told of it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crihook::cri::v1::{ContainerEventResponse, ContainerEventType, StopContainerRequest};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::kubelet::HASTY;
use super::report::Report;
use super::stage::Stage;
use crate::hooks::node::admin;
use crate::hooks::server::Delivered;
use crate::wire::peer::stand::PATIENCE;

/// A hook's name, and the container or sandbox.
type Due = (&'static str, String);

/// What the runtime says, as it says it.
pub struct Witness {
    events: Arc<Mutex<Vec<ContainerEventResponse>>>,
    seen: Cell<usize>,
    /// Hooks that were answered, with their subjects.
    answered: RefCell<HashSet<(String, String)>>,
    _listening: JoinSet<()>,
}

/// The container or the sandbox that it is about.
fn subject(delivered: &Delivered) -> String {
    let id = match delivered.container() {
        Value::Null => &delivered.document["data"]["pod"]["sandboxId"],
        container => &container["id"],
    };
    id.as_str().unwrap_or_default().to_owned()
}

impl Witness {
    /// Listens to the runtime from now on.
    pub async fn of(stage: &Stage) -> Self {
        let mut stream = stage.direct().events().await.expect("events");
        let events: Arc<Mutex<Vec<_>>> = Arc::default();
        let sink = Arc::clone(&events);
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            while let Some(event) = stream.message().await.expect("the runtime stays") {
                sink.lock().expect("no panic while it is held").push(event);
            }
        });
        Self { events, seen: Cell::new(0), answered: RefCell::default(), _listening: listening }
    }

    fn look(&self, stage: &Stage) {
        let new = stage.server.answered(self.seen.get());
        self.seen.set(self.seen.get() + new.len());
        self.answered.borrow_mut().extend(new.iter().map(|new| (new.hook().to_owned(), subject(new))));
    }

    fn is_answered(&self, hook: &str, subject: &str) -> bool {
        self.answered.borrow().contains(&(hook.to_owned(), subject.to_owned()))
    }

    /// Waits until these hooks were run for `subject`, but not for ever: what is missing then is found at the end.
    pub async fn had(&self, stage: &Stage, hooks: &[&str], subject: &str) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            self.look(stage);
            if hooks.iter().all(|hook| self.is_answered(hook, subject)) {
                return;
            }
            sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// What is due by what has happened; and whether it need not be any more once it was late.
    fn due(&self) -> Vec<(Due, bool)> {
        let mut due = Vec::new();
        for event in &*self.events.lock().expect("no panic while it is held") {
            let pod = event.pod_sandbox_status.as_ref().expect("an event's sandbox");
            let name = pod.metadata.as_ref().map(|metadata| metadata.name.as_str()).unwrap_or_default();
            let hooks: &[&str] = match (event.container_event_type(), event.container_id == pod.id) {
                (ContainerEventType::ContainerCreatedEvent, _) => &[],
                (ContainerEventType::ContainerStartedEvent, true) => &["pod-up"],
                (ContainerEventType::ContainerStartedEvent, false) => &["up", "warm"],
                (ContainerEventType::ContainerStoppedEvent, true) => &[],
                (ContainerEventType::ContainerStoppedEvent, false) => &["drain", "down"],
                (ContainerEventType::ContainerDeletedEvent, true) => &["pod-removed"],
                (ContainerEventType::ContainerDeletedEvent, false) => &["removed"],
            };
            let may_be_late =
                name.starts_with(HASTY) && event.container_event_type() == ContainerEventType::ContainerStartedEvent;
            due.extend(hooks.iter().map(|hook| ((*hook, event.container_id.clone()), may_be_late)));
        }
        due
    }

    /// When all is quiet: what was lost, what was run as new though it was not, and what came too late.
    pub async fn judge(&self, stage: &Stage, report: &mut Report) {
        let due = self.due();
        let began = Instant::now();
        let missing = loop {
            self.look(stage);
            let mut runs = None;
            let mut missing = Vec::new();
            for ((hook, subject), may_be_late) in &due {
                if self.is_answered(hook, subject) {
                    continue;
                }
                if runs.is_none() {
                    runs = Some(history(stage).await);
                }
                let told = runs.iter().flatten().filter(|run| concerns(run, hook, subject)).collect::<Vec<_>>();
                if !*may_be_late || !told.iter().any(|run| run["outcome"] == "abandoned") {
                    missing.push(format!("{hook} for {subject}; the history says {told:?}"));
                }
            }
            if missing.is_empty() || began.elapsed() > PATIENCE {
                break missing;
            }
            sleep(std::time::Duration::from_millis(20)).await;
        };
        report.lost.extend(missing);
        report.due += due.len();
        let delivered = stage.server.delivered();
        report.deliveries += delivered.len();
        ids(&delivered, report);
        self.stops(stage, &delivered, report);
        report.failures.append(&mut stage.failures.borrow_mut());
    }

    /// No container is told to stop before its `PreStop` has begun.
    fn stops(&self, stage: &Stage, delivered: &[Delivered], report: &mut Report) {
        let mut drained: HashMap<String, Instant> = HashMap::new();
        for delivered in delivered.iter().filter(|delivered| delivered.hook() == "drain") {
            drained.entry(subject(delivered)).or_insert(delivered.at);
        }
        for heard in stage.runtime.heard().iter().filter(|heard| heard.method == "StopContainer") {
            let id = heard.request::<StopContainerRequest>().expect("its message").container_id;
            if drained.get(&id).is_none_or(|at| *at > heard.at) {
                report.early.push(format!("{id} was stopped before its PreStop"));
            }
        }
    }
}

/// One id for each hook of each subject, and a number that rises for each delivery of it.
fn ids(delivered: &[Delivered], report: &mut Report) {
    let mut ids: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    let mut last: HashMap<&str, u64> = HashMap::new();
    for delivered in delivered {
        let ids = ids.entry((delivered.hook(), subject(delivered))).or_default();
        if !ids.contains(&delivered.id()) {
            ids.push(delivered.id());
        }
        let number = delivered.attempt();
        match last.insert(delivered.id(), number) {
            None => {}
            Some(before) if before < number => report.redeliveries += 1,
            Some(before) => {
                report.numbers.push(format!("{}: attempt {number} after {before}", delivered.id()));
            }
        }
    }
    let twice = ids.into_iter().filter(|(_, ids)| ids.len() > 1);
    report.twice.extend(twice.map(|((hook, subject), ids)| format!("{hook} for {subject} as {ids:?}")));
}

async fn history(stage: &Stage) -> Vec<Value> {
    let all = admin(&stage.place.path("admin.sock"), "/v1/runs").await;
    serde_json::from_str(&all).expect("an array of runs")
}

fn concerns(run: &Value, hook: &str, subject: &str) -> bool {
    run["hook"] == hook && (run["containerId"] == subject || run["sandboxId"] == subject)
}

//! The parts of crihook, each in a word or two.

use std::time::{Duration, SystemTime};

use super::super::api::status::Status;
use super::words::{age, count, counted, size};

/// A part of crihook, and how it is.
#[derive(Debug)]
pub struct Fact {
    pub name: &'static str,
    pub value: String,
    pub more: String,
    pub well: bool,
}

/// All of them, as of `now`.
pub fn facts(status: &Status, now: SystemTime) -> Vec<Fact> {
    let since = |time| age(now.duration_since(time).unwrap_or_default());
    vec![
        runtime(status),
        crihook(status),
        connections(status),
        hooks(status, since),
        policies(status, since),
        journal(status, since),
    ]
}

fn runtime(status: &Status) -> Fact {
    let runtime = &status.runtime;
    let value = match (&runtime.name, &runtime.version) {
        (Some(name), Some(version)) => format!("{name} {version}"),
        _ => "does not answer".to_owned(),
    };
    let images = runtime.image_endpoint.as_ref().map(|images| format!(", images {images}"));
    let more = format!("{}{}", runtime.endpoint, images.unwrap_or_default());
    Fact { name: "Runtime", value, more, well: runtime.answers }
}

fn crihook(status: &Status) -> Fact {
    let value = if status.draining { "ending" } else { "serving" }.to_owned();
    let up = age(Duration::from_secs(status.uptime));
    let more = format!("{}, up for {up}, at {}", status.version, status.listen);
    Fact { name: "crihook", value, more, well: !status.draining }
}

fn connections(status: &Status) -> Fact {
    let connections = status.connections;
    let value = counted(connections.downstream.unsigned_abs(), "client", "clients");
    Fact { name: "Connections", value, more: format!("{} to the runtime", connections.upstream), well: true }
}

fn hooks(status: &Status, since: impl Fn(SystemTime) -> String) -> Fact {
    let value = match &status.paused {
        None => "on".to_owned(),
        Some(paused) => format!("paused for {}", since(paused.since)),
    };
    let more = format!("{} waiting, {} in flight", count(status.queue.waiting), count(status.queue.in_flight));
    Fact { name: "Hooks", value, more, well: status.paused.is_none() }
}

fn policies(status: &Status, since: impl Fn(SystemTime) -> String) -> Fact {
    let policies = &status.policies;
    let value = format!("{} with {}", policies.policies, counted(policies.hooks as u64, "hook", "hooks"));
    let mut more = match policies.from_last_good {
        true if policies.hash.is_empty() => "none in force".to_owned(),
        true => "the last good ones".to_owned(),
        false => policies.directory.display().to_string(),
    };
    if !policies.hash.is_empty() {
        more = format!("{}, read {} ago, {more}", policies.hash, since(policies.loaded_at));
    }
    Fact { name: "Policies", value, more, well: policies.errors.is_empty() }
}

fn journal(status: &Status, since: impl Fn(SystemTime) -> String) -> Fact {
    let journal = &status.journal;
    let value = match &journal.degraded {
        None => counted(journal.runs, "run", "runs"),
        Some(degraded) => format!("not safe for {}", since(degraded.since)),
    };
    let mut more = if journal.path.as_os_str().is_empty() {
        "in memory".to_owned()
    } else {
        format!("{}, {}", size(journal.bytes), journal.path.display())
    };
    if journal.unwritten > 0 {
        more = format!("{more}, {} not written yet", counted(journal.unwritten, "entry", "entries"));
    }
    Fact { name: "Journal", value, more, well: journal.degraded.is_none() }
}

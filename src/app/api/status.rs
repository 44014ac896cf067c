//! How crihook is: what `crihook status` shows.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use prometheus::IntGauge;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::drain::Drain;
use crate::hooks::engine::Engine;
use crate::hooks::pause::{Pause, Paused, rfc3339};
use crate::hooks::policy::reload::Health;
use crate::journal::Journal;
use crate::proxy::Heartbeat;
use crate::runtime::Runtime;
use crate::trace::Tracer;

use super::super::sockets::Metrics;
use super::super::{HEARTBEAT_LIMIT, PROBE_LIMIT};

/// All of it. Its text is for people and may change; its names are for programs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names say it")]
pub struct Status {
    pub version: String,
    pub pid: u32,
    #[serde(with = "rfc3339")]
    pub started_at: SystemTime,
    /// In seconds.
    pub uptime: u64,
    /// It takes no new calls, and ends when those there are have ended.
    pub draining: bool,
    /// Where the kubelet finds it.
    pub listen: String,
    pub runtime: RuntimeStatus,
    pub connections: Connections,
    pub policies: Policies,
    /// Since when and why hooks are off; absent while they are on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    pub queue: Queue,
    /// Those that are open.
    pub breakers: Vec<Breaker>,
    pub journal: JournalStatus,
    /// Everything that is not as it should be; empty if all is well.
    pub degradations: Vec<Degradation>,
}

/// What is behind crihook.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names say it")]
pub struct RuntimeStatus {
    pub endpoint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_endpoint: Option<String>,
    /// Whether it answered just now.
    pub answers: bool,
    /// What it calls itself, if it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Open connections.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Connections {
    /// Of clients.
    pub downstream: i64,
    /// To the runtime.
    pub upstream: i64,
}

/// The policies in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names say it")]
pub struct Policies {
    pub directory: PathBuf,
    pub policies: usize,
    pub hooks: usize,
    /// As in `crihook_policy_info`; empty if there never were good ones.
    pub hash: String,
    #[serde(with = "rfc3339")]
    pub loaded_at: SystemTime,
    /// They are not what the directory says, but the last ones that were good.
    pub from_last_good: bool,
    /// What is wrong with the documents in the directory.
    pub errors: Vec<String>,
}

/// Runs that have not ended.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// For their turn, a slot, a breaker or the next attempt.
    pub waiting: u64,
    /// With an attempt under way.
    pub in_flight: u64,
}

/// A hook whose server is left alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names say it")]
pub struct Breaker {
    pub policy: String,
    pub hook: String,
    #[serde(with = "rfc3339")]
    pub open_since: SystemTime,
    pub why: String,
}

/// Where runs are written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalStatus {
    /// Its file.
    pub path: PathBuf,
    /// Runs that it holds.
    pub runs: u64,
    /// Its size.
    pub bytes: u64,
    /// Entries that are not safe yet.
    pub unwritten: u64,
    /// Since when and why runs are not safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<Degraded>,
}

/// Since when something is not as it should be.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Degraded {
    #[serde(with = "rfc3339")]
    pub since: SystemTime,
    pub why: String,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Degradation {
    /// The part, in a word or two.
    pub what: String,
    /// How it is.
    pub why: String,
    /// What would be right, or what it does meanwhile.
    pub remedy: String,
}

/// What tells how crihook is.
pub(crate) struct Sources {
    pub config: Config,
    pub started: (SystemTime, Instant),
    pub drain: Drain,
    pub heartbeat: Heartbeat,
    pub runtime: Runtime,
    pub downstream: IntGauge,
    pub upstream: IntGauge,
    /// Empty as long as the metrics address cannot be had.
    pub metrics: Metrics,
    pub policies: watch::Receiver<Health>,
    pub engine: Arc<Engine>,
    pub pause: Pause,
    pub journal: Arc<dyn Journal>,
    pub tracer: Tracer,
}

impl Sources {
    /// How it is now. It asks the runtime and the data path, and waits for them a little.
    pub async fn status(&self) -> Status {
        let (found, moves) = tokio::join!(self.runtime.version(PROBE_LIMIT), self.heartbeat.beat(HEARTBEAT_LIMIT));
        let now = SystemTime::now();
        let (name, version, why) = match found {
            Ok(found) => (Some(found.name), Some(found.version), None),
            Err(why) => (None, None, Some(why)),
        };
        let config = &self.config;
        let runtime = RuntimeStatus {
            endpoint: config.runtime_endpoint.to_string(),
            image_endpoint: config.image_endpoint.as_ref().map(ToString::to_string),
            answers: why.is_none(),
            name,
            version,
            why,
        };
        let queue = self.engine.pending();
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.started.0,
            uptime: self.started.1.elapsed().as_secs(),
            draining: self.drain.is_draining(),
            listen: config.listen.to_string(),
            runtime,
            connections: Connections { downstream: self.downstream.get(), upstream: self.upstream.get() },
            policies: self.policies(),
            paused: self.pause.state(),
            queue: Queue { waiting: queue.waiting, in_flight: queue.in_flight },
            breakers: self.breakers(now),
            journal: self.journal(),
            degradations: Vec::new(),
        };
        status.degradations = self.degradations(&status, moves);
        status
    }

    fn policies(&self) -> Policies {
        let health = self.policies.borrow().clone();
        Policies {
            directory: self.config.hooks_dir.clone(),
            policies: health.policies,
            hooks: health.hooks,
            hash: health.hash,
            loaded_at: health.loaded_at,
            from_last_good: health.from_last_good,
            errors: health.errors,
        }
    }

    fn breakers(&self, now: SystemTime) -> Vec<Breaker> {
        let open = self.engine.open_breakers().into_iter().map(|breaker| Breaker {
            policy: breaker.policy.to_string(),
            hook: breaker.hook.to_string(),
            open_since: now.checked_sub(breaker.open).unwrap_or(now),
            why: breaker.why,
        });
        open.collect()
    }

    fn journal(&self) -> JournalStatus {
        let health = self.journal.health();
        let degraded = health.degraded.map(|(why, since)| Degraded { since, why });
        let (path, runs, bytes, unwritten) = (health.path, health.runs, health.bytes, health.unwritten);
        JournalStatus { path, runs, bytes, unwritten, degraded }
    }

    fn degradations(&self, status: &Status, moves: bool) -> Vec<Degradation> {
        let mut found = Vec::new();
        let mut add = |what: &str, why: String, remedy: String| {
            found.push(Degradation { what: what.to_owned(), why, remedy });
        };
        if status.draining {
            add(
                "ending",
                "takes no new calls".to_owned(),
                format!(
                    "it ends when those in flight have, within {}",
                    humantime::format_duration(self.config.drain_timeout)
                ),
            );
        }
        if !moves {
            add(
                "data path",
                format!("does not answer within {HEARTBEAT_LIMIT:?}"),
                "this is a mistake in crihook: restart it, and report its log".to_owned(),
            );
        }
        if let Some(why) = &status.runtime.why {
            add(
                "runtime",
                format!("{} does not answer: {why}", status.runtime.endpoint),
                "start it, or name its socket with --runtime-endpoint".to_owned(),
            );
        }
        if !status.policies.errors.is_empty() {
            let directory = status.policies.directory.display();
            let in_force = if status.policies.hash.is_empty() {
                "there are no last good ones"
            } else {
                "the last good ones are in force"
            };
            add(
                "policies",
                format!("those in {directory} are wrong, and {in_force}"),
                format!("`crihook check {directory}` shows where, and what would be right"),
            );
        }
        if let Some(paused) = &status.paused {
            let reason = paused.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            add("hooks", format!("paused{reason}"), "`crihook resume` lets them run again".to_owned());
        }
        for breaker in &status.breakers {
            add(
                "breaker",
                format!("{}/{}: {}", breaker.policy, breaker.hook, breaker.why),
                "its server is asked once per 10s until it answers; meanwhile runs in the background wait, blocking ones fail at once".to_owned(),
            );
        }
        if let Some(degraded) = &status.journal.degraded {
            add(
                "journal",
                degraded.why.clone(),
                "runs are kept in memory only; it recovers by itself once the cause is gone".to_owned(),
            );
        }
        if let Some(why) = self.tracer.trouble() {
            add(
                "traces",
                why,
                "spans are lost meanwhile; see that the collector can be reached, or name another one with --otlp-endpoint".to_owned(),
            );
        }
        if self.metrics.get().is_none() {
            add(
                "metrics",
                format!("{} cannot be had", self.config.metrics_addr),
                "it is tried again; free it, or name another one with --metrics-addr".to_owned(),
            );
        }
        found
    }
}

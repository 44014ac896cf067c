//! The record of runs: what was to be done, each attempt with its output, and what became of it.
//!
//! The hooks' engine writes through [`Journal`], which never blocks it; `history`, `replay` and the status page read. [`MemoryJournal`]
//! keeps the record for the life of the process, bounded by count and by bytes.

mod memory;

pub use memory::MemoryJournal;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use crate::lifecycle::{Outcome, Point};

/// Where runs are written down. Its methods return at once: whoever writes to a disk does it elsewhere.
pub trait Journal: Send + Sync {
    /// A run is to be: it was queued, or it begins.
    fn begin(&self, run: NewRun);

    /// Its first attempt has begun.
    fn start(&self, id: &str, at: SystemTime);

    /// One of its attempts is over.
    fn attempt(&self, id: &str, attempt: AttemptRecord);

    /// It is over. Said once for each run.
    fn end(&self, id: &str, at: SystemTime, outcome: Outcome, reason: Option<&str>);

    /// The runs that pass `filter`, the newest first.
    fn runs(&self, filter: &Filter) -> Vec<Run>;
}

/// What is known of a run before it begins.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewRun {
    /// Unique; what handlers get as `EVENT_ID`.
    #[serde(serialize_with = "text")]
    pub id: Arc<str>,
    /// The policy's name.
    #[serde(serialize_with = "text")]
    pub policy: Arc<str>,
    /// The hook's name in it.
    #[serde(serialize_with = "text")]
    pub hook: Arc<str>,
    /// What happened.
    #[serde(serialize_with = "point")]
    pub point: Point,
    /// The handler, as policies spell it.
    pub handler: &'static str,
    /// The mode, as policies spell it.
    pub mode: &'static str,
    /// Of the pod.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container's name, at a container's points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The runtime's id of the container, once it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// The runtime's id of the sandbox, once it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox_id: Option<String>,
    /// When it was asked for.
    #[serde(serialize_with = "instant")]
    pub created_at: SystemTime,
}

/// A run, as far as it has come.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Whose, when and what.
    #[serde(flatten)]
    pub new: NewRun,
    /// When its first attempt began.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_instant")]
    pub started_at: Option<SystemTime>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_instant")]
    pub ended_at: Option<SystemTime>,
    /// What became of it, when it is over.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_outcome")]
    pub outcome: Option<Outcome>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Those that are over, in order.
    pub attempts: Vec<AttemptRecord>,
}

/// An attempt that is over.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptRecord {
    /// Counted from 1.
    pub number: u32,
    /// When it began.
    #[serde(serialize_with = "instant")]
    pub started_at: SystemTime,
    /// How long it took; in documents, seconds with a fraction.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// What came of it.
    #[serde(serialize_with = "result")]
    pub result: AttemptResult,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Of a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Of an HTTP answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The end of it; what is not UTF-8 is replaced.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stdout: String,
    /// The end of it; what is not UTF-8 is replaced.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// The beginning of an answer's body; what is not UTF-8 is replaced.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptResult {
    /// It did what it was to do.
    Succeeded,
    /// It did not.
    Failed,
    /// It was not over in time.
    TimedOut,
    /// Its server said no.
    Rejected,
    /// What it was for is gone.
    Gone,
    /// Nobody waited for it any more.
    Cancelled,
}

impl AttemptResult {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Succeeded, Self::Failed, Self::TimedOut, Self::Rejected, Self::Gone, Self::Cancelled];

    /// As labels and documents spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Rejected => "rejected",
            Self::Gone => "gone",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Which runs to read. What is `None` is not asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// That id alone.
    pub id: Option<String>,
    /// Of that policy.
    pub policy: Option<String>,
    /// Of hooks of that name.
    pub hook: Option<String>,
    /// At that point.
    pub point: Option<Point>,
    /// Of pods in that namespace.
    pub namespace: Option<String>,
    /// Of pods of that name.
    pub pod: Option<String>,
    /// Of containers of that name or id.
    pub container: Option<String>,
    /// That ended so.
    pub outcome: Option<Outcome>,
    /// Not more than these.
    pub limit: usize,
}

impl Default for Filter {
    fn default() -> Self {
        let (id, policy, hook, point, namespace, pod, container, outcome) = Default::default();
        Self { id, policy, hook, point, namespace, pod, container, outcome, limit: usize::MAX }
    }
}

impl Filter {
    /// Whether `run` passes; the limit is not its matter.
    #[must_use]
    pub fn passes(&self, run: &Run) -> bool {
        let new = &run.new;
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        is(&self.id, &new.id)
            && is(&self.policy, &new.policy)
            && is(&self.hook, &new.hook)
            && is(&self.namespace, &new.namespace)
            && is(&self.pod, &new.pod)
            && self.point.is_none_or(|point| point == new.point)
            && self.outcome.is_none_or(|outcome| run.outcome == Some(outcome))
            && self.container.as_ref().is_none_or(|wanted| {
                new.container.as_ref() == Some(wanted) || new.container_id.as_ref() == Some(wanted)
            })
    }
}

fn text<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference to the field")]
fn point<S: Serializer>(point: &Point, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(point.name())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference to the field")]
fn result<S: Serializer>(result: &AttemptResult, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(result.name())
}

fn instant<S: Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_rfc3339_micros(*at))
}

fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn maybe_instant<S: Serializer>(at: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
    at.map(humantime::format_rfc3339_micros).map(|at| at.to_string()).serialize(to)
}

#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference to the field")]
fn maybe_outcome<S: Serializer>(outcome: &Option<Outcome>, to: S) -> Result<S::Ok, S::Error> {
    outcome.map(Outcome::name).serialize(to)
}

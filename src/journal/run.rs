//! A run as it is read back.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use super::NewRun;
use crate::lifecycle::{Event, Outcome, Point};

/// A run, as far as it has come.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
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
    pub handler: Cow<'static, str>,
    /// The mode, as policies spell it.
    pub mode: Cow<'static, str>,
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
    /// The run that this one repeats because somebody asked for it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_text")]
    pub replay_of: Option<Arc<str>>,
    /// When it was asked for.
    #[serde(serialize_with = "instant")]
    pub created_at: SystemTime,
    /// Whether the call that it follows is still to succeed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub intended: bool,
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
    /// The number of the last attempt that was begun; zero if none was.
    pub started: u32,
    /// Those that are over, in order; only if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Vec<AttemptRecord>>,
}

impl Run {
    /// As it is when it begins.
    #[must_use]
    pub fn new(new: &NewRun, intended: bool) -> Self {
        let mut run = Self {
            id: Arc::clone(&new.id),
            policy: Arc::clone(&new.policy),
            hook: Arc::clone(&new.hook),
            point: new.event.point,
            handler: new.handler.clone(),
            mode: new.mode.clone(),
            namespace: String::new(),
            pod: String::new(),
            container: None,
            container_id: None,
            sandbox_id: None,
            replay_of: new.replay_of.clone(),
            created_at: new.created_at,
            intended,
            started_at: None,
            ended_at: None,
            outcome: None,
            reason: None,
            started: 0,
            attempts: Some(Vec::new()),
        };
        run.concerns(&new.event);
        run
    }

    /// Whom the event happened to, as far as it says.
    pub fn concerns(&mut self, event: &Event) {
        let known = |id: &str| (!id.is_empty()).then(|| id.to_owned());
        self.namespace.clone_from(&event.pod.namespace);
        self.pod.clone_from(&event.pod.name);
        self.container = event.container.as_ref().map(|container| container.name.clone());
        self.container_id = event.container.as_ref().and_then(|container| known(&container.id));
        self.sandbox_id = known(&event.pod.sandbox_id);
    }
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
    /// Crihook died in the middle of it; nobody knows what came of it.
    Interrupted,
}

impl AttemptResult {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Succeeded, Self::Failed, Self::TimedOut, Self::Rejected, Self::Gone, Self::Cancelled, Self::Interrupted];

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
            Self::Interrupted => "interrupted",
        }
    }
}

/// Which runs to read. What is `None` is not asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// That id; or part of one, which it begins or ends with: its beginning is the time, its last eight digits tell it from others.
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
    /// That have ended, or that have not.
    pub ended: Option<bool>,
    /// That were asked for at that time or later.
    pub since: Option<SystemTime>,
    /// Not more than these, the newest.
    pub limit: usize,
    /// Whether their attempts are wanted, with output.
    pub attempts: bool,
}

impl Default for Filter {
    /// All runs, with their attempts.
    fn default() -> Self {
        let (id, policy, hook, point, namespace, pod, container, outcome, ended, since) = Default::default();
        let (limit, attempts) = (usize::MAX, true);
        Self { id, policy, hook, point, namespace, pod, container, outcome, ended, since, limit, attempts }
    }
}

fn text<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn maybe_text<S: Serializer>(text: &Option<Arc<str>>, to: S) -> Result<S::Ok, S::Error> {
    text.as_deref().serialize(to)
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

//! From policies and a pod to what would run: pure, and in a shape that is printed as text or as JSON.
//!
//! It asks the policies what the engine asks them, with the same words about the pod.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::pods::{Described, Kind, Member};
use super::words::words;
use crate::hooks::Options;
use crate::hooks::engine::OPT_OUT;
use crate::hooks::policy::{Action, FailurePolicy, Hook, Mode, Policy, PolicySet, PortRef, Retries};
use crate::lifecycle::{Call, Container, DEFAULT_GRACE, LEAST_GRACE, Point, Stage};

/// The kubelet's deadline of most calls (`runtimeRequestTimeout`).
const DEADLINE: Duration = Duration::from_mins(2);

/// What would run for a pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explanation {
    pub namespace: String,
    pub name: String,
    /// The Kubernetes kind of the manifest; empty for a pod that runs.
    pub kind: String,
    /// What holds for all of it.
    pub notes: Vec<String>,
    /// The sandbox first, then the containers.
    pub subjects: Vec<Subject>,
    /// Policies with hooks that do not run for the pod, or not for all of its containers.
    pub unmatched: Vec<Unmatched>,
}

/// The sandbox or a container, with its points.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subject {
    /// `None`: the sandbox.
    pub kind: Option<Kind>,
    /// The container's name.
    pub container: Option<String>,
    /// The name the user wrote.
    pub image: Option<String>,
    /// The runtime's id, if it has one.
    pub id: Option<String>,
    /// Those with hooks; or the one that was asked for.
    pub points: Vec<At>,
}

/// A point, and what would run there.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct At {
    #[serde(serialize_with = "named")]
    pub point: Point,
    /// What all blocking hooks have together; `None` if there is none.
    pub budget: Option<Budget>,
    /// In the order in which they run.
    pub hooks: Vec<Planned>,
    pub notes: Vec<String>,
}

/// What blocking hooks may take, and what bounds them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Budget {
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub time: Duration,
    /// In words.
    pub because: String,
}

/// A hook that would run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Planned {
    pub policy: String,
    pub hook: String,
    pub handler: &'static str,
    /// In words.
    pub does: String,
    pub mode: &'static str,
    pub failure_policy: &'static str,
    /// Of one attempt.
    #[serde(rename = "timeoutSeconds", serialize_with = "seconds")]
    pub timeout: Duration,
    pub attempts: u32,
    /// All attempts at their timeouts, and the longest rests between them.
    #[serde(rename = "atMostSeconds", serialize_with = "seconds")]
    pub at_most: Duration,
    pub notes: Vec<String>,
}

/// A policy that does not match, or a hook of one that does and yet does not run.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Unmatched {
    pub policy: String,
    pub file: String,
    pub line: u64,
    /// The container that it does not match; `None`: the sandbox.
    pub container: Option<String>,
    /// The hook; `None`: all of the policy.
    pub hook: Option<String>,
    /// The first condition that fails.
    pub reason: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn named<S: Serializer>(point: &Point, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(point.name())
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// What would run for a pod; at `only` if that is given, else at every point that has hooks for it.
pub(super) fn explain(set: &PolicySet, options: &Options, described: &Described, only: Option<Point>) -> Explanation {
    let Described { pod, kind, runtime_class, members, .. } = described;
    let mut notes = Vec::new();
    let labelled = pod.labels.get(OPT_OUT).is_some_and(|value| value == "true");
    let left_alone = labelled && options.allow_opt_out;
    if left_alone {
        notes.push(format!("left alone: it is labelled {OPT_OUT}, and this node's config allows that (allowOptOut)"));
    } else if labelled {
        notes.push(format!("its label {OPT_OUT} changes nothing: this node's config does not allow it (allowOptOut)"));
    }
    let asks = |policy: &Policy| !policy.selector.runtime_handlers.is_empty();
    if let Some(class) = runtime_class
        && set.policies.iter().any(|policy| asks(policy))
    {
        notes.push(format!(
            "its runtime handler is unknown: which one the class `{class}` stands for, only the API server can say"
        ));
    }

    let mut subjects = Vec::new();
    let mut unmatched = Vec::new();
    for member in std::iter::once(None).chain(members.iter().map(Some)) {
        let asked = Asked { set, options, described, member };
        let points = Point::ALL.into_iter().filter(|point| point.call.is_container() == member.is_some());
        let points: Vec<Point> = points.filter(|point| only.is_none_or(|only| only == *point)).collect();
        unmatched.extend(set.policies.iter().flat_map(|policy| asked.unmatched(policy, &points)));
        let mut all: Vec<At> = if left_alone { Vec::new() } else { points.iter().map(|at| asked.at(*at)).collect() };
        all.retain(|at| only.is_some() || !at.hooks.is_empty());
        if member.is_none() && all.is_empty() {
            continue;
        }
        let container = member.map(|member| &member.container);
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        subjects.push(Subject {
            kind: member.map(|member| member.kind),
            container: container.map(|container| container.name.clone()),
            image: container.and_then(|container| given(&container.image)),
            id: given(container.map_or(pod.sandbox_id.as_str(), |container| container.id.as_str())),
            points: all,
        });
    }
    // In the order of the policies, and in that of the subjects for each.
    unmatched.sort_by_key(|one: &Unmatched| set.policies.iter().position(|policy| *policy.name == one.policy));
    Explanation {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        kind: kind.clone(),
        notes,
        subjects,
        unmatched,
    }
}

/// A subject among the policies.
struct Asked<'a> {
    set: &'a PolicySet,
    options: &'a Options,
    described: &'a Described,
    member: Option<&'a Member>,
}

impl Asked<'_> {
    fn container(&self) -> Option<&Container> {
        self.member.map(|member| &member.container)
    }

    fn check(&self, policy: &Policy) -> Result<(), String> {
        policy.selector.check(&self.described.pod, self.container())
    }

    /// Whether a hook of a policy that matches runs.
    fn reaches(&self, policy: &Policy, hook: &Hook) -> bool {
        hook.failure_policy == FailurePolicy::Ignore || policy.selector.may_fail_in(&self.described.pod.namespace)
    }

    /// Why a policy with hooks at `points` does not match, if it does not, and why hooks of one that matches do not run.
    fn unmatched(&self, policy: &Policy, points: &[Point]) -> Vec<Unmatched> {
        let because = |hook: Option<&Hook>, reason: String| Unmatched {
            policy: policy.name.to_string(),
            file: policy.file.display().to_string(),
            line: policy.line,
            container: self.container().map(|container| container.name.clone()),
            hook: hook.map(|hook| hook.name.to_string()),
            reason,
        };
        let mut hooks = policy.hooks.iter().filter(|hook| points.contains(&hook.point)).peekable();
        if hooks.peek().is_none() {
            return Vec::new();
        }
        if let Err(reason) = self.check(policy) {
            return vec![because(None, reason)];
        }
        let namespace = &self.described.pod.namespace;
        let held_back = hooks.filter(|hook| !self.reaches(policy, hook));
        let words = |hook: &Hook| {
            format!("hook {}: `failurePolicy: Fail` reaches {namespace} only if that very name is listed", hook.name)
        };
        held_back.map(|hook| because(Some(hook), words(hook))).collect()
    }

    fn at(&self, point: Point) -> At {
        let matching = self.set.policies.iter().filter(|policy| self.check(policy).is_ok());
        let hooks = matching.flat_map(|policy| {
            policy.hooks.iter().filter(move |hook| hook.point == point && self.reaches(policy, hook))
        });
        let hooks: Vec<Planned> = hooks.map(|hook| self.planned(hook)).collect();
        let blocking = || hooks.iter().filter(|hook| hook.mode == Mode::Blocking.name());
        let budget = blocking().next().map(|_| self.budget(point));
        let mut notes = Vec::new();
        if let Some(Budget { time, .. }) = &budget {
            let all = blocking().fold(Duration::ZERO, |sum, hook| sum.saturating_add(hook.at_most));
            if all > *time {
                notes.push(format!("in the worst case they would need {}: what is over is cut", written(all)));
            }
        }
        if point == Point::PRE_STOP && self.member.is_some_and(|member| member.own_pre_stop) && !hooks.is_empty() {
            notes.push("the pod's own preStop hook comes first and uses the same grace period".to_owned());
        }
        if hooks.iter().any(|hook| hook.mode == Mode::Background.name()) {
            let age = written(self.options.max_age);
            notes.push(format!(
                "no call waits for what is in the background; what cannot begin within {age} is abandoned"
            ));
        }
        At { point, budget, hooks, notes }
    }

    /// What all blocking hooks at a point have together.
    fn budget(&self, point: Point) -> Budget {
        let reserve = self.options.reserve;
        let grace = self.described.grace.unwrap_or(DEFAULT_GRACE).max(LEAST_GRACE);
        let (deadline, call) = match point.call {
            Call::RunPodSandbox => (2 * DEADLINE, point.call.name()),
            Call::StopContainer => (DEADLINE.saturating_add(grace), point.call.name()),
            _ => (DEADLINE, point.call.name()),
        };
        let left = deadline.saturating_sub(reserve);
        if point == Point::PRE_STOP && grace <= left {
            let because = match self.described.grace {
                None => "the grace period that Kubernetes gives a pod whose spec names none".to_owned(),
                Some(given) if given < LEAST_GRACE => {
                    "the least that the kubelet gives, whatever the grace period".into()
                }
                Some(_) => "the pod's grace period (terminationGracePeriodSeconds)".to_owned(),
            };
            return Budget { time: grace, because };
        }
        let used = if point.stage == Stage::Post { ", less what the runtime takes" } else { "" };
        let (deadline, reserve) = (written(deadline), written(reserve));
        let because = format!("the kubelet's {deadline} for {call} less the reserve of {reserve}{used}");
        Budget { time: left, because }
    }

    fn planned(&self, hook: &Hook) -> Planned {
        let mut notes = Vec::new();
        if let (Some(name), Some(container)) = (named_port(&hook.action), self.container())
            && container.port(name).is_none()
        {
            notes.push(format!("it will fail: the container has no port named `{name}`"));
        }
        if self.member.is_some_and(|member| member.kind == Kind::Init) && hook.point == Point::PRE_STOP {
            notes.push("only if it is stopped before it has ended".to_owned());
        }
        let failure_policy = match hook.failure_policy {
            FailurePolicy::Ignore => "Ignore",
            FailurePolicy::Fail => "Fail",
        };
        Planned {
            policy: hook.policy.to_string(),
            hook: hook.name.to_string(),
            handler: hook.action.name(),
            does: words(&hook.action),
            mode: hook.mode.name(),
            failure_policy,
            timeout: hook.timeout,
            attempts: hook.retries.attempts,
            at_most: at_most(hook.timeout, &hook.retries),
            notes,
        }
    }
}

/// The port in the pod that an action knows only by its name.
fn named_port(action: &Action) -> Option<&str> {
    let port = match action {
        Action::HttpGet(get) if get.host.is_none() => &get.port,
        Action::TcpSocket(socket) if socket.host.is_none() => &socket.port,
        _ => return None,
    };
    match port {
        PortRef::Name(name) => Some(name),
        PortRef::Number(_) => None,
    }
}

/// How long all attempts take if each ends at its timeout and each rest is the longest that it can be.
fn at_most(timeout: Duration, retries: &Retries) -> Duration {
    let mut total = timeout.saturating_mul(retries.attempts);
    let (mut rest, mut rests) = (retries.backoff.min(retries.max_backoff), retries.attempts.saturating_sub(1));
    while rests > 0 && rest < retries.max_backoff && !rest.is_zero() {
        total = total.saturating_add(rest);
        rest = rest.saturating_mul(2).min(retries.max_backoff);
        rests -= 1;
    }
    total.saturating_add(rest.saturating_mul(rests))
}

/// As people write it: `1m 55s`.
pub(super) fn written(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_case_counts_attempts_and_the_longest_rests() {
        let secs = Duration::from_secs;
        let most = |attempts, backoff, max| {
            at_most(secs(10), &Retries { attempts, backoff: secs(backoff), max_backoff: secs(max) }).as_secs()
        };
        assert_eq!(most(1, 1, 5), 10);
        assert_eq!(most(3, 1, 5), 30 + 1 + 2);
        assert_eq!(most(6, 1, 5), 60 + 1 + 2 + 4 + 5 + 5);
        assert_eq!(most(2, 9, 5), 20 + 5);
        assert!(most(u32::MAX, 1, 5) > u64::from(u32::MAX));
    }
}

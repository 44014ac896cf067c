//! `PreStop`: out of the grace period, before the runtime hears of the end.
//!
//! The rules are the kubelet's own (`kuberuntime_container.go`, `killContainer` and `executePreStopHook`): hooks and the container share
//! the grace period, what hooks have used is counted in whole seconds, and two seconds are left to the container if
//! that many were asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Interposer, Subject, Watched};
use crate::cri::patched;
use crate::cri::v1::StopContainerRequest;
use crate::hooks::engine::{Bound, Fired, Limits, Repeat};
use crate::inventory::State;
use crate::lifecycle::{Call, Event, LEAST_GRACE, Point};

/// Containers whose grace is remembered at most.
const CAP: usize = 10_000;

/// When a container was told to stop, and how long it was given. For a sandbox that is stopped before that was done.
#[derive(Default)]
pub(super) struct Graces(Mutex<HashMap<String, (Instant, Duration)>>);

impl Graces {
    fn all(&self) -> MutexGuard<'_, HashMap<String, (Instant, Duration)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container was told to stop so long `ago`.
    pub fn record(&self, container: &str, ago: Duration, grace: Duration) {
        let mut all = self.all();
        if all.len() >= CAP {
            all.clear();
        }
        let now = Instant::now();
        all.insert(container.to_owned(), (now.checked_sub(ago).unwrap_or(now), grace));
    }

    /// What is left of it; [`LEAST_GRACE`] if nothing is, or if it was never told. `None` if it was given none at all.
    pub fn left(&self, container: &str) -> Option<Duration> {
        let told = self.all().get(container).copied();
        let Some((at, grace)) = told else { return Some(LEAST_GRACE) };
        let left = grace.saturating_sub(at.elapsed());
        (!grace.is_zero()).then_some(if left.is_zero() { LEAST_GRACE } else { left })
    }

    /// The container is gone.
    pub fn forget(&self, container: &str) {
        self.all().remove(container);
    }
}

/// What is forwarded of `asked` when hooks have taken `used` of it.
fn remaining(asked: Duration, used: Duration) -> Duration {
    let left = asked.saturating_sub(Duration::from_secs(used.as_secs()));
    left.max(asked.min(LEAST_GRACE))
}

impl Interposer {
    /// Runs `PreStop`, and gives the request with what is left of the grace if that is less than was asked for.
    pub(super) async fn before_stop(
        &self,
        watched: &Watched,
        request: &StopContainerRequest,
        message: &Bytes,
    ) -> (Fired, Option<Bytes>) {
        let began = Instant::now();
        let asked = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
        let Some(container) = &watched.subject.container else { return (Fired::default(), None) };
        self.0.graces.record(&container.id, Duration::ZERO, asked);
        self.abandon_post_start(&watched.subject);
        if asked.is_zero() {
            return (Fired::default(), None);
        }
        let plan = self.pre_stop_plan(watched, true).await;
        let fired = self.pre_stop(watched, plan, asked).await;
        let left = remaining(asked, began.elapsed());
        if !fired.ran || left == asked {
            return (fired, None);
        }
        let timeout = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        tracing::debug!(container = container.id, ?asked, ?left, "hooks have used a part of the grace period");
        (fired, Some(patched(message, &StopContainerRequest { timeout, ..StopContainerRequest::default() })))
    }

    /// The `PreStop` hooks of a container, if it runs; where that cannot be known, `unsure` counts.
    pub(super) async fn pre_stop_plan(&self, watched: &Watched, unsure: bool) -> Vec<Arc<Bound>> {
        let plan = watched.plan(Point::PRE_STOP);
        let Some(container) = watched.subject.container.as_ref().filter(|_| !plan.is_empty()) else {
            return Vec::new();
        };
        match self.0.inventory.runtime().state(&container.id).await {
            Ok(Some(State::Running)) => plan,
            Ok(_) => Vec::new(),
            Err(why) => {
                // If it does not run, hooks find out; all of it is bounded by the grace.
                tracing::warn!(
                    container = container.id,
                    pre_stop = unsure,
                    "the runtime cannot say whether a container runs: {why}"
                );
                if unsure { plan } else { Vec::new() }
            }
        }
    }

    /// Whoever is told that the container has started is not told so after it ended.
    fn abandon_post_start(&self, subject: &Subject) {
        if let Some(container) = &subject.container {
            self.0.engine.abandon(&container.id, Point::POST_START, "the container is being stopped");
        }
    }

    /// Runs `PreStop` hooks within the grace and the call's deadline.
    pub(super) async fn pre_stop(&self, watched: &Watched, plan: Vec<Arc<Bound>>, grace: Duration) -> Fired {
        self.abandon_post_start(&watched.subject);
        if plan.is_empty() {
            return Fired::default();
        }
        // A grace beyond the end of time is none.
        let deadline = watched.deadline.into_iter().chain(Instant::now().checked_add(grace)).min();
        let event = Event { grace: Some(grace), ..watched.event(Point::PRE_STOP, self.0.engine.clock().now()) };
        self.0.engine.fire(event, plan, Limits { deadline, repeat: Repeat::Once }).await
    }

    /// A container, or a whole sandbox, is about to end without its containers having been stopped: what is left of `PreStop` runs first.
    /// Whether the call had to wait for it.
    pub(super) async fn unfinished_pre_stops(&self, watched: &Watched) -> bool {
        if !watched.active.uses(Point::PRE_STOP) {
            return false;
        }
        let subjects = match &watched.subject.container {
            Some(_) => vec![watched.subject.clone()],
            None => self.running_in(&watched.subject.pod.sandbox_id).await,
        };
        let stops = subjects.into_iter().map(|subject| async move {
            let member = Watched { subject, ..watched.clone() };
            let plan = member.plan(Point::PRE_STOP);
            let Some(container) = &member.subject.container else { return false };
            let Some(grace) = self.0.graces.left(&container.id) else { return false };
            if !self.0.engine.unfinished(&container.id, &plan, Point::PRE_STOP) {
                return false;
            }
            let plan = self.pre_stop_plan(&member, member.kind != Call::RemoveContainer).await;
            self.pre_stop(&member, plan, grace).await.ran
        });
        futures_util::future::join_all(stops).await.contains(&true)
    }

    async fn running_in(&self, sandbox: &str) -> Vec<Subject> {
        let running = self.0.inventory.runtime().running_in(sandbox).await.unwrap_or_else(|why| {
            tracing::warn!(
                sandbox,
                "a sandbox stops without PreStop, for the runtime cannot say what runs in it: {why}"
            );
            Vec::new()
        });
        let subjects = running.iter().map(|container| self.member(container));
        futures_util::future::join_all(subjects).await.into_iter().filter_map(|found| found.ok().flatten()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_and_container_share_the_grace_in_whole_seconds() {
        let left = |asked, used| remaining(Duration::from_secs(asked), Duration::from_millis(used)).as_secs();
        assert_eq!(left(10, 3_040), 7);
        assert_eq!(left(10, 900), 10, "less than a second is nothing");
        assert_eq!(left(10, 10_010), 2, "the container is left two seconds");
        assert_eq!(left(1, 1_010), 1, "but no more than was asked for");
        assert_eq!(left(30, 0), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_a_grace_shrinks_and_is_never_nothing() {
        let graces = Graces::default();
        assert_eq!(graces.left("c"), Some(LEAST_GRACE), "never told to stop");
        graces.record("c", Duration::from_secs(3), Duration::from_secs(30));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(graces.left("c"), Some(Duration::from_secs(18)));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(graces.left("c"), Some(LEAST_GRACE));
        graces.record("c", Duration::ZERO, Duration::ZERO);
        assert_eq!(graces.left("c"), None, "told to stop at once");
    }
}

//! The set of policies that is in force, ready to run.

use std::sync::Arc;

use super::HookKey;
use super::breaker::Breaker;
use crate::hooks::handler::{Failing, Failure, Handler};
use crate::hooks::metrics::Series;
use crate::hooks::policy::{FailurePolicy, Hook, PolicySet};
use crate::hooks::{Boxed, handler};
use crate::lifecycle::{Container, Pod, Point};

/// A pod with this label set to `true` is left alone, where the node's config allows that.
pub const OPT_OUT: &str = "crihook.dev/ignore";

/// A hook with what it takes to run it.
pub struct Bound {
    /// What the policy says.
    pub hook: Arc<Hook>,
    pub(super) key: HookKey,
    pub(super) handler: Box<dyn Handler>,
    pub(super) breaker: Option<Arc<Breaker>>,
    pub(super) series: Arc<Series>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Bound").field(&self.hook.policy).field(&self.hook.name).finish()
    }
}

/// A whole set of policies. A call holds on to one for its whole life, so that it never sees half of another.
pub struct Active {
    set: PolicySet,
    allow_opt_out: bool,
    /// By [`Point::index`]: the policies with hooks there, by their place in the set, with those hooks.
    points: [Vec<(usize, Vec<Arc<Bound>>)>; 16],
}

impl Active {
    /// `bind` makes a hook ready.
    pub(super) fn new(set: PolicySet, allow_opt_out: bool, mut bind: impl FnMut(&Arc<Hook>) -> Arc<Bound>) -> Self {
        let mut points: [Vec<(usize, Vec<Arc<Bound>>)>; 16] = Default::default();
        for (place, policy) in set.policies.iter().enumerate() {
            for hook in &policy.hooks {
                let there = &mut points[hook.point.index()];
                if there.last().is_none_or(|(last, _)| *last != place) {
                    there.push((place, Vec::new()));
                }
                if let Some((_, hooks)) = there.last_mut() {
                    hooks.push(bind(hook));
                }
            }
        }
        Self { set, allow_opt_out, points }
    }

    /// Whether any hook is bound to `point`: if not, nothing need be known of a call.
    #[must_use]
    pub fn uses(&self, point: Point) -> bool {
        !self.points[point.index()].is_empty()
    }

    /// The points that some hook is bound to.
    pub fn points(&self) -> impl Iterator<Item = Point> + '_ {
        Point::ALL.into_iter().filter(|point| self.uses(*point))
    }

    /// The hooks that `point` has for this pod and container, in the order in which they run.
    #[must_use]
    pub fn plan(&self, point: Point, pod: &Pod, container: Option<&Container>) -> Vec<Arc<Bound>> {
        if self.allow_opt_out && pod.labels.get(OPT_OUT).is_some_and(|value| value == "true") {
            return Vec::new();
        }
        let matching = self.points[point.index()].iter().filter_map(|(place, hooks)| {
            let selector = &self.set.policies[*place].selector;
            selector.matches(pod, container).then_some((selector, hooks))
        });
        let runs = matching.flat_map(|(selector, hooks)| {
            let may_fail = selector.may_fail_in(&pod.namespace);
            hooks.iter().filter(move |bound| may_fail || bound.hook.failure_policy != FailurePolicy::Fail)
        });
        runs.cloned().collect()
    }

    /// All of its hooks: by point, then in the order of the policies.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Bound>> {
        self.points.iter().flatten().flat_map(|(_, hooks)| hooks)
    }

    /// The hook of that name in the policy of that name, if it is bound to `point`.
    pub(super) fn bound(&self, policy: &str, hook: &str, point: Point) -> Option<Arc<Bound>> {
        let there = self.points[point.index()].iter().flat_map(|(_, hooks)| hooks);
        there.into_iter().find(|bound| *bound.hook.policy == *policy && *bound.hook.name == *hook).cloned()
    }

    /// What it was made from.
    #[must_use]
    pub fn set(&self) -> &PolicySet {
        &self.set
    }
}

/// Stands in for a handler that could not be set up, so that its hook fails and says why.
pub(super) struct Unbuilt(pub(super) String);

impl Handler for Unbuilt {
    fn attempt(&self, _delivery: handler::Delivery) -> Boxed<'_, Result<handler::Evidence, Failure>> {
        let message = format!("cannot be set up: {}", self.0);
        let evidence = handler::Evidence::default();
        Box::pin(std::future::ready(Err(Failure { kind: Failing::Failed, message, evidence })))
    }
}

//! Which calls must be seen for the hooks that there are.
//!
//! A point needs its own call. Beyond that, a few calls are watched for what they tell: who a container is (`CreateContainer`,
//! `RunPodSandbox`), that it is gone (`RemoveContainer`, `RemovePodSandbox`), that it ends without having been stopped
//! (`StopPodSandbox` and `RemoveContainer`, for `PreStop`), that its `PostStart` has come too late (`StopContainer`).

use std::sync::LazyLock;

use crate::cri::{Method, Service};
use crate::lifecycle::{Call, Point};

/// The call's bit in a set of calls.
pub(super) const fn bit(call: Call) -> u8 {
    1 << call as u8
}

/// The set of calls to watch, given which points have hooks.
pub(super) fn calls(uses: impl Fn(Point) -> bool) -> u8 {
    let with_hooks = |call: &Call| uses(Point::pre(*call)) || uses(Point::post(*call));
    let set = |calls: &[Call]| calls.iter().fold(0, |set, call| set | bit(*call));
    let own: Vec<Call> = Call::ALL.into_iter().filter(with_hooks).collect();
    let mut watched = set(&own);
    if !own.is_empty() {
        watched |= set(&[Call::RunPodSandbox, Call::RemovePodSandbox]);
    }
    if own.iter().any(|call| call.is_container()) {
        watched |= set(&[Call::CreateContainer, Call::RemoveContainer]);
    }
    if uses(Point::PRE_STOP) {
        watched |= set(&[Call::StopPodSandbox, Call::RemoveContainer]);
    }
    if uses(Point::POST_START) {
        watched |= bit(Call::StopContainer);
    }
    watched
}

/// The lifecycle call that this method is.
pub(super) fn kind(method: Method) -> Option<Call> {
    static KINDS: LazyLock<[Option<Call>; Method::COUNT]> = LazyLock::new(|| {
        let mut kinds = [None; Method::COUNT];
        for method in Method::all().filter(|method| method.service() == Service::Runtime) {
            kinds[method.index()] = Call::ALL.into_iter().find(|call| call.name() == method.name());
        }
        kinds
    });
    KINDS[method.index()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(points: &[&str]) -> Vec<&'static str> {
        let points: Vec<Point> = points.iter().map(|name| name.parse().unwrap()).collect();
        let set = calls(|point| points.contains(&point));
        Call::ALL.into_iter().filter(|call| set & bit(*call) != 0).map(Call::name).collect()
    }

    #[test]
    fn without_hooks_nothing_is_watched() {
        assert_eq!(watched(&[]), Vec::<&str>::new());
    }

    #[test]
    fn a_call_is_watched_for_its_own_hooks_or_for_what_it_tells() {
        assert_eq!(watched(&["PostRunPodSandbox"]), ["RunPodSandbox", "RemovePodSandbox"]);
        let create = "CreateContainer";
        let update = "UpdateContainerResources";
        assert_eq!(
            watched(&["PreUpdateContainerResources"]),
            ["RunPodSandbox", create, update, "RemoveContainer", "RemovePodSandbox"]
        );
        assert!(watched(&["PreStop"]).contains(&"StopPodSandbox"));
        assert!(!watched(&["PostStopContainer"]).contains(&"StopPodSandbox"));
        assert!(watched(&["PostStart"]).contains(&"StopContainer"));
    }

    #[test]
    fn every_lifecycle_call_has_its_method() {
        let methods = Method::all().filter(|method| method.is_lifecycle());
        assert_eq!(methods.filter_map(kind).collect::<std::collections::BTreeSet<_>>().len(), 8);
        assert_eq!(kind(Method::from_path("/runtime.v1.RuntimeService/Version")), None);
    }
}

//! Which `ExecSync` is a hook of the pod itself.
//!
//! CRI does not say why a command is run. The kubelet runs the exec hooks of a pod's `lifecycle` without a limit of time (0), while its
//! probes have at least a second, and `kubectl exec` is another call, `Exec`. What is left to tell apart is `crictl exec -s`, which has no limit unless it
//! is given one:
//!
//! - `PreStop` is known by its command, which the kubelet writes into an annotation of the container (`kuberuntime/labels.go`).
//! - `PostStart` is written down nowhere, but the kubelet runs it right after `StartContainer` and over the same connection; crictl has one of
//!   its own.

use std::time::{Duration, Instant};

use crate::lifecycle::{Container, Point};

/// A container's annotation: the pod's preStop hook, a `LifecycleHandler` as JSON.
const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
/// How soon after the container's start `PostStart` begins at the latest.
const SOON: Duration = Duration::from_secs(10);

/// A container was started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Started {
    /// By the client of this connection.
    pub connection: u64,
    /// When the runtime had done it.
    pub at: Instant,
    /// Whether something was run in it without a limit of time since, by this client.
    pub followed: bool,
}

impl Started {
    /// Something is run in it, without a limit of time. Whether that is where a `PostStart` has its place.
    pub fn is_followed(&mut self, connection: u64, at: Instant) -> bool {
        let soon = at.checked_duration_since(self.at).is_some_and(|after| after < SOON);
        connection == self.connection && soon && !std::mem::replace(&mut self.followed, true)
    }
}

/// Which hook of its pod a command in the container is, run without a limit of time. `after_start`: it has the place of a `PostStart`. `None`: it
/// is no hook.
pub(super) fn hook(command: &[String], after_start: bool, container: &Container) -> Option<Point> {
    match pre_stop(container) {
        Some(pre_stop) if pre_stop == command => Some(Point::PRE_STOP),
        _ => after_start.then_some(Point::POST_START),
    }
}

/// The command of the container's preStop hook, if it has one that is a command.
fn pre_stop(container: &Container) -> Option<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Handler {
        exec: Option<Exec>,
    }
    #[derive(serde::Deserialize)]
    struct Exec {
        #[serde(default)]
        command: Vec<String>,
    }
    serde_json::from_str::<Handler>(container.annotations.get(PRE_STOP)?).ok()?.exec.map(|exec| exec.command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(handler: &str) -> Container {
        Container { annotations: [(PRE_STOP.into(), handler.into())].into(), ..Container::default() }
    }

    fn command(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pre_stop_is_known_by_its_command() {
        let drained = container(r#"{"exec":{"command":["/bin/drain","--all"]}}"#);
        assert_eq!(hook(&command(&["/bin/drain", "--all"]), false, &drained), Some(Point::PRE_STOP));
        assert_eq!(hook(&command(&["/bin/drain"]), false, &drained), None, "somebody's own command");
        for other in [r#"{"httpGet":{"path":"/","port":80}}"#, "{", "[]", r#"{"exec":{}}"#] {
            assert_eq!(hook(&command(&["/bin/drain"]), false, &container(other)), None, "{other}");
        }
        assert_eq!(hook(&command(&["/bin/drain"]), false, &Container::default()), None);
    }

    #[test]
    fn post_start_is_known_by_its_place() {
        let began = Instant::now();
        let started = || Started { connection: 1, at: began, followed: false };
        let after = |millis| began + Duration::from_millis(millis);
        let mut kubelet = started();
        assert!(!kubelet.is_followed(2, after(1)), "crictl exec -s, from its own connection");
        assert!(kubelet.is_followed(1, after(5)));
        assert!(!kubelet.is_followed(1, after(6)), "the second one is something else");
        assert!(!started().is_followed(1, after(10_000)), "too late");
        let early = Started { at: after(5), ..started() };
        assert!(!Started { ..early }.is_followed(1, began), "it was run before the container had started");
        assert_eq!(hook(&command(&["/bin/warm"]), true, &Container::default()), Some(Point::POST_START));
    }

    #[test]
    fn a_pod_that_is_deleted_as_soon_as_it_has_started_has_its_pre_stop() {
        let drained = container(r#"{"exec":{"command":["/bin/drain"]}}"#);
        assert_eq!(hook(&command(&["/bin/drain"]), true, &drained), Some(Point::PRE_STOP));
    }
}

//! How a container's end went: from the first word of it to the runtime's answer that it is done.

use std::time::{Duration, Instant, SystemTime};

use crate::inventory::Exit;

/// What a shell reports of a process that SIGKILL ended.
const KILLED: i32 = 128 + 9;

/// How a container came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It went when it was told to.
    Exited,
    /// The grace was used up, and it was killed.
    Killed,
    /// The runtime cannot say.
    Unknown,
}

impl End {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Exited, Self::Killed, Self::Unknown];

    /// As labels spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Killed => "killed",
            Self::Unknown => "unknown",
        }
    }
}

/// A call of `StopContainer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stop {
    /// When it was first seen.
    pub at: Instant,
    /// The grace that it gives.
    pub allowed: Duration,
}

/// A container's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Termination {
    pub took: Duration,
    /// Of the first stop: a second one comes when somebody has lost patience.
    pub allowed: Duration,
    pub end: End,
}

/// What came of `stop`, which was answered at `answered`. `first` is the first stop of this container, and `exit` how the runtime says it has ended; `told` is
/// `first`'s time on the runtime's clock. `None`: it had ended before anybody wanted it to.
pub(super) fn judge(
    first: Stop,
    stop: Stop,
    answered: Instant,
    exit: Option<Exit>,
    told: SystemTime,
) -> Option<Termination> {
    let used_up = answered.saturating_duration_since(stop.at) >= stop.allowed;
    let end = match exit {
        Some(exit) if exit.at < told => return None,
        Some(exit) if exit.code == KILLED && used_up => End::Killed,
        Some(_) => End::Exited,
        None => End::Unknown,
    };
    Some(Termination { took: answered.saturating_duration_since(first.at), allowed: first.allowed, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn judged(exit: Option<(i32, u32)>, took: u32) -> Option<(End, Duration)> {
        let (at, told) = (Instant::now(), SystemTime::now());
        let stop = Stop { at, allowed: 10 * SECOND };
        // In seconds from one before the stop on.
        let exit = exit.map(|(code, after)| Exit { code, at: told - SECOND + after * SECOND });
        judge(stop, stop, at + took * SECOND, exit, told).map(|judged| (judged.end, judged.took))
    }

    #[test]
    fn a_container_is_killed_only_when_its_grace_was_used_up() {
        assert_eq!(judged(Some((0, 3)), 2), Some((End::Exited, 2 * SECOND)));
        assert_eq!(judged(Some((137, 11)), 10), Some((End::Killed, 10 * SECOND)));
        assert_eq!(judged(Some((137, 3)), 2), Some((End::Exited, 2 * SECOND)), "somebody else has killed it");
        assert_eq!(judged(Some((0, 11)), 10), Some((End::Exited, 10 * SECOND)), "at the last moment");
        assert_eq!(judged(None, 2), Some((End::Unknown, 2 * SECOND)));
    }

    #[test]
    fn one_that_had_exited_before_was_not_terminated() {
        assert_eq!(judged(Some((0, 0)), 2), None);
    }

    #[test]
    fn a_second_stop_with_less_grace_ends_what_the_first_has_begun() {
        let (at, told) = (Instant::now(), SystemTime::now());
        let first = Stop { at, allowed: 30 * SECOND };
        let second = Stop { at: at + 5 * SECOND, allowed: 2 * SECOND };
        let exit = Some(Exit { code: 137, at: told + 7 * SECOND });
        let judged = judge(first, second, at + 7 * SECOND, exit, told);
        assert_eq!(judged, Some(Termination { took: 7 * SECOND, allowed: 30 * SECOND, end: End::Killed }));
    }
}

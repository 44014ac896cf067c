//! Where the time goes when a pod starts.
//!
//! ```text
//!   RunPodSandbox │ PullImage │ CreateContainer │ StartContainer │ PostStart │ …  PullImage … │ StartContainer │ … 30 s
//!   ├───────────── counted, up to the end of the latest StartContainer ──────────────────────────────────────┤ ▲
//!                                                                                           said once, here ───┘
//! ```
//!
//! CRI does not say how many containers a pod has. So its start is over when one container at least has been started, nothing has been heard of it
//! for a while, and no call of it is under way; or when it is told to stop. Containers that are started again are not part of it.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::proxy::Finished;

/// Pods that are starting, at most; of more, those that were heard of the longest ago are forgotten.
const CAP: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// How long nothing is heard of a pod that has started.
const QUIET: Duration = Duration::from_secs(30);
/// Containers of one pod that are looked at.
const MEMBERS: usize = 256;

/// A part of a pod's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// `RunPodSandbox`, calls that failed included; so it is with the others.
    Sandbox,
    /// `PullImage`.
    Image,
    /// `CreateContainer`.
    Create,
    /// `StartContainer`.
    Start,
    /// Waiting for hooks: crihook's, and the pod's own `PostStart`.
    Hooks,
    /// Between the calls.
    Other,
    /// From the first call to the end of the last `StartContainer`.
    Total,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Sandbox, Self::Image, Self::Create, Self::Start, Self::Hooks, Self::Other, Self::Total];

    /// As labels spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Image => "image",
            Self::Create => "create",
            Self::Start => "start",
            Self::Hooks => "hooks",
            Self::Other => "other",
            Self::Total => "total",
        }
    }
}

/// How long each phase took, by [`Phase::ALL`]'s order.
pub(super) type Phases = [Duration; Phase::ALL.len()];

/// A pod that starts.
struct Starting {
    began: Instant,
    sandbox: Option<String>,
    /// Up to the latest start of a container.
    counted: Phases,
    /// Since then.
    since: Phases,
    /// When that was.
    started: Option<Instant>,
    /// Those that have been started.
    members: Vec<String>,
    under_way: usize,
    heard: Instant,
}

impl Starting {
    fn new(began: Instant) -> Self {
        let (counted, since) = Default::default();
        let (sandbox, started, members) = (None, None, Vec::new());
        Self { began, sandbox, counted, since, started, members, under_way: 0, heard: began }
    }

    fn spend(&mut self, phase: Phase, call: &Finished) {
        self.since[phase as usize] += call.duration.saturating_sub(call.shares.hooks);
        self.since[Phase::Hooks as usize] += call.shares.hooks;
        self.heard = self.heard.max(call.begun + call.duration);
    }

    fn start(&mut self, member: &str, at: Instant) {
        self.started = Some(at);
        self.members.push(member.to_owned());
        for (counted, since) in self.counted.iter_mut().zip(std::mem::take(&mut self.since)) {
            *counted += since;
        }
    }

    /// `None` if nothing of it has been started.
    fn phases(&self) -> Option<Phases> {
        let total = self.started?.saturating_duration_since(self.began);
        let mut phases = self.counted;
        phases[Phase::Other as usize] = total.saturating_sub(phases.iter().sum());
        phases[Phase::Total as usize] = total;
        Some(phases)
    }
}

/// The pods that start, by their uid.
pub(super) struct Startups(LruCache<String, Starting>);

impl Startups {
    pub fn new() -> Self {
        Self(LruCache::new(CAP))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `RunPodSandbox` has ended; `sandbox` is the id of what it has made. Gives the phases of another sandbox of this pod, if its
    /// start ends with that.
    pub fn sandbox(&mut self, pod: &str, sandbox: Option<String>, call: &Finished) -> Option<Phases> {
        if pod.is_empty() {
            // By this name, nobody could tell it from others.
            return None;
        }
        let other = self.0.peek(pod).is_some_and(|starting| starting.sandbox.is_some());
        let before = other.then(|| self.over(pod)).flatten();
        let starting = self.0.get_or_insert_mut(pod.to_owned(), || Starting::new(call.begun));
        starting.spend(Phase::Sandbox, call);
        starting.sandbox = sandbox;
        before
    }

    /// A call for the pod begins, for `member` if it makes that container. False if it is not part of a start: [`Self::ended`] is not to be told of it.
    pub fn begun(&mut self, pod: &str, member: Option<&str>) -> bool {
        let Some(starting) = self.0.get_mut(pod) else { return false };
        let again = |member: &str| starting.members.len() >= MEMBERS || starting.members.iter().any(|m| m == member);
        if member.is_some_and(again) {
            return false;
        }
        starting.under_way += 1;
        true
    }

    /// A call for the pod is over that was one of its start; so long it was in `phase`. `started` is the container that runs now.
    pub fn ended(&mut self, pod: &str, phase: Phase, call: &Finished, started: Option<&str>) {
        let Some(starting) = self.0.get_mut(pod) else { return };
        starting.under_way = starting.under_way.saturating_sub(1);
        starting.spend(phase, call);
        if let Some(member) = started {
            starting.start(member, call.begun + call.duration);
        }
    }

    /// Nobody knows what became of a call for the pod.
    pub fn lost(&mut self, pod: &str) {
        if let Some(starting) = self.0.get_mut(pod) {
            starting.under_way = starting.under_way.saturating_sub(1);
        }
    }

    /// The pod's start is over. Gives its phases, if it was starting and anything of it has been started.
    pub fn over(&mut self, pod: &str) -> Option<Phases> {
        self.0.pop(pod)?.phases()
    }

    /// As `over`, for the pod of this sandbox.
    pub fn sandbox_over(&mut self, sandbox: &str) -> Option<Phases> {
        let (pod, _) = self.0.iter().find(|(_, starting)| starting.sandbox.as_deref() == Some(sandbox))?;
        let pod = pod.clone();
        self.over(&pod)
    }

    /// The phases of those that have been quiet long enough at `now`.
    pub fn quiet(&mut self, now: Instant) -> Vec<Phases> {
        let is_over = |starting: &Starting| {
            starting.started.is_some()
                && starting.under_way == 0
                && now.saturating_duration_since(starting.heard) >= QUIET
        };
        let over: Vec<String> =
            self.0.iter().filter(|(_, starting)| is_over(starting)).map(|(pod, _)| pod.clone()).collect();
        over.iter().filter_map(|pod| self.over(pod)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::{Code, Method};
    use crate::proxy::Shares;

    /// Times are in milliseconds from the beginning on.
    struct Story {
        began: Instant,
        startups: Startups,
    }

    impl Story {
        fn new() -> Self {
            Self { began: Instant::now(), startups: Startups::new() }
        }

        fn at(&self, millis: u64) -> Instant {
            self.began + Duration::from_millis(millis)
        }

        fn call(&self, from: u64, to: u64, hooks: u64) -> Finished {
            let shares = Shares { hooks: Duration::from_millis(hooks), ..Shares::default() };
            let (begun, duration) = (self.at(from), Duration::from_millis(to - from));
            let method = Method::from_path("");
            Finished { method, code: Code::OK, begun, handed_on: None, duration, shares }
        }

        fn sandbox(&mut self, id: Option<&str>, from: u64, to: u64) -> Option<Phases> {
            let call = self.call(from, to, 0);
            self.startups.sandbox("p", id.map(str::to_owned), &call)
        }

        fn part(&mut self, phase: Phase, from: u64, to: u64, started: Option<&str>) {
            assert!(self.startups.begun("p", None));
            let call = self.call(from, to, 0);
            self.startups.ended("p", phase, &call, started);
        }

        fn quiet(&mut self, millis: u64) -> Vec<[u128; 7]> {
            let now = self.at(millis);
            self.startups.quiet(now).iter().map(|phases| phases.map(|phase| phase.as_millis())).collect()
        }
    }

    #[test]
    fn the_phases_add_up_to_what_lies_between_the_first_call_and_the_last_start() {
        let mut story = Story::new();
        story.sandbox(Some("s"), 0, 100);
        story.part(Phase::Image, 150, 1_150, None);
        story.part(Phase::Create, 1_150, 1_180, None);
        story.part(Phase::Start, 1_200, 1_250, Some("main"));
        story.part(Phase::Hooks, 1_250, 1_550, None);
        story.part(Phase::Create, 1_550, 1_560, None);
        let call = story.call(1_560, 1_600, 15);
        assert!(story.startups.begun("p", None));
        story.startups.ended("p", Phase::Start, &call, Some("sidecar"));
        story.part(Phase::Hooks, 1_600, 2_600, None);
        assert!(story.quiet(32_599).is_empty(), "it may go on");
        let phases = story.quiet(32_600);
        assert_eq!(phases, [[100, 1_000, 40, 75, 315, 70, 1_600]], "what follows the last start is not counted");
        assert!(story.startups.is_empty() && story.quiet(99_999).is_empty(), "once");
    }

    #[test]
    fn a_call_that_takes_long_is_no_silence() {
        let mut story = Story::new();
        story.sandbox(Some("s"), 0, 100);
        assert!(story.quiet(500_000).is_empty(), "nothing has been started yet");
        story.part(Phase::Start, 500_000, 500_100, Some("init"));
        assert!(story.startups.begun("p", None), "a pull begins");
        assert!(story.quiet(700_000).is_empty(), "and goes on");
        let pull = story.call(501_000, 700_000, 0);
        story.startups.ended("p", Phase::Image, &pull, None);
        story.part(Phase::Start, 701_000, 701_100, Some("main"));
        assert_eq!(story.quiet(740_000)[0][Phase::Image as usize], 199_000);
    }

    #[test]
    fn sandboxes_that_failed_are_part_of_the_start_and_another_sandbox_is_another_start() {
        let mut story = Story::new();
        assert_eq!(story.sandbox(None, 0, 1_000), None);
        assert_eq!(story.sandbox(Some("s1"), 10_000, 10_500), None);
        story.part(Phase::Start, 10_500, 10_600, Some("main"));
        let before = story.sandbox(Some("s2"), 20_000, 20_100).expect("the first one has started");
        let before = before.map(|phase| phase.as_millis());
        assert_eq!(before, [1_500, 0, 0, 100, 0, 9_000, 10_600]);
        story.part(Phase::Start, 20_100, 20_300, Some("main"));
        assert_eq!(story.startups.sandbox_over("s1"), None);
        let after = story.startups.sandbox_over("s2").expect("it has started");
        assert_eq!(after[Phase::Total as usize].as_millis(), 300);
    }

    #[test]
    fn a_container_that_is_started_again_is_not_part_of_it() {
        let mut story = Story::new();
        let nameless = story.call(0, 100, 0);
        assert!(story.startups.sandbox("", Some("s0".into()), &nameless).is_none() && story.startups.is_empty());
        story.sandbox(Some("s"), 0, 100);
        story.part(Phase::Start, 100, 200, Some("main"));
        assert!(!story.startups.begun("p", Some("main")) && story.startups.begun("p", Some("sidecar")));
        story.startups.lost("p");
        assert!(!story.startups.begun("unknown", None));
        assert_eq!(story.quiet(40_000)[0][Phase::Total as usize], 200);
    }

    #[test]
    fn more_pods_than_are_remembered_push_out_the_oldest() {
        let mut story = Story::new();
        let call = story.call(0, 1, 0);
        for n in 0..=CAP.get() {
            story.startups.sandbox(&n.to_string(), Some(format!("s{n}")), &call);
        }
        assert_eq!(story.startups.0.len(), CAP.get());
        assert!(!story.startups.begun("0", None) && story.startups.begun("1", None));
    }
}

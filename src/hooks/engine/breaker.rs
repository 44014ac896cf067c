//! The breaker of an endpoint, shared by all hooks that go to it.
//!
//! ```text
//!              5 failures in a row
//!   closed ──────────────────────────▶ open ──┐ one probe per 10 s
//!      ▲                                │ ▲───┘
//!      └────────────────────────────────┘
//!                 any answer
//! ```
//!
//! A refusal is an answer: its server is well. A probe is an attempt like any other, of a run that was there anyway; that a
//! probe is under way keeps none else from being due, so a hanging one cannot hold the breaker open.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::locked;
use crate::hooks::metrics::Series;

/// Failures in a row that open it.
const FAILURES: u32 = 5;
/// Between the beginnings of two probes.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// Bytes that are kept of a failure's words.
const WORDS: usize = 512;

/// Whether an attempt may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may.
    Go,
    /// It may not.
    Open {
        /// When a probe is due.
        until: Instant,
        /// What happened.
        why: String,
    },
}

/// The decision, without a clock or a lock.
#[derive(Debug, Default)]
struct State {
    /// In a row.
    failures: u32,
    last: String,
    /// While open, when the next probe is due.
    probe: Option<Instant>,
    /// While open, since when.
    opened: Option<Instant>,
}

impl State {
    fn look(&self, now: Instant) -> Admission {
        match self.probe {
            Some(until) if now < until => Admission::Open { until, why: format!("breaker open: {}", self.why()) },
            _ => Admission::Go,
        }
    }

    fn why(&self) -> String {
        format!("{} failures in a row, last: {}", self.failures, self.last)
    }

    /// As [`State::look`], and the attempt begins: while open, it is the probe.
    fn admit(&mut self, now: Instant) -> Admission {
        let admission = self.look(now);
        if admission == Admission::Go && self.probe.is_some() {
            self.probe = Some(now + PROBE_EVERY);
        }
        admission
    }

    /// Whether that closed it.
    fn answered(&mut self) -> bool {
        self.failures = 0;
        self.last.clear();
        self.opened = None;
        self.probe.take().is_some()
    }

    /// Whether that opened it.
    fn failed(&mut self, now: Instant, why: &str) -> bool {
        self.failures = self.failures.saturating_add(1);
        why[..why.floor_char_boundary(WORDS)].clone_into(&mut self.last);
        let opens = self.probe.is_none() && self.failures >= FAILURES;
        if opens {
            self.opened = Some(now);
            self.probe = Some(now + PROBE_EVERY);
        }
        opens
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Breaker {
    state: Mutex<State>,
    changed: Notify,
    /// Where it is shown whether it is open.
    shown: Mutex<Vec<Weak<Series>>>,
}

impl Breaker {
    /// From now on `series` says whether it is open.
    pub(super) fn show(&self, series: &Arc<Series>) {
        let mut shown = locked(&self.shown);
        shown.retain(|known| known.strong_count() > 0 && !std::ptr::eq(known.as_ptr(), Arc::as_ptr(series)));
        shown.push(Arc::downgrade(series));
        series.breaker(locked(&self.state).probe.is_some());
    }

    /// Whether an attempt could begin now.
    pub(super) fn look(&self) -> Admission {
        locked(&self.state).look(Instant::now())
    }

    /// For how long it has been open, and what happened; `None` while it is closed.
    pub(super) fn open(&self) -> Option<(Duration, String)> {
        let state = locked(&self.state);
        state.opened.map(|opened| (opened.elapsed(), state.why()))
    }

    /// Lets an attempt begin, or not. What comes of it must be said, unless it says nothing of the endpoint.
    pub(super) fn admit(&self) -> Admission {
        locked(&self.state).admit(Instant::now())
    }

    /// Waits until an attempt could begin: it closed, or a probe is due.
    pub(super) async fn ready(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.look() {
                Admission::Go => return,
                Admission::Open { until, .. } => tokio::select! {
                    () = changed => {}
                    () = sleep_until(until) => {}
                },
            }
        }
    }

    /// The endpoint answered. Whether that closed the breaker.
    pub(super) fn answered(&self) -> bool {
        let closed = locked(&self.state).answered();
        if closed {
            self.tell(false);
        }
        closed
    }

    /// The endpoint did not answer, or wrongly. Whether that opened the breaker.
    pub(super) fn failed(&self, why: &str) -> bool {
        let opened = locked(&self.state).failed(Instant::now(), why);
        if opened {
            self.tell(true);
        }
        opened
    }

    fn tell(&self, open: bool) {
        for series in locked(&self.shown).iter().filter_map(Weak::upgrade) {
            series.breaker(open);
        }
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_row_open_it_and_an_answer_closes_it() {
        let (mut state, now) = (State::default(), Instant::now());
        for _ in 0..4 {
            assert!(!state.failed(now, "refused"));
        }
        assert!(!state.answered(), "it was not open");
        for n in 1..=5 {
            assert_eq!(state.admit(now), Admission::Go);
            assert_eq!(state.failed(now, "refused"), n == 5);
        }
        let Admission::Open { until, why } = state.admit(now) else { panic!("closed") };
        assert_eq!(until, now + PROBE_EVERY);
        assert_eq!(why, "breaker open: 5 failures in a row, last: refused");
        assert!(state.answered());
        assert_eq!(state.admit(now), Admission::Go);
    }

    #[tokio::test(start_paused = true)]
    async fn while_open_one_probe_begins_every_ten_seconds_even_if_none_ends() {
        let (mut state, now) = (State::default(), Instant::now());
        for _ in 0..5 {
            state.failed(now, "hangs");
        }
        let begun =
            (0..=60).filter(|n| state.admit(now + Duration::from_secs(*n)) == Admission::Go).collect::<Vec<_>>();
        assert_eq!(begun, [10, 20, 30, 40, 50, 60]);
    }

    proptest! {
        #[test]
        fn it_is_open_exactly_after_five_failures_without_an_answer(events in proptest::collection::vec(any::<bool>(), 0..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let (mut state, now) = (State::default(), Instant::now());
                let mut row = 0;
                for answered in events {
                    if answered { state.answered(); row = 0; } else { state.failed(now, "x"); row += 1; }
                    prop_assert_eq!(state.look(now) == Admission::Go, row < 5);
                }
                Ok(())
            })?;
        }
    }
}

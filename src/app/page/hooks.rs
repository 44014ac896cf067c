//! What became of hooks.

use std::collections::BTreeMap;

use super::histogram::Histogram;
use super::snapshot::{Labels, Snapshot};
use super::words::{self, count};

const RUNS: &str = "crihook_hook_runs_total";
const DURATION: &str = "crihook_hook_run_duration_seconds";
const BREAKER: &str = "crihook_hook_breaker_open";

/// A hook and its runs of a time.
#[derive(Debug)]
pub struct Hook {
    pub policy: String,
    pub name: String,
    pub point: String,
    pub handler: String,
    pub succeeded: String,
    /// Zero of them is nothing.
    pub failed: Option<String>,
    pub timed_out: Option<String>,
    /// Cancelled, abandoned, and what else there may be.
    pub other: Option<String>,
    pub p50: String,
    pub p99: String,
    /// Its server is left alone.
    pub breaker: bool,
    /// How many runs went wrong.
    bad: u64,
}

#[derive(Default)]
struct Sums {
    succeeded: u64,
    failed: u64,
    timed_out: u64,
    other: u64,
    took: Histogram,
}

/// All hooks: those with an open breaker first, then those that go wrong, then by name.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of runs")]
pub fn hooks(came: &Snapshot) -> Vec<Hook> {
    let mut all: BTreeMap<[String; 4], Sums> = BTreeMap::new();
    let of = |labels: &Labels| ["policy", "hook", "point", "handler"].map(|name| labels.get(name).to_owned());
    for (labels, runs) in came.numbers(RUNS) {
        let sums = all.entry(of(labels)).or_default();
        *match labels.get("outcome") {
            "succeeded" => &mut sums.succeeded,
            "failed" => &mut sums.failed,
            "timed_out" => &mut sums.timed_out,
            _ => &mut sums.other,
        } += runs as u64;
    }
    for (labels, took) in came.histograms(DURATION) {
        all.entry(of(labels)).or_default().took = took.clone();
    }
    let open: Vec<&Labels> = came.numbers(BREAKER).filter(|(_, open)| *open > 0.0).map(|(labels, _)| labels).collect();
    let open = |policy: &str, hook: &str| open.iter().any(|of| of.get("policy") == policy && of.get("hook") == hook);
    let mut hooks: Vec<Hook> = all
        .into_iter()
        .map(|([policy, name, point, handler], sums)| {
            let some = |number: u64| (number > 0).then(|| count(number));
            let quantile = |q| words::quantile(sums.took.quantile(q));
            Hook {
                succeeded: count(sums.succeeded),
                failed: some(sums.failed),
                timed_out: some(sums.timed_out),
                other: some(sums.other),
                p50: quantile(0.5),
                p99: quantile(0.99),
                breaker: open(&policy, &name),
                bad: sums.failed + sums.timed_out,
                policy,
                name,
                point,
                handler,
            }
        })
        .collect();
    hooks.sort_by_key(|hook| (!hook.breaker, hook.bad == 0));
    hooks
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

    use super::*;

    #[test]
    fn hooks_that_need_a_look_come_first() {
        let registry = Registry::new();
        let labels = ["policy", "hook", "point", "handler", "outcome"];
        let runs = IntCounterVec::new(Opts::new(RUNS, "."), &labels).unwrap();
        let took = HistogramVec::new(HistogramOpts::new(DURATION, ".").buckets(vec![1.0, 2.0]), &labels[..4]).unwrap();
        let breaker = IntGaugeVec::new(Opts::new(BREAKER, "."), &labels[..2]).unwrap();
        registry.register(Box::new(runs.clone())).unwrap();
        registry.register(Box::new(took.clone())).unwrap();
        registry.register(Box::new(breaker.clone())).unwrap();
        let run = |hook: &str, outcome: &str, times| {
            runs.with_label_values(&["web", hook, "PreStopContainer", "webhook", outcome]).inc_by(times);
        };
        run("a", "succeeded", 1200);
        run("a", "abandoned", 1);
        run("b", "timed_out", 2);
        run("b", "failed", 1);
        run("c", "failed", 0);
        took.with_label_values(&["web", "b", "PreStopContainer", "webhook"]).observe(0.3);
        breaker.with_label_values(&["web", "c"]).set(1);

        let hooks = hooks(&Snapshot::of(&registry));
        let names: Vec<_> = hooks.iter().map(|hook| (hook.name.as_str(), hook.breaker)).collect();
        assert_eq!(names, [("c", true), ("b", false), ("a", false)]);
        assert_eq!((hooks[0].failed.as_deref(), hooks[0].p50.as_str()), (None, "–"));
        assert_eq!((hooks[1].failed.as_deref(), hooks[1].timed_out.as_deref()), (Some("1"), Some("2")));
        assert_eq!(hooks[1].p50, "500 ms");
        assert_eq!((hooks[2].succeeded.as_str(), hooks[2].other.as_deref()), ("1,200", Some("1")));
        assert_eq!((hooks[2].point.as_str(), hooks[2].handler.as_str()), ("PreStopContainer", "webhook"));
    }
}

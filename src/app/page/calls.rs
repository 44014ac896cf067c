//! Where the time of calls went: together, and by method.

use std::collections::BTreeMap;
use std::time::Duration;

use super::histogram::Histogram;
use super::snapshot::{Labels, Snapshot};
use super::words::{self, count, percent, took};

/// Who spent a part of a call's time, as the page and its style name it, and the family that says so.
const PARTS: [(&str, &str); 4] = [
    ("runtime", "crihook_cri_upstream_duration_seconds"),
    ("hooks", "crihook_cri_hook_wait_seconds"),
    ("crihook", "crihook_cri_overhead_seconds"),
    ("client", "crihook_cri_client_wait_seconds"),
];
const WHOLE: &str = "crihook_cri_request_duration_seconds";
const ENDED: &str = "crihook_cri_requests_total";
const RUNNING: &str = "crihook_cri_requests_in_flight";
/// So many methods are shown at once.
const SHOWN: usize = 10;

/// All calls of a time.
#[derive(Debug)]
pub struct Calls {
    /// How many have ended.
    pub ended: String,
    /// What the timed ones took together.
    pub took: String,
    /// The same, divided; nothing if it is nothing.
    pub split: Split,
    /// The methods that took most of the time, those with most of it first.
    pub methods: Vec<Method>,
    /// The other ones.
    pub others: Vec<Method>,
    /// What the timed calls of these took together.
    pub others_took: String,
}

/// The calls of a method.
#[derive(Debug)]
pub struct Method {
    pub service: String,
    pub name: String,
    pub ended: String,
    /// Ended otherwise than with OK, by code.
    pub errors: Vec<(String, String)>,
    /// Not ended; nothing if there are none.
    pub running: Option<String>,
    pub rate: String,
    pub p50: String,
    pub p99: String,
    pub took: String,
    pub split: Split,
    seconds: f64,
}

/// A time and its parts.
#[derive(Debug, Default)]
pub struct Split(pub Vec<Part>);

/// A part of a time.
#[derive(Debug)]
pub struct Part {
    pub name: &'static str,
    /// Where it begins and how long it is, in percent of the whole, as SVG has it.
    pub from: String,
    pub width: String,
    pub share: String,
    pub took: String,
}

impl Split {
    fn of(seconds: [f64; PARTS.len()]) -> Self {
        let whole: f64 = seconds.iter().sum();
        if whole <= 0.0 {
            return Self::default();
        }
        let mut from = 0.0;
        let part = |((name, _), seconds): (&(&'static str, &str), f64)| {
            let (begin, share) = (from, seconds / whole);
            from += share;
            Part {
                name,
                from: format!("{:.3}", begin * 100.0),
                width: format!("{:.3}", share * 100.0),
                share: percent(share),
                took: took(seconds),
            }
        };
        Self(PARTS.iter().zip(seconds).map(part).collect())
    }

    /// For those who cannot see it: `runtime 87 %, hooks 12 %, ...`.
    pub fn words(&self) -> String {
        let parts = self.0.iter().map(|part| format!("{} {}", part.name, part.share));
        parts.collect::<Vec<_>>().join(", ")
    }
}

#[derive(Default)]
struct Sums {
    ended: u64,
    errors: Vec<(String, u64)>,
    running: u64,
    whole: Histogram,
    parts: [f64; PARTS.len()],
}

impl Calls {
    /// From what came within `time`.
    pub fn within(time: Duration, came: &Snapshot) -> Self {
        let sums = sums(came);
        let ended = sums.values().map(|sums| sums.ended).sum();
        let whole = sums.values().map(|sums| sums.whole.sum).sum();
        let parts = sums.values().fold([0.0; PARTS.len()], |all, sums| std::array::from_fn(|n| all[n] + sums.parts[n]));
        let seen = sums.into_iter().filter(|(_, sums)| sums.ended > 0 || sums.running > 0);
        let mut methods: Vec<Method> = seen.map(|(name, sums)| method(name, sums, time)).collect();
        methods.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let others = methods.split_off(SHOWN.min(methods.len()));
        let others_took = took(others.iter().map(|method| method.seconds).sum());
        Self {
            ended: words::counted(ended, "call", "calls"),
            took: took(whole),
            split: Split::of(parts),
            methods,
            others,
            others_took,
        }
    }
}

/// By service and method.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of calls")]
fn sums(came: &Snapshot) -> BTreeMap<(String, String), Sums> {
    let mut all: BTreeMap<(String, String), Sums> = BTreeMap::new();
    let of = |labels: &Labels| (labels.get("service").to_owned(), labels.get("method").to_owned());
    for (labels, ended) in came.numbers(ENDED).filter(|(_, ended)| *ended > 0.0) {
        let sums = all.entry(of(labels)).or_default();
        sums.ended += ended as u64;
        let code = labels.get("code");
        if code != "OK" {
            sums.errors.push((code.to_owned(), ended as u64));
        }
    }
    for (labels, running) in came.numbers(RUNNING) {
        all.entry(of(labels)).or_default().running = running.max(0.0) as u64;
    }
    for (labels, whole) in came.histograms(WHOLE) {
        all.entry(of(labels)).or_default().whole = whole.clone();
    }
    for (n, (_, family)) in PARTS.iter().enumerate() {
        for (labels, part) in came.histograms(family) {
            all.entry(of(labels)).or_default().parts[n] = part.sum;
        }
    }
    all
}

fn method((service, name): (String, String), sums: Sums, time: Duration) -> Method {
    let quantile = |q| words::quantile(sums.whole.quantile(q));
    let timed = sums.whole.count > 0;
    Method {
        ended: count(sums.ended),
        errors: sums.errors.into_iter().map(|(code, n)| (code, count(n))).collect(),
        running: (sums.running > 0).then(|| count(sums.running)),
        rate: words::rate(sums.ended, time),
        p50: quantile(0.5),
        p99: quantile(0.99),
        took: if timed { took(sums.whole.sum) } else { words::NOTHING.to_owned() },
        split: Split::of(sums.parts),
        seconds: sums.whole.sum,
        service,
        name,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http::HeaderMap;
    use prometheus::Registry;

    use super::*;
    use crate::cri::{self, Code};
    use crate::proxy::{LatencyMetrics, Phase, Recorder};
    use crate::trace::Tracer;

    /// A call that spends so many milliseconds in the runtime, in hooks and in crihook.
    fn call(recorder: &Recorder, method: &str, code: Code, [runtime, hooks, crihook]: [u64; 3]) {
        let method = cri::Method::from_path(&format!("/runtime.v1.RuntimeService/{method}"));
        let (begun, millis) = (Instant::now(), Duration::from_millis);
        let watch = recorder.begin(method, &HeaderMap::new(), 0, begun);
        watch.enter(Phase::Upstream, begun + millis(crihook));
        watch.enter(Phase::Hooks, begun + millis(crihook + runtime));
        watch.ended(code);
        watch.enter(Phase::Overhead, begun + millis(crihook + runtime + hooks));
        watch.record(begun + millis(crihook + runtime + hooks));
    }

    #[test]
    fn time_is_told_by_method_the_longest_first_and_by_who_spent_it() {
        let registry = Registry::new();
        let recorder = Recorder::new(LatencyMetrics::register(&registry).unwrap(), None, None, Tracer::default());
        call(&recorder, "ListContainers", Code::OK, [8, 0, 2]);
        call(&recorder, "StopContainer", Code::OK, [100, 298, 2]);
        call(&recorder, "StopContainer", Code::UNKNOWN, [500, 100, 0]);
        let pull = cri::Method::from_path("/runtime.v1.ImageService/PullImage");
        let _running = recorder.begin(pull, &HeaderMap::new(), 0, Instant::now());
        let calls = Calls::within(Duration::from_mins(1), &Snapshot::of(&registry));

        assert_eq!((calls.ended.as_str(), calls.took.as_str()), ("3 calls", "1.01 s"));
        assert_eq!(calls.split.words(), "runtime 60 %, hooks 39 %, crihook 0.4 %, client 0 %");
        let names: Vec<_> = calls.methods.iter().map(|method| method.name.as_str()).collect();
        assert_eq!(names, ["StopContainer", "ListContainers", "PullImage"]);
        let [stop, list, pull] = &calls.methods[..] else { panic!("{calls:?}") };
        assert_eq!((stop.ended.as_str(), stop.rate.as_str(), stop.took.as_str()), ("2", "2/min", "1.00 s"));
        assert_eq!(stop.errors, [("Unknown".to_owned(), "1".to_owned())]);
        assert_eq!(stop.split.words(), "runtime 60 %, hooks 40 %, crihook 0.2 %, client 0 %");
        assert_eq!((stop.split.0[1].from.as_str(), stop.split.0[1].width.as_str()), ("60.000", "39.800"));
        // Half of its one observation between 5 and 10 ms.
        assert_eq!((list.p50.as_str(), list.errors.len()), ("7.50 ms", 0));
        assert_eq!((pull.ended.as_str(), pull.running.as_deref(), pull.p99.as_str()), ("0", Some("1"), "–"));
    }
}

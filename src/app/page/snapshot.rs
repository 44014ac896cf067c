//! crihook's own metrics at one moment, and what has changed between two.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::Registry;
use prometheus::proto::{Metric, MetricType};
use tokio::time::Instant;

use super::histogram::Histogram;

/// What is looked at; `process_*` is not.
const PREFIX: &str = "crihook_";

/// Names and values of a series' labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels(pub Vec<(String, String)>);

impl Labels {
    /// A label's value; empty if it has no such label, as in Prometheus.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(held, _)| held == name).map_or("", |(_, value)| value)
    }
}

/// What a series holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Only grows.
    Counter(f64),
    /// Goes up and down.
    Gauge(f64),
    /// Only grows.
    Histogram(Histogram),
}

/// Series by family and labels.
#[derive(Debug, Clone, Default)]
pub struct Snapshot(BTreeMap<String, BTreeMap<Labels, Value>>);

impl Snapshot {
    /// As it is now.
    pub fn of(registry: &Registry) -> Self {
        let families = registry.gather().into_iter().filter(|family| family.name().starts_with(PREFIX));
        let series = |metric: &Metric, kind| {
            let labels = metric.get_label().iter().map(|pair| (pair.name().to_owned(), pair.value().to_owned()));
            Some((Labels(labels.collect()), value(metric, kind)?))
        };
        Self(
            families
                .map(|family| {
                    let kind = family.get_field_type();
                    let all = family.get_metric().iter().filter_map(|metric| series(metric, kind)).collect();
                    (family.name().to_owned(), all)
                })
                .collect(),
        )
    }

    /// What came since `before`. Gauges are as they are now.
    pub fn since(&self, before: &Self) -> Self {
        let family = |name: &String, series: &BTreeMap<Labels, Value>| {
            let then = before.0.get(name);
            let since = |labels: &Labels, now: &Value| match then.and_then(|then| then.get(labels)) {
                Some(then) => now.since(then),
                None => now.clone(),
            };
            series.iter().map(|(labels, now)| (labels.clone(), since(labels, now))).collect()
        };
        Self(self.0.iter().map(|(name, series)| (name.clone(), family(name, series))).collect())
    }

    /// The counters and gauges of a family; none if there is no such family.
    pub fn numbers(&self, family: &str) -> impl Iterator<Item = (&Labels, f64)> {
        self.series(family).filter_map(|(labels, value)| match value {
            Value::Counter(value) | Value::Gauge(value) => Some((labels, *value)),
            Value::Histogram(_) => None,
        })
    }

    /// The histograms of a family; none if there is no such family.
    pub fn histograms(&self, family: &str) -> impl Iterator<Item = (&Labels, &Histogram)> {
        self.series(family).filter_map(|(labels, value)| match value {
            Value::Histogram(histogram) => Some((labels, histogram)),
            Value::Counter(_) | Value::Gauge(_) => None,
        })
    }

    fn series(&self, family: &str) -> impl Iterator<Item = (&Labels, &Value)> {
        self.0.get(family).into_iter().flatten()
    }
}

impl Value {
    fn since(&self, before: &Self) -> Self {
        match (self, before) {
            // One that has fallen has begun anew: its policy was removed, and came back.
            (Self::Counter(now), Self::Counter(then)) if now >= then => Self::Counter(now - then),
            (Self::Histogram(now), Self::Histogram(then)) => Self::Histogram(now.since(then)),
            _ => self.clone(),
        }
    }
}

fn value(metric: &Metric, kind: MetricType) -> Option<Value> {
    match kind {
        MetricType::COUNTER => Some(Value::Counter(metric.get_counter().get_value())),
        MetricType::GAUGE => Some(Value::Gauge(metric.get_gauge().get_value())),
        MetricType::HISTOGRAM => {
            let held = metric.get_histogram();
            let buckets = held.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
            let (count, sum) = (held.get_sample_count(), held.get_sample_sum());
            Some(Value::Histogram(Histogram { buckets: buckets.collect(), count, sum }))
        }
        _ => None,
    }
}

/// What a look back of some minutes starts from.
#[derive(Debug)]
pub struct Recent {
    window: Duration,
    /// The oldest first; not empty.
    kept: Vec<(Instant, Snapshot)>,
}

impl Recent {
    /// Looks back for `window` at most, or to the beginning, when nothing had been counted yet.
    pub fn new(window: Duration, beginning: Instant) -> Self {
        Self { window, kept: vec![(beginning, Snapshot::default())] }
    }

    /// Keeps what is now; what is older than the window goes.
    pub fn keep(&mut self, now: Instant, snapshot: Snapshot) {
        self.kept.push((now, snapshot));
        self.kept.retain(|(at, _)| now.duration_since(*at) <= self.window);
    }

    /// The oldest one of the window, and when it was taken.
    pub fn oldest(&self) -> (Instant, &Snapshot) {
        let (at, snapshot) = &self.kept[0];
        (*at, snapshot)
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts};

    use super::*;

    #[test]
    fn between_two_moments_counters_and_histograms_tell_what_came_and_gauges_what_is() {
        let registry = Registry::new();
        let calls = IntCounterVec::new(Opts::new("crihook_calls_total", "."), &["method"]).unwrap();
        let opts = HistogramOpts::new("crihook_seconds", ".").buckets(vec![1.0, 2.0]);
        let seconds = HistogramVec::new(opts, &["method"]).unwrap();
        let queue = IntGauge::new("crihook_queue", ".").unwrap();
        registry.register(Box::new(calls.clone())).unwrap();
        registry.register(Box::new(seconds.clone())).unwrap();
        registry.register(Box::new(queue.clone())).unwrap();
        calls.with_label_values(&["Stop"]).inc_by(5);
        seconds.with_label_values(&["Stop"]).observe(0.5);
        queue.set(7);
        let before = Snapshot::of(&registry);
        calls.with_label_values(&["Stop"]).inc_by(2);
        calls.with_label_values(&["Start"]).inc();
        seconds.with_label_values(&["Stop"]).observe(1.5);
        queue.set(3);
        let came = Snapshot::of(&registry).since(&before);

        let calls: Vec<_> = came.numbers("crihook_calls_total").map(|(labels, n)| (labels.get("method"), n)).collect();
        assert_eq!(calls, [("Start", 1.0), ("Stop", 2.0)]);
        assert_eq!(came.numbers("crihook_queue").map(|(_, n)| n).collect::<Vec<_>>(), [3.0]);
        let (_, stop) = came.histograms("crihook_seconds").next().unwrap();
        assert_eq!(*stop, Histogram { buckets: vec![(1.0, 0), (2.0, 1)], count: 1, sum: 1.5 });
        assert_eq!(came.numbers("crihook_absent").count(), 0);
    }

    #[test]
    fn a_counter_that_has_begun_anew_counts_from_zero() {
        assert_eq!(Value::Counter(2.0).since(&Value::Counter(9.0)), Value::Counter(2.0));
    }

    #[test]
    fn a_look_back_reaches_no_further_than_its_window() {
        let minutes = Duration::from_mins;
        let beginning = Instant::now();
        let mut recent = Recent::new(minutes(15), beginning);
        for minute in 1..=15 {
            recent.keep(beginning + minutes(minute), Snapshot::default());
            assert_eq!(recent.oldest().0, beginning);
        }
        for minute in 16..100 {
            recent.keep(beginning + minutes(minute), Snapshot::default());
            assert_eq!(recent.oldest().0, beginning + minutes(minute - 15));
            assert_eq!(recent.kept.len(), 16);
        }
    }
}

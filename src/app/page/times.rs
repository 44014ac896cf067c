//! Families of histograms that the page shows as they are: a row a series, with the labels that it has.

use super::snapshot::Snapshot;
use super::words::{self, count, took};

/// A family of times, and how the page calls it. A family that does not exist is left out, so one more is a line here.
const FAMILIES: [(&str, &str); 4] = [
    ("crihook_pod_startup_duration_seconds", "Pods starting"),
    ("crihook_image_pull_duration_seconds", "Images pulled"),
    ("crihook_native_hook_duration_seconds", "Pods' own hooks"),
    ("crihook_container_termination_duration_seconds", "Containers ending"),
];

/// A family of times.
#[derive(Debug)]
pub struct Times {
    pub name: &'static str,
    /// Its labels' names.
    pub labels: Vec<String>,
    /// Empty if nothing has come.
    pub rows: Vec<Row>,
}

/// A series with observations.
#[derive(Debug)]
pub struct Row {
    /// Its labels' values.
    pub labels: Vec<String>,
    pub count: String,
    pub p50: String,
    pub p99: String,
    /// All observations together.
    pub took: String,
}

/// Those that there are.
pub fn times(came: &Snapshot) -> Vec<Times> {
    let families = FAMILIES.iter().filter_map(|&(family, name)| {
        let (first, _) = came.histograms(family).next()?;
        let labels = first.0.iter().map(|(name, _)| name.clone()).collect();
        let seen = came.histograms(family).filter(|(_, held)| held.count > 0);
        let rows = seen.map(|(labels, held)| Row {
            labels: labels.0.iter().map(|(_, value)| value.clone()).collect(),
            count: count(held.count),
            p50: words::quantile(held.quantile(0.5)),
            p99: words::quantile(held.quantile(0.99)),
            took: took(held.sum),
        });
        Some(Times { name, labels, rows: rows.collect() })
    });
    families.collect()
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, HistogramVec, Registry};

    use super::*;

    #[test]
    fn a_family_is_shown_with_the_labels_that_it_has_once_it_exists() {
        let registry = Registry::new();
        assert_eq!(times(&Snapshot::of(&registry)).len(), 0);
        let opts = HistogramOpts::new("crihook_native_hook_duration_seconds", ".").buckets(vec![1.0, 2.0]);
        let native = HistogramVec::new(opts, &["point", "result"]).unwrap();
        registry.register(Box::new(native.clone())).unwrap();
        let _at_zero = native.with_label_values(&["PostStartContainer", "failed"]);
        let [shown] = &times(&Snapshot::of(&registry))[..] else { panic!("one family") };
        assert_eq!((shown.name, shown.rows.len()), ("Pods' own hooks", 0));

        native.with_label_values(&["PreStopContainer", "succeeded"]).observe(1.5);
        let [shown] = &times(&Snapshot::of(&registry))[..] else { panic!("one family") };
        let [row] = &shown.rows[..] else { panic!("one row") };
        assert_eq!(
            (&shown.labels, &row.labels),
            (
                &vec!["point".to_owned(), "result".to_owned()],
                &vec!["PreStopContainer".to_owned(), "succeeded".to_owned()]
            )
        );
        assert_eq!((row.count.as_str(), row.p50.as_str(), row.took.as_str()), ("1", "1.50 s", "1.50 s"));
    }
}

//! Rules and dashboard name what /metrics has, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::dashboard::queries;
use super::promql::Names;
use super::rules::{rules, text};
use super::stage::Stage;
use crate::wire::peer::exposition::Exposition;

/// Each name of samples, with the labels that they have.
type Known = BTreeMap<String, BTreeSet<String>>;

/// What Prometheus adds to whatever it scrapes.
const TARGET: [&str; 2] = ["instance", "job"];

fn known(page: &Exposition) -> Known {
    let mut known = Known::from([("up".to_owned(), BTreeSet::new())]);
    for (name, labels, _) in page.all("") {
        known.entry(name.clone()).or_default().extend(labels.keys().cloned());
    }
    for labels in known.values_mut() {
        labels.extend(TARGET.map(ToOwned::to_owned));
    }
    known
}

/// The labels that a query's answer may have.
fn check(known: &Known, query: &str, what: &str) -> BTreeSet<String> {
    let names = Names::of(query);
    let mut all = BTreeSet::new();
    for (metric, chosen_by) in &names.selectors {
        let labels = known.get(metric).unwrap_or_else(|| panic!("{what}: there is no {metric}: {query}"));
        assert!(chosen_by.is_subset(labels), "{what}: {metric} has {labels:?} only: {query}");
        all.extend(labels.clone());
    }
    assert!(names.grouping.is_subset(&all), "{what}: there is only {all:?}: {query}");
    all
}

#[tokio::test]
async fn rules_and_dashboard_name_only_metrics_and_labels_that_there_are() {
    let stage = Stage::set().await;
    stage.act().await;
    let page = stage.node.metrics().await;
    let mut known = known(&page);
    for query in queries() {
        let labels = check(&known, &query.expr, &query.panel);
        assert!(query.legend.is_subset(&labels), "{}: {:?} in the legend", query.panel, query.legend);
    }
    for rule in rules("record") {
        let name = text(&rule, "record");
        check(&known, text(&rule, "expr"), name);
        // LEVEL:METRIC:OPERATION; the level's words are the labels.
        let level = name.split(':').next().expect("a level").split('_').map(ToOwned::to_owned);
        known.insert(name.to_owned(), level.chain(["job".to_owned()]).collect());
    }
    for alert in rules("alert") {
        check(&known, text(&alert, "expr"), text(&alert, "alert"));
    }
}

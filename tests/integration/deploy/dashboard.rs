//! The dashboard: its queries and its shape.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

use serde_json::Value;

use super::{promtool, shipped};

/// A query of a panel.
pub struct Query {
    /// The panel's id and title.
    pub panel: String,
    /// As Prometheus gets it when all nodes and all methods are chosen.
    pub expr: String,
    /// The labels that the legend shows.
    pub legend: BTreeSet<String>,
}

fn dashboard() -> Value {
    let text = fs::read_to_string(shipped("grafana/crihook.json")).expect("the dashboard");
    serde_json::from_str(&text).expect("JSON")
}

/// The panels without the titles of rows.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().expect("panels").iter().filter(|panel| panel["type"] != "row")
}

/// What every panel asks.
pub fn queries() -> Vec<Query> {
    let dashboard = dashboard();
    let of_panel = |panel: &Value| {
        let name = format!("{} {}", panel["id"], text(panel, "title"));
        let targets = panel["targets"].as_array().expect("queries").iter();
        targets
            .map(|target| Query {
                panel: name.clone(),
                expr: filled_in(text(target, "expr")),
                legend: between(text(target, "legendFormat"), "{{", "}}"),
            })
            .collect::<Vec<_>>()
    };
    panels(&dashboard).flat_map(of_panel).collect()
}

fn filled_in(expr: &str) -> String {
    [("$instance", ".*"), ("$method", ".*"), ("$__rate_interval", "1m"), ("$__range", "5m")]
        .into_iter()
        .fold(expr.to_owned(), |expr, (variable, value)| expr.replace(variable, value))
}

fn between(text: &str, begin: &str, end: &str) -> BTreeSet<String> {
    text.split(begin).skip(1).filter_map(|rest| rest.split_once(end)).map(|(inner, _)| inner.to_owned()).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key}: {value}"))
}

/// As rules, since it is those that promtool reads.
#[test]
fn every_query_is_promql() {
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (number, query) in queries().into_iter().enumerate() {
        assert!(!query.expr.contains('$'), "{}: an unknown variable in {}", query.panel, query.expr);
        let expr = serde_json::to_string(&query.expr).expect("a string");
        writeln!(rules, "  - {{record: 'panel:{number}', expr: {expr}}}").expect("room");
    }
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("dashboard.yaml");
    fs::write(&file, rules).expect("the directory takes a file");
    promtool(&["check", "rules"], &file).unwrap_or_else(|said| panic!("{said}"));
}

#[test]
fn every_panel_asks_something_says_what_it_shows_and_has_a_unit() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let variables: Vec<_> = variables.iter().map(|variable| text(variable, "name")).collect();
    assert_eq!(variables, ["datasource", "instance", "method"]);
    for panel in panels(&dashboard) {
        let title = text(panel, "title");
        assert!(text(panel, "description").len() > 20, "{title}");
        assert!(!text(&panel["fieldConfig"]["defaults"], "unit").is_empty(), "{title}");
        let targets = panel["targets"].as_array().expect("queries");
        assert!(!targets.is_empty(), "{title}");
        for place in [panel].into_iter().chain(targets) {
            assert_eq!(text(&place["datasource"], "uid"), "${datasource}", "{title}");
        }
    }
}

/// In the order of their ids, without gaps in a line and without overlap: so that a change of one panel is a change of one place.
#[test]
fn panels_lie_in_order_from_left_to_right_and_from_top_to_bottom() {
    let dashboard = dashboard();
    let (mut id, mut left, mut top, mut height) = (0, 0, 0, 0);
    for panel in dashboard["panels"].as_array().expect("panels") {
        let number = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
        let title = text(panel, "title");
        if left == 24 {
            (left, top) = (0, top + height);
        }
        assert_eq!((panel["id"].as_u64(), number("x"), number("y")), (Some(id + 1), left, top), "{title}");
        (id, left, height) = (id + 1, left + number("w"), number("h"));
        assert!(left <= 24, "{title}");
    }
    assert_eq!(left, 24, "the last line is full");
}

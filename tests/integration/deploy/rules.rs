//! The recording rules and the alerts, as promtool sees them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{promtool, shipped, yaml};

const FILES: [&str; 2] = ["prometheus/recording.yaml", "prometheus/alerts.yaml"];

/// The rules of all files that are called something by this key.
pub fn rules(key: &str) -> Vec<Value> {
    let files = FILES.map(|file| yaml(&shipped(file)));
    let groups = files.iter().flat_map(|file| file["groups"].as_array().expect("groups"));
    let rules = groups.flat_map(|group| group["rules"].as_array().expect("rules"));
    rules.filter(|rule| rule[key].is_string()).cloned().collect()
}

/// What a rule, or a label of it, is called.
pub fn text<'a>(rule: &'a Value, key: &str) -> &'a str {
    rule[key].as_str().unwrap_or_else(|| panic!("no {key}: {rule}"))
}

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/deploy/alerts.yaml")
}

#[test]
fn promtool_finds_nothing_wrong_with_the_rules() {
    for file in FILES {
        let said =
            promtool(&["check", "rules", "--lint-fatal"], &shipped(file)).unwrap_or_else(|said| panic!("{said}"));
        assert!(said.contains("SUCCESS"), "{said}");
    }
}

#[test]
fn alerts_fire_when_they_should_and_not_otherwise() {
    promtool(&["test", "rules"], &cases()).unwrap_or_else(|said| panic!("{said}"));
}

#[test]
fn every_alert_has_a_case_that_fires_and_one_that_does_not() {
    let cases = yaml(&cases());
    let tests = cases["tests"].as_array().expect("tests");
    let asked = tests.iter().flat_map(|test| test["promql_expr_test"].as_array().expect("queries"));
    let asked: BTreeSet<(String, bool)> = asked
        .map(|query| {
            let fires = !query["exp_samples"].as_array().expect("samples").is_empty();
            (text(query, "expr").to_owned(), fires)
        })
        .collect();
    let wanted = rules("alert").into_iter().flat_map(|alert| {
        let query = format!(r#"ALERTS{{alertname="{}", alertstate="firing"}}"#, text(&alert, "alert"));
        [(query.clone(), true), (query, false)]
    });
    assert_eq!(asked, wanted.collect());
}

#[test]
fn every_alert_says_how_bad_it_is_what_it_means_and_what_to_do() {
    for alert in rules("alert") {
        let name = text(&alert, "alert");
        assert!(["critical", "warning"].contains(&text(&alert["labels"], "severity")), "{name}");
        assert!(alert["for"].is_string(), "{name} waits before it wakes somebody");
        let annotations = &alert["annotations"];
        let lengths = ["summary", "description", "runbook"].map(|key| text(annotations, key).len());
        assert!(lengths[0] < 100 && lengths[0] < lengths[1] && lengths[2] > 100, "{name}: {lengths:?}");
        let runbook = text(annotations, "runbook");
        assert!(runbook.starts_with("1. ") && runbook.contains("\n2. "), "{name}: {runbook}");
    }
}

#[test]
fn the_readme_lists_every_alert_with_its_severity() {
    let readme = fs::read_to_string(shipped("README.md")).expect("deploy/README.md");
    let lines: BTreeSet<_> = readme.lines().filter(|line| line.starts_with("| `Crihook")).collect();
    let alerts = rules("alert");
    assert_eq!(lines.len(), alerts.len());
    for alert in &alerts {
        let (begin, end) = (format!("| `{}` |", text(alert, "alert")), text(&alert["labels"], "severity"));
        let listed = lines.iter().any(|line| line.starts_with(&begin) && line.ends_with(&format!("| {end} |")));
        assert!(listed, "{begin} ... | {end} |");
    }
}

/// Whoever is woken by an alert copies them.
#[test]
fn the_commands_in_runbooks_are_crihooks() {
    let mut seen = BTreeSet::new();
    for alert in rules("alert") {
        // Every second piece is between backticks.
        let commands = text(&alert["annotations"], "runbook").split('`').skip(1).step_by(2);
        for command in commands.filter_map(|command| command.strip_prefix("crihook ")) {
            let command = command
                .replace("{{ $labels.policy }}", "mesh")
                .replace("{{ $labels.hook }}", "deregister")
                .replace("RUN", "3abdb601");
            // With --help a command is read to its end and does nothing.
            let words = command.split_whitespace().chain(["--help"]);
            let output = Command::new(env!("CARGO_BIN_EXE_crihook")).args(words).output().expect("crihook starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "crihook {command}: {said}");
            seen.insert(command.split(' ').next().expect("a word").to_owned());
        }
    }
    assert!(seen.contains("status") && seen.contains("history"), "{seen:?}");
}

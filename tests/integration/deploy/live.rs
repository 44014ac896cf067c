//! A Prometheus that scrapes a crihook is asked what the dashboard asks.

use std::collections::BTreeSet;

use serde_json::Value;

use super::dashboard::queries;
use super::prometheus::Prometheus;
use super::rules::{rules, text};
use super::shipped;
use super::stage::Stage;
use crate::wire::peer::{until, within};

/// Lets things happen until every query has had an answer, each at some time.
async fn answered(prometheus: &Prometheus, stage: &Stage, mut asked: Vec<(String, String, BTreeSet<String>)>) {
    let play = async {
        while !asked.is_empty() {
            stage.act().await;
            let mut open = Vec::new();
            for (what, query, labels) in asked {
                let series = prometheus.series(&query).await.unwrap_or_else(|error| panic!("{what}: {query}: {error}"));
                if series.is_empty() {
                    open.push((what, query, labels));
                    continue;
                }
                for label in labels {
                    let has = |one: &Value| one["metric"][&label].is_string();
                    assert!(series.iter().all(has), "{what}: a legend with {label}: {series:?}");
                }
            }
            asked = open;
            if let Some((what, query, _)) = asked.first() {
                println!("{} without an answer, among them {what}: {query}", asked.len());
            }
        }
    };
    within("an answer to every query", play).await;
}

#[tokio::test]
async fn every_panel_has_an_answer() {
    let stage = Stage::set().await;
    let prometheus = Prometheus::start(&stage.node.crihook.metrics_addr().await, &[]).await;
    let asked = queries();
    let asked = asked.into_iter().map(|query| (query.panel, query.expr, query.legend)).collect();
    answered(&prometheus, &stage, asked).await;
}

#[tokio::test]
async fn every_rule_is_evaluated_without_an_error_and_a_wrong_policy_is_noticed() {
    let stage = Stage::set().await;
    let files = [shipped("prometheus/recording.yaml"), shipped("prometheus/alerts.yaml")];
    let prometheus =
        Prometheus::start(&stage.node.crihook.metrics_addr().await, &files.each_ref().map(|file| &**file)).await;
    let recorded = rules("record");
    let recorded = recorded
        .into_iter()
        .map(|rule| (rule["record"].to_string(), text(&rule, "record").to_owned(), BTreeSet::new()));
    answered(&prometheus, &stage, recorded.collect()).await;

    stage.blunder().await;
    // It is pending: nobody waits for minutes here.
    let alert = until("an alert of wrong policies", || async {
        let alerts = prometheus.ask("/api/v1/alerts").await?["alerts"].clone();
        let alerts = alerts.as_array().ok_or("no alerts")?;
        let found = alerts.iter().find(|alert| alert["labels"]["alertname"] == "CrihookPolicyReloadFailed");
        found.cloned().ok_or_else(|| format!("{alerts:?}"))
    })
    .await;
    let node = text(&alert["labels"], "instance");
    assert_eq!(text(&alert["annotations"], "summary"), format!("The policies on {node} are wrong"));

    let groups = prometheus.ask("/api/v1/rules").await.expect("rules")["groups"].clone();
    for rule in groups.as_array().expect("groups").iter().flat_map(|group| group["rules"].as_array().expect("rules")) {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}

//! What the Prometheus operator gets: no tool of it is at hand, so what depends on each other is compared here.

use std::fs;

use serde_json::Value;

use super::shipped;

#[test]
fn the_pod_monitor_finds_the_pods_that_hand_on_the_metrics() {
    let text = fs::read_to_string(shipped("prometheus/podmonitor.yaml")).expect("the file");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    let of_kind = |kind: &str| documents.iter().find(|document| document["kind"] == kind).expect("a document");
    let (monitor, daemons) = (&of_kind("PodMonitor")["spec"], &of_kind("DaemonSet")["spec"]);
    assert_eq!(monitor["selector"]["matchLabels"], daemons["template"]["metadata"]["labels"]);
    assert_eq!(daemons["selector"]["matchLabels"], daemons["template"]["metadata"]["labels"]);
    let container = &daemons["template"]["spec"]["containers"][0];
    assert_eq!(monitor["podMetricsEndpoints"][0]["port"], container["ports"][0]["name"]);

    let arguments: Vec<_> = container["args"].as_array().expect("arguments").iter().filter_map(Value::as_str).collect();
    let port = container["ports"][0]["containerPort"].to_string();
    assert!(arguments.iter().any(|flag| flag.starts_with("--secure-listen") && flag.ends_with(&port)), "{arguments:?}");
    assert!(arguments.contains(&"--upstream=http://127.0.0.1:9797/"), "crihook's default address: {arguments:?}");
    // The alerts count on the job's name.
    let job = monitor["jobLabel"].as_str().expect("a label");
    assert_eq!(daemons["template"]["metadata"]["labels"][job], "crihook");
    for document in &documents {
        assert!(document["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("crihook")), "{document}");
    }
}

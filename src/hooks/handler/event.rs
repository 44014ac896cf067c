//! An event as people outside get it: a `CloudEvents` 1.0 document in JSON (`webhook`, `command`).
//!
//! It carries what identifies the pod and the container, and neither environments nor headers' values.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use super::Delivery;
use super::values::Node;
use crate::lifecycle::{LAST_APPLIED, Pod};

/// The media type of the document.
pub(super) const CONTENT_TYPE: &str = "application/cloudevents+json";

/// The attributes of `CloudEvents` (its specification, version 1.0.2, section 3), and the data.
#[derive(Serialize)]
struct Document<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    time: String,
    datacontenttype: &'static str,
    /// An extension attribute: these are spelled without capitals.
    #[serde(rename = "replayof", skip_serializing_if = "Option::is_none")]
    replay_of: Option<&'a str>,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    point: &'static str,
    policy: &'a str,
    hook: &'a str,
    attempt: u32,
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_seconds: Option<u64>,
    pod: PodData<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<ContainerData<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PodData<'a> {
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
    labels: &'a BTreeMap<String, String>,
    annotations: BTreeMap<&'a str, &'a str>,
    sandbox_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_handler: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
}

#[derive(Serialize)]
struct ContainerData<'a> {
    id: &'a str,
    name: &'a str,
    image: &'a str,
}

/// The annotations of a pod that may leave the node.
pub(super) fn annotations(pod: &Pod) -> impl Iterator<Item = (&str, &str)> {
    pod.annotations.iter().filter(|(key, _)| *key != LAST_APPLIED).map(|(key, value)| (key.as_str(), value.as_str()))
}

/// The document of a delivery. The same attempt has the same document.
pub(super) fn document(delivery: &Delivery, node: &Node) -> Bytes {
    let Delivery { event, hook, .. } = delivery;
    let pod = &event.pod;
    let subject = match &event.container {
        Some(container) => format!("{}/{}/{}", pod.namespace, pod.name, container.name),
        None => format!("{}/{}", pod.namespace, pod.name),
    };
    let document = Document {
        specversion: "1.0",
        id: &delivery.event_id,
        source: format!("crihook/{}", node.name),
        kind: format!("dev.crihook.{}", event.point),
        subject,
        time: humantime::format_rfc3339_millis(event.at.wall).to_string(),
        datacontenttype: "application/json",
        replay_of: delivery.replay_of.as_deref(),
        data: Data {
            point: event.point.name(),
            policy: &hook.policy,
            hook: &hook.name,
            attempt: delivery.attempt,
            node: &node.name,
            grace_seconds: event.grace.map(|grace| grace.as_secs()),
            pod: PodData {
                namespace: &pod.namespace,
                name: &pod.name,
                uid: &pod.uid,
                labels: &pod.labels,
                annotations: annotations(pod).collect(),
                sandbox_id: &pod.sandbox_id,
                runtime_handler: pod.runtime_handler.as_deref(),
                ip: delivery.address.and_then(|address| node.ip(address)).map(|ip| ip.to_string()),
            },
            container: event.container.as_ref().map(|container| ContainerData {
                id: &container.id,
                name: &container.name,
                image: &container.image,
            }),
        },
    };
    // Strings, numbers and maps with strings for keys can always be written as JSON.
    serde_json::to_vec(&document).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing;
    use super::*;

    #[test]
    fn the_document_is_what_the_contract_says() {
        let delivery = testing::delivery(testing::hook("PreStop", testing::sleep()));
        let document: serde_json::Value = serde_json::from_slice(&document(&delivery, &testing::node())).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&document).unwrap());
    }

    #[test]
    fn at_a_sandboxs_point_there_is_no_container() {
        let delivery = testing::sandbox_delivery(testing::hook("PostRunPodSandbox", testing::sleep()));
        let document: serde_json::Value = serde_json::from_slice(&document(&delivery, &testing::node())).unwrap();
        assert_eq!(document["subject"], "payments/web-0");
        assert_eq!(document["type"], "dev.crihook.PostRunPodSandbox");
        assert!(document["data"].get("container").is_none() && document["data"].get("graceSeconds").is_none());
    }

    #[test]
    fn a_replay_says_what_it_repeats() {
        let mut delivery = testing::delivery(testing::hook("PreStop", testing::sleep()));
        delivery.replay_of = Some("event-0".into());
        let document: serde_json::Value = serde_json::from_slice(&document(&delivery, &testing::node())).unwrap();
        assert_eq!((&document["id"], &document["replayof"]), (&"event-1".into(), &"event-0".into()));
    }

    #[test]
    fn the_manifest_that_kubectl_leaves_in_an_annotation_stays_on_the_node() {
        let mut delivery = testing::delivery(testing::hook("PreStop", testing::sleep()));
        let mut event = (*delivery.event).clone();
        let mut pod = (*event.pod).clone();
        pod.annotations.insert(LAST_APPLIED.into(), r#"{"env":[{"name":"PASSWORD","value":"hunter2"}]}"#.into());
        event.pod = Arc::new(pod);
        delivery.event = Arc::new(event);
        let text = document(&delivery, &testing::node());
        assert!(!String::from_utf8_lossy(&text).contains("hunter2"));
    }
}

//! Kubernetes manifests, as far as hooks are concerned: pods, lists of them, and the pod templates of workloads.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::pods::{Described, Kind, Member};
use crate::lifecycle::{Container, Pod};

/// A manifest that says nothing of pods, or not so that it could be understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum ManifestError {
    /// Not YAML, or a field of a pod with a value of another type.
    #[error("{line}:{column}: {message}")]
    Invalid {
        /// Counted from 1.
        line: u64,
        /// Counted from 1.
        column: u64,
        /// What is wrong there.
        message: String,
    },
    /// Well-formed, of something else.
    #[error(
        "1:1: no pod in it{found}; give a Pod, a Deployment, ReplicaSet, StatefulSet, DaemonSet, Job or CronJob, or a List of them"
    )]
    NoPod {
        /// Which kinds there are, in words.
        found: String,
    },
}

/// Any object: what is not a pod or does not make pods has none of the fields that count.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    kind: String,
    metadata: Metadata,
    spec: Option<Spec>,
    items: Option<Vec<Object>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    generate_name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

/// Of a pod, or of what has a pod's template inside.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    init_containers: Option<Vec<Spelled>>,
    containers: Option<Vec<Spelled>>,
    ephemeral_containers: Option<Vec<Spelled>>,
    termination_grace_period_seconds: Option<u64>,
    runtime_class_name: Option<String>,
    template: Option<Box<Object>>,
    job_template: Option<Box<Object>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spelled {
    name: String,
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    restart_policy: Option<String>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
    #[serde(default)]
    lifecycle: Option<Lifecycle>,
}

#[derive(Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    container_port: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lifecycle {
    #[serde(default)]
    pre_stop: Option<serde::de::IgnoredAny>,
}

/// The pods that a manifest describes, in its order. What else is in it is passed over.
///
/// # Errors
/// See [`ManifestError`].
pub(super) fn read(text: &str) -> Result<Vec<Described>, ManifestError> {
    let objects: Vec<Object> = serde_saphyr::from_multiple(text).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
        let message = error.without_snippet().to_string();
        let message = message.lines().next().unwrap_or_default();
        let message = message.rsplit_once(" at line ").map_or(message, |(words, _)| words).to_owned();
        ManifestError::Invalid { line, column, message }
    })?;
    let (mut pods, mut others) = (Vec::new(), Vec::new());
    for object in objects {
        collect(object, &mut pods, &mut others);
    }
    if pods.is_empty() {
        let found = if others.is_empty() { String::new() } else { format!(", only: {}", others.join(", ")) };
        return Err(ManifestError::NoPod { found });
    }
    Ok(pods)
}

fn collect(object: Object, pods: &mut Vec<Described>, others: &mut Vec<String>) {
    if let Some(items) = object.items {
        for item in items {
            collect(item, pods, others);
        }
        return;
    }
    let Object { kind, metadata, spec, .. } = object;
    match innermost(spec.unwrap_or_default()) {
        (None, spec) if spec.containers.is_some() => pods.push(described(kind, metadata, spec)),
        (Some(inner), spec) if spec.containers.is_some() => {
            // A template has no name, and its namespace is that of what makes pods of it.
            let made = Metadata {
                namespace: metadata.namespace,
                name: metadata.name,
                generate_name: metadata.generate_name,
                uid: None,
                ..inner
            };
            pods.push(described(kind, made, spec));
        }
        _ if kind.is_empty() => {}
        _ => others.push(kind),
    }
}

/// The spec of the pod, and the metadata of the template that it was found in.
fn innermost(mut spec: Spec) -> (Option<Metadata>, Spec) {
    let mut metadata = None;
    while let Some(object) = spec.job_template.take().or_else(|| spec.template.take()) {
        metadata = Some(object.metadata);
        spec = object.spec.unwrap_or_default();
    }
    (metadata, spec)
}

fn described(kind: String, metadata: Metadata, spec: Spec) -> Described {
    let namespace = metadata.namespace.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned());
    let name = metadata.name.or(metadata.generate_name).unwrap_or_default();
    let uid = metadata.uid.unwrap_or_default();
    let mut labels = metadata.labels.unwrap_or_default();
    // The kubelet gives these to every sandbox.
    for (key, value) in [("name", &name), ("namespace", &namespace), ("uid", &uid)] {
        labels.entry(format!("io.kubernetes.pod.{key}")).or_insert_with(|| value.clone());
    }
    // A class is a name that the API server knows; which handler it stands for, only that can say.
    let runtime_handler = match spec.runtime_class_name.as_deref() {
        None | Some("") => Some(String::new()),
        Some(_) => None,
    };
    let annotations = metadata.annotations.unwrap_or_default();
    let pod = Pod { namespace, name, uid, attempt: 0, sandbox_id: String::new(), labels, annotations, runtime_handler };
    let groups = [
        (Kind::Init, spec.init_containers),
        (Kind::Container, spec.containers),
        (Kind::Ephemeral, spec.ephemeral_containers),
    ];
    let members = groups
        .into_iter()
        .flat_map(|(kind, group)| group.unwrap_or_default().into_iter().map(move |spelled| member(kind, spelled)))
        .collect();
    Described {
        kind,
        pod,
        runtime_class: spec.runtime_class_name.filter(|class| !class.is_empty()),
        grace: spec.termination_grace_period_seconds.map(Duration::from_secs),
        members,
    }
}

fn member(kind: Kind, spelled: Spelled) -> Member {
    let restarts = spelled.restart_policy.as_deref() == Some("Always");
    let kind = if kind == Kind::Init && restarts { Kind::Sidecar } else { kind };
    let ports = serde_json::to_string(&spelled.ports.unwrap_or_default()).unwrap_or_default();
    let container = Container {
        name: spelled.name,
        image: spelled.image.unwrap_or_default(),
        annotations: [("io.kubernetes.container.ports".to_owned(), ports)].into(),
        ..Container::default()
    };
    Member { kind, container, own_pre_stop: spelled.lifecycle.is_some_and(|own| own.pre_stop.is_some()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: payments, labels: {app: web}, creationTimestamp: null}
spec:
  terminationGracePeriodSeconds: 45
  initContainers:
  - {name: setup, image: busybox}
  - {name: mesh, image: 'registry.example/mesh:1', restartPolicy: Always}
  containers:
  - name: main
    image: registry.example/web:2
    ports: [{name: http, containerPort: 8080, protocol: TCP}, {containerPort: 9}]
    lifecycle: {preStop: {exec: {command: [sleep, '1']}}}
";

    #[test]
    fn a_pod_is_what_the_runtime_will_be_told_of_it() {
        let [described] = <[_; 1]>::try_from(read(POD).unwrap()).ok().unwrap();
        let Pod { namespace, name, labels, runtime_handler, .. } = &described.pod;
        assert_eq!((namespace.as_str(), name.as_str(), runtime_handler.as_deref()), ("payments", "web", Some("")));
        assert_eq!((labels["app"].as_str(), labels["io.kubernetes.pod.namespace"].as_str()), ("web", "payments"));
        assert_eq!(described.grace, Some(Duration::from_secs(45)));
        let members: Vec<_> =
            described.members.iter().map(|m| (m.kind, m.container.name.as_str(), m.own_pre_stop)).collect();
        assert_eq!(
            members,
            [(Kind::Init, "setup", false), (Kind::Sidecar, "mesh", false), (Kind::Container, "main", true)]
        );
        let main = &described.members[2].container;
        assert_eq!(
            (main.port("http"), main.port("admin"), main.image.as_str()),
            (Some(8080), None, "registry.example/web:2")
        );
    }

    #[test]
    fn json_is_read_too_and_a_list_is_each_of_its_items() {
        let json = r#"{"kind": "List", "items": [
            {"kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}},
            {"kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}},
            {"kind": "Pod", "metadata": {"name": "b", "namespace": "n"}, "spec": {"containers": [{"name": "c"}]}}]}"#;
        let pods = read(json).unwrap();
        let named: Vec<_> = pods.iter().map(|d| format!("{}/{}", d.pod.namespace, d.pod.name)).collect();
        assert_eq!(named, ["default/a", "n/b"]);
    }

    #[test]
    fn a_workload_makes_pods_of_its_template_in_its_own_namespace() {
        let text = "
kind: ConfigMap
data: {a: b}
---
kind: Deployment
metadata: {name: web, namespace: payments, labels: {owner: x}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {a: b}}
    spec: {runtimeClassName: gvisor, containers: [{name: main, image: i}]}
---
kind: CronJob
metadata: {name: nightly}
spec: {schedule: '@daily', jobTemplate: {spec: {template: {metadata: {labels: {job: n}}, spec: {containers: [{name: run}]}}}}}
";
        let pods = read(text).unwrap();
        let [web, nightly] = pods.as_slice() else { panic!("{} pods", pods.len()) };
        assert_eq!(
            (web.kind.as_str(), web.pod.namespace.as_str(), web.pod.name.as_str()),
            ("Deployment", "payments", "web")
        );
        assert_eq!((web.pod.labels.get("app").map(String::as_str), web.pod.labels.get("owner")), (Some("web"), None));
        assert_eq!((web.pod.runtime_handler.as_deref(), web.runtime_class.as_deref()), (None, Some("gvisor")));
        assert_eq!((nightly.pod.labels["job"].as_str(), nightly.members.len()), ("n", 1));
    }

    #[test]
    fn what_is_no_pod_is_said_with_its_place() {
        let told = |text: &str| read(text).err().unwrap().to_string();
        assert!(told("kind: Service\nspec: {ports: []}").starts_with("1:1: no pod in it, only: Service; give a Pod"));
        assert!(told("").starts_with("1:1: no pod in it; give"), "{}", told(""));
        assert!(
            told("kind: Pod\nspec:\n  containers: main\n").starts_with("3:15: "),
            "{}",
            told("kind: Pod\nspec:\n  containers: main\n")
        );
        assert!(told("kind: [").starts_with("1:"), "{}", told("kind: ["));
    }
}

//! What a document may say: the shape alone, as serde reads it and as the JSON Schema tells it to editors.
//!
//! Everything that is not shape is [`validate`](super::validate)'s; so nearly all is optional here, and all that may be wrong in itself
//! carries its place.

mod at;
mod pairs;

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::lifecycle::Point;

pub use at::At;
pub use pairs::{Pair, Pairs};

type Text = At<String>;

/// Hooks for the pods and containers of a node that match.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "HookPolicy")]
pub struct Document {
    /// Always `crihook.dev/v1`.
    #[schemars(required, extend("const" = super::API_VERSION))]
    #[allow(dead_code, reason = "read as a Header")]
    pub api_version: Option<Text>,
    /// Always `HookPolicy`.
    #[schemars(required, extend("const" = super::KIND))]
    #[allow(dead_code, reason = "read as a Header")]
    pub kind: Option<Text>,
    /// What it is called.
    #[schemars(required)]
    pub metadata: Option<At<Metadata>>,
    /// What it says.
    #[schemars(required)]
    pub spec: Option<At<Spec>>,
}

/// The beginning of any document, whatever else it says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    pub api_version: Option<Text>,
    pub kind: Option<Text>,
}

/// What a policy is called.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Unique among all policies of a node: lower-case letters, digits, `-` and `.`.
    #[schemars(required)]
    pub name: Option<Text>,
    /// For people; crihook does not read them.
    #[allow(dead_code, reason = "allowed, as in any Kubernetes object")]
    pub labels: Option<BTreeMap<String, String>>,
    /// For people; crihook does not read them.
    #[allow(dead_code, reason = "allowed, as in any Kubernetes object")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// What a policy says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// Everything given must hold; without it, the hooks are for all pods of the node.
    pub r#match: Option<Match>,
    /// In the order in which they run.
    #[schemars(required)]
    pub hooks: Option<At<Vec<At<Hook>>>>,
}

/// Whom a policy is for. Lists are of globs: `*` matches any characters, `!x` excludes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Match {
    /// Globs of namespaces.
    pub namespaces: Option<At<Vec<Text>>>,
    /// Labels of the pod.
    pub pod_selector: Option<PodSelector>,
    /// Annotations that the pod must have, with these values.
    pub annotations: Option<BTreeMap<String, String>>,
    /// Globs of containers' names.
    pub containers: Option<At<Vec<Text>>>,
    /// Globs of images: the name the user wrote, else the one in the container's status.
    pub images: Option<At<Vec<Text>>>,
    /// Globs of runtime handlers; `""` is the runtime's default one.
    pub runtime_handlers: Option<At<Vec<Text>>>,
}

/// As in a Deployment's `selector`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSelector {
    /// Labels that the pod must have, with these values.
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Further conditions; all must hold.
    pub match_expressions: Option<Vec<At<Expression>>>,
}

/// A condition on one label.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expression {
    /// The label.
    #[schemars(required)]
    pub key: Option<Text>,
    /// `NotIn` also holds where the label is missing.
    #[schemars(required, extend("enum" = ["In", "NotIn", "Exists", "DoesNotExist"]))]
    pub operator: Option<Text>,
    /// For `In` and `NotIn`.
    pub values: Option<At<Vec<String>>>,
}

/// A handler bound to a point.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = super::HANDLERS.map(|handler| serde_json::json!({"required": [handler]}))))]
pub struct Hook {
    /// Unique in its policy: lower-case letters, digits and `-`.
    #[schemars(required)]
    pub name: Option<Text>,
    /// `Pre` or `Post` and a call; `PostStart` and `PreStop` are short for `PostStartContainer` and `PreStopContainer`.
    #[schemars(required, extend("enum" = points()))]
    pub on: Option<Text>,
    /// A command in the container.
    pub exec: Option<At<Exec>>,
    /// A request to the pod, or to `host`. Any status from 200 to 399 is success.
    pub http_get: Option<At<HttpGet>>,
    /// A connection to the pod, or to `host`.
    pub tcp_socket: Option<At<TcpSocket>>,
    /// Waiting.
    pub sleep: Option<At<Sleep>>,
    /// The event, sent with POST as a `CloudEvents` JSON document.
    pub webhook: Option<At<Webhook>>,
    /// The event, sent to a `crihook.v1.HookService`.
    pub grpc: Option<At<Grpc>>,
    /// A command on the node.
    pub command: Option<At<Command>>,
    /// Of one attempt, as `10s`.
    #[schemars(with = "Option<Span>")]
    pub timeout: Option<Text>,
    /// How often and how soon it is tried again.
    pub retries: Option<At<Retries>>,
    /// Whether the call waits: by default it does at `Pre` points, and does not at `Post` points.
    #[schemars(extend("enum" = ["Blocking", "Background", null]))]
    pub mode: Option<Text>,
    /// What follows from its failure: nothing, or the call's.
    #[schemars(extend("enum" = ["Ignore", "Fail", null]))]
    pub failure_policy: Option<Text>,
}

/// As in a pod's `lifecycle`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exec {
    /// The program and its arguments; no shell.
    #[schemars(required)]
    pub command: Option<At<Vec<Text>>>,
}

/// As in a pod's `lifecycle`, and how to trust a server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpGet {
    /// By default `/`.
    pub path: Option<Text>,
    /// A number, or the port's name in the pod spec.
    #[schemars(required, schema_with = "port")]
    pub port: Option<Text>,
    /// Instead of the pod.
    pub host: Option<Text>,
    /// By default `HTTP`.
    #[schemars(extend("enum" = ["HTTP", "HTTPS", null]))]
    pub scheme: Option<Text>,
    /// Headers of the request.
    pub http_headers: Option<Pairs>,
    /// A PEM file: whom to believe, instead of the system's.
    pub ca_file: Option<Text>,
    /// Believe anybody.
    pub insecure_skip_verify: Option<At<bool>>,
}

/// As in a pod's `lifecycle`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpSocket {
    /// A number, or the port's name in the pod spec.
    #[schemars(required, schema_with = "port")]
    pub port: Option<Text>,
    /// Instead of the pod.
    pub host: Option<Text>,
}

/// As in a pod's `lifecycle`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sleep {
    /// At least 1.
    #[schemars(required, range(min = 1))]
    pub seconds: Option<At<i64>>,
}

/// Where the event is sent to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Webhook {
    /// `http://`, `https://`, or `unix://SOCKET:PATH`.
    #[schemars(required)]
    pub url: Option<Text>,
    /// Headers of the request.
    pub headers: Option<Pairs>,
    /// A PEM file: whom to believe, instead of the system's.
    pub ca_file: Option<Text>,
    /// A PEM file: crihook's own certificate chain.
    pub cert_file: Option<Text>,
    /// A PEM file: its key.
    pub key_file: Option<Text>,
    /// Believe anybody.
    pub insecure_skip_verify: Option<At<bool>>,
}

/// Where a hook server listens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grpc {
    /// `HOST:PORT` or `unix://SOCKET`.
    #[schemars(required)]
    pub endpoint: Option<Text>,
    /// Without it, plaintext.
    pub tls: Option<At<Tls>>,
}

/// How a server proves who it is, and crihook who it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// A PEM file: whom to believe, instead of the system's.
    pub ca_file: Option<Text>,
    /// A PEM file: crihook's own certificate chain.
    pub cert_file: Option<Text>,
    /// A PEM file: its key.
    pub key_file: Option<Text>,
    /// Believe anybody.
    pub insecure_skip_verify: Option<At<bool>>,
}

/// A process on the node. The event comes on its standard input and in its environment.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(clippy::struct_field_names, reason = "the documents' own names")]
pub struct Command {
    /// The program, by an absolute path, and its arguments; no shell.
    #[schemars(required)]
    pub command: Option<At<Vec<Text>>>,
    /// More environment.
    pub env: Option<Pairs>,
    /// Whose process it is: a user's name or number.
    pub user: Option<Text>,
}

/// How often and how soon a hook is tried again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retries {
    /// At least 1: the first counts.
    #[schemars(range(min = 1, max = super::MOST_ATTEMPTS))]
    pub attempts: Option<At<i64>>,
    /// Before the second attempt; it doubles from one to the next.
    #[schemars(with = "Option<Span>")]
    pub backoff: Option<Text>,
    /// It grows no longer than this.
    #[schemars(with = "Option<Span>")]
    pub max_backoff: Option<Text>,
}

/// How a length of time is written.
struct Span;

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\s*([0-9]+\s*[a-zA-Zµ]+\s*)+$",
            "examples": ["10s", "200ms", "1m30s"],
        })
    }
}

fn port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"}]})
}

fn points() -> Vec<&'static str> {
    ["PostStart", "PreStop"].into_iter().chain(Point::ALL.map(Point::name)).collect()
}

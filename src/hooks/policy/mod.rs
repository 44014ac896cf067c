//! Policies: which hooks there are and what they match, read from YAML and validated once.
//!
//! A [`PolicySet`] is all that an operator has said, complete and valid; there is no half of one. What is wrong in a document is
//! found when it is read, with its place.

mod diagnostic;
mod last_good;
mod load;
mod raw;
pub mod reload;
mod secrets;
mod template;
#[cfg(test)]
mod tests;
mod validate;

pub use diagnostic::{Diagnostic, Quote};
pub use load::{LARGEST, Loaded, Text, load, load_paths, parse};
pub use template::{Name, Template, UnknownName};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::hooks::matcher::Selector;
use crate::lifecycle::{Call, Point, Stage};

/// What stands at the head of every policy.
pub const API_VERSION: &str = "crihook.dev/v1";
/// What stands below it.
pub const KIND: &str = "HookPolicy";
/// What a hook can do, as policies spell it.
pub const HANDLERS: [&str; 7] = ["exec", "httpGet", "tcpSocket", "sleep", "webhook", "grpc", "command"];
/// Of one run.
pub const MOST_ATTEMPTS: u32 = 1000;

/// The JSON Schema of a policy document, for editors.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(raw::Document).to_value()
}

/// All policies of a node, in the order in which their hooks run: by file, document and list.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    /// In order.
    pub policies: Vec<Arc<Policy>>,
    /// Of the documents that it was read from: the same text has the same hash.
    pub hash: String,
}

impl PolicySet {
    /// How many hooks there are.
    #[must_use]
    pub fn hooks(&self) -> usize {
        self.policies.iter().map(|policy| policy.hooks.len()).sum()
    }
}

/// A `HookPolicy` document.
#[derive(Debug)]
pub struct Policy {
    /// Unique in its set.
    pub name: Arc<str>,
    /// Whom it is for.
    pub selector: Selector,
    /// In the order of the list.
    pub hooks: Vec<Arc<Hook>>,
    /// Where it stands.
    pub file: PathBuf,
    /// The line its document begins at, counted from 1.
    pub line: u64,
}

/// A handler bound to a point.
#[derive(Debug)]
pub struct Hook {
    /// The policy that it stands in.
    pub policy: Arc<str>,
    /// Unique in its policy.
    pub name: Arc<str>,
    /// When it runs.
    pub point: Point,
    /// What it does.
    pub action: Action,
    /// Of one attempt.
    pub timeout: Duration,
    /// How often and how soon it is tried again.
    pub retries: Retries,
    /// Whether the call waits for it.
    pub mode: Mode,
    /// What follows from its failure.
    pub failure_policy: FailurePolicy,
}

/// How often and how soon a hook is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// At least 1: the first counts.
    pub attempts: u32,
    /// Before the second attempt; it doubles from one to the next.
    pub backoff: Duration,
    /// It grows no longer than this.
    pub max_backoff: Duration,
}

/// Whether the kubelet's call waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It does.
    Blocking,
    /// It does not.
    Background,
}

impl Mode {
    /// What a point has unless the policy says otherwise.
    #[must_use]
    pub const fn of(point: Point) -> Self {
        match point.stage {
            Stage::Pre => Self::Blocking,
            Stage::Post => Self::Background,
        }
    }

    /// As policies spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocking => "Blocking",
            Self::Background => "Background",
        }
    }
}

/// What follows from a hook's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FailurePolicy {
    /// Nothing but a record of it.
    #[default]
    Ignore,
    /// The call fails.
    Fail,
}

impl FailurePolicy {
    /// Whether a failure may fail the call: never where that would keep a pod from going away.
    #[must_use]
    pub const fn may_fail(point: Point, mode: Mode) -> bool {
        matches!(mode, Mode::Blocking)
            && match point.stage {
                Stage::Pre => matches!(
                    point.call,
                    Call::RunPodSandbox | Call::CreateContainer | Call::StartContainer | Call::UpdateContainerResources
                ),
                Stage::Post => matches!(point.call, Call::StartContainer),
            }
    }
}

/// What a hook does.
#[derive(Debug, Clone)]
pub enum Action {
    /// A command in the container.
    Exec(Vec<Template>),
    /// A request to the pod, or to a host.
    HttpGet(HttpGet),
    /// A connection to the pod, or to a host.
    TcpSocket(TcpSocket),
    /// Waiting.
    Sleep(Duration),
    /// The event, sent with POST.
    Webhook(Webhook),
    /// The event, sent to a `crihook.v1.HookService`.
    Grpc(Grpc),
    /// A command on the node.
    Command(Command),
}

/// A port by number, or by its name in the pod spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortRef {
    /// 1 to 65535.
    Number(u16),
    /// Of the container that the event is about.
    Name(String),
}

/// See [`Action::HttpGet`].
#[derive(Debug, Clone)]
pub struct HttpGet {
    /// With its leading slash, and perhaps a query.
    pub path: Template,
    /// Where the server listens.
    pub port: PortRef,
    /// Instead of the pod.
    pub host: Option<Template>,
    /// `https` instead of `http`.
    pub secure: bool,
    /// Names and values.
    pub headers: Vec<(http::HeaderName, Template)>,
    /// For `https`.
    pub tls: Tls,
}

/// See [`Action::TcpSocket`].
#[derive(Debug, Clone)]
pub struct TcpSocket {
    /// Where the server listens.
    pub port: PortRef,
    /// Instead of the pod.
    pub host: Option<Template>,
}

/// See [`Action::Webhook`].
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Where to.
    pub url: WebhookUrl,
    /// Names and values.
    pub headers: Vec<(http::HeaderName, Template)>,
    /// For `https`.
    pub tls: Tls,
}

/// Where a webhook goes.
#[derive(Debug, Clone)]
pub enum WebhookUrl {
    /// An `http` or `https` URL.
    Http(Template),
    /// `unix://SOCKET:PATH`.
    Unix {
        /// Absolute.
        socket: PathBuf,
        /// With its leading slash.
        path: Template,
    },
}

/// See [`Action::Grpc`].
#[derive(Debug, Clone)]
pub struct Grpc {
    /// Where to.
    pub endpoint: GrpcEndpoint,
    /// `None`: plaintext.
    pub tls: Option<Tls>,
}

/// Where a gRPC hook server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrpcEndpoint {
    /// `HOST:PORT`.
    Tcp(String),
    /// A socket's absolute path.
    Unix(PathBuf),
}

/// How a server proves who it is, and crihook who it is. Files are read when the policy is.
#[derive(Clone, Default)]
pub struct Tls {
    /// PEM: whom to believe, instead of the system's.
    pub ca: Option<Bytes>,
    /// PEM: crihook's own certificate chain and its key.
    pub identity: Option<(Bytes, Bytes)>,
    /// Believe anybody.
    pub insecure_skip_verify: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("insecure_skip_verify", &self.insecure_skip_verify).finish_non_exhaustive()
    }
}

/// See [`Action::Command`].
#[derive(Debug, Clone)]
pub struct Command {
    /// The program, by an absolute path, and its arguments.
    pub command: Vec<Template>,
    /// More environment.
    pub env: Vec<(String, Template)>,
    /// Whose process it is: a user's name or number; `None`: crihook's own.
    pub user: Option<String>,
}

impl Action {
    /// As policies and labels spell it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::HttpGet(_) => "httpGet",
            Self::TcpSocket(_) => "tcpSocket",
            Self::Sleep(_) => "sleep",
            Self::Webhook(_) => "webhook",
            Self::Grpc(_) => "grpc",
            Self::Command(_) => "command",
        }
    }

    /// Whether it must be told the pod's address.
    #[must_use]
    pub fn wants_address(&self) -> bool {
        let in_templates = |all: &[Template]| all.iter().any(|template| template.names().contains(&Name::PodIp));
        let in_headers = |all: &[(http::HeaderName, Template)]| {
            all.iter().any(|(_, template)| template.names().contains(&Name::PodIp))
        };
        match self {
            Self::Exec(command) => in_templates(command),
            Self::HttpGet(get) => {
                get.host.as_ref().is_none_or(|host| host.names().contains(&Name::PodIp))
                    || get.path.names().contains(&Name::PodIp)
                    || in_headers(&get.headers)
            }
            Self::TcpSocket(socket) => socket.host.as_ref().is_none_or(|host| host.names().contains(&Name::PodIp)),
            Self::Sleep(_) | Self::Grpc(_) => false,
            Self::Webhook(webhook) => {
                in_headers(&webhook.headers)
                    || match &webhook.url {
                        WebhookUrl::Http(url) => url.names().contains(&Name::PodIp),
                        WebhookUrl::Unix { path, .. } => path.names().contains(&Name::PodIp),
                    }
            }
            Self::Command(command) => {
                in_templates(&command.command)
                    || command.env.iter().any(|(_, value)| value.names().contains(&Name::PodIp))
            }
        }
    }

    /// What its breaker stands for: the server that it always goes to. `None` for what has no server, or the pod's own, or one that
    /// depends on the pod.
    #[must_use]
    pub fn endpoint(&self) -> Option<String> {
        let host = |host: &Option<Template>, port: &PortRef| {
            let host = host.as_ref().filter(|host| host.names().is_empty())?;
            Some(match port {
                PortRef::Number(port) => format!("{host}:{port}"),
                PortRef::Name(port) => format!("{host}:{port}"),
            })
        };
        match self {
            Self::HttpGet(get) => host(&get.host, &get.port),
            Self::TcpSocket(socket) => host(&socket.host, &socket.port),
            Self::Webhook(webhook) => match &webhook.url {
                WebhookUrl::Http(url) => {
                    let server = url.to_string().split('/').take(3).collect::<Vec<_>>().join("/");
                    Template::parse(&server).is_ok_and(|server| server.names().is_empty()).then_some(server)
                }
                WebhookUrl::Unix { socket, .. } => Some(format!("unix://{}", socket.display())),
            },
            Self::Grpc(grpc) => Some(match &grpc.endpoint {
                GrpcEndpoint::Tcp(address) => address.clone(),
                GrpcEndpoint::Unix(path) => format!("unix://{}", path.display()),
            }),
            Self::Exec(_) | Self::Sleep(_) | Self::Command(_) => None,
        }
    }
}

//! Hooks: which run when (policy, matcher), how (handler), and under what order, bounds and budgets (engine).
//!
//! ```text
//! policy ──▶ PolicySet ──▶ matcher ──▶ engine ──▶ handler
//!  documents   validated     which       when       what
//! ```
//!
//! Nothing here knows of gRPC calls to the runtime or of the data path: `interposer` brings [`Event`](crate::lifecycle::Event)s, and
//! what hooks want of the runtime they ask through [`Runtime`].

pub mod engine;
pub mod handler;
pub mod matcher;
pub mod metrics;
pub mod pause;
pub mod policy;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use crate::lifecycle::Address;

/// A future that a trait object gives.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What hooks ask of the container runtime.
pub trait Runtime: Send + Sync {
    /// Runs `command` in the container's namespaces and cgroup. The runtime kills it after `limit`, whatever becomes of this future:
    /// dropping it stops the waiting, not the process, since CRI has no call for that.
    fn exec(&self, container: &str, command: &[String], limit: Duration) -> Boxed<'_, Result<Executed, ExecError>>;

    /// Where the sandbox can be reached now.
    fn address(&self, sandbox: &str) -> Boxed<'_, Result<Address, String>>;
}

/// A command that ran to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Zero is success.
    pub exit_code: i32,
    /// All of it.
    pub stdout: Bytes,
    /// All of it.
    pub stderr: Bytes,
}

/// Why a command did not run to its end in a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// It could not be started: no such file, no permission.
    #[error("cannot be started in the container: {0}")]
    NotStarted(String),
    /// The runtime killed it at the limit.
    #[error("killed by the runtime at its limit")]
    TimedOut,
    /// The container does not run (any more).
    #[error("the container is not running: {0}")]
    NotRunning(String),
    /// The runtime does not answer, or not properly.
    #[error("the runtime failed: {0}")]
    Runtime(String),
}

/// What a node's config says about hooks.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// For `$(NODE_NAME)` and events; by default the host's name.
    pub node_name: String,
    /// Where host-network pods are reached; `None`: the address of the default route's interface, else loopback.
    pub node_address: Option<std::net::IpAddr>,
    /// Whether a pod may be left alone by the label `crihook.dev/ignore: "true"`.
    pub allow_opt_out: bool,
    /// What a blocking run leaves of a call's deadline to the runtime.
    pub reserve: Duration,
    /// Runs at once: as many blocking ones, and as many in the background.
    pub concurrency: usize,
    /// How old an event may be when a background run of it begins.
    pub max_age: Duration,
    /// Whether what the pod's own hooks print is kept with their runs.
    pub record_native_output: bool,
    /// For hooks that do not say.
    pub defaults: Defaults,
}

/// What holds for a hook that does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Of one attempt.
    pub timeout: Duration,
    /// How often and how soon it is tried again.
    pub retries: policy::Retries,
}

impl Default for Defaults {
    fn default() -> Self {
        let retries =
            policy::Retries { attempts: 1, backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(5) };
        Self { timeout: Duration::from_secs(10), retries }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node_name: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            node_address: None,
            allow_opt_out: false,
            reserve: Duration::from_secs(5),
            concurrency: 64,
            max_age: Duration::from_hours(1),
            record_native_output: false,
            defaults: Defaults::default(),
        }
    }
}

//! What a hook does, one file a handler.
//!
//! A [`Handler`] makes one attempt at one delivery and says what came of it. Timeouts between attempts, retries, order and bounds are
//! the engine's; an attempt keeps to [`Delivery::deadline`] by itself, so that what it has seen until then is not lost, and leaves nothing
//! behind when its future is dropped.
//!
//! | file | what it is |
//! | --- | --- |
//! | `workshop` | makes the handler of a hook, with its clients |
//! | `exec`, `http_get`, `tcp_socket`, `sleep`, `webhook`, `grpc`, `command` | the handlers |
//! | `values`, `event`, `target` | what a delivery says: `$(NAME)`, the `CloudEvents` document, host and port |
//! | `http`, `tls`, `redial`, `trouble` | what the clients share: answers, trust, stale connections, words for errors |
//! | `tail`, [`tree`] | output of which the end is kept; processes below a process |

#![allow(clippy::result_large_err, reason = "success is as large: both carry the evidence")]

mod command;
mod event;
mod exec;
mod grpc;
mod http;
mod http_get;
mod redial;
mod sleep;
mod tail;
mod target;
mod tcp_socket;
mod tls;
pub mod tree;
mod trouble;
mod values;
mod webhook;
mod workshop;

#[cfg(test)]
mod testing;

pub use command::{ENV_MARK, NOT_STARTED};
pub use workshop::{Workshop, default_node_address};

/// The protocol of hook servers that `proto/hook.proto` writes down, generated at build time: crihook is its client; the server's side
/// is for the demo and the tests.
#[allow(missing_docs, clippy::pedantic, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("crihook.v1");
}

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::Boxed;
use super::policy::Hook;
use crate::lifecycle::{Address, Event};
use crate::trace::Context;

/// One attempt at telling a hook of an event.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The same for all attempts and redeliveries of an event to a hook.
    pub event_id: Arc<str>,
    /// What happened.
    pub event: Arc<Event>,
    /// Which hook it is for.
    pub hook: Arc<Hook>,
    /// The run that this one repeats because somebody asked for it; it was delivered under that id.
    pub replay_of: Option<Arc<str>>,
    /// Counted from 1.
    pub attempt: u32,
    /// When the attempt must be over.
    pub deadline: Instant,
    /// Where the pod is, if the hook needs to know.
    pub address: Option<Address>,
    /// The attempt's span, if it is traced: what its server does is a part of it.
    pub trace: Option<Context>,
}

/// What is kept of an attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Of `exec` and `command`; 128 + n for signal n.
    pub exit_code: Option<i32>,
    /// Of `httpGet` and `webhook`.
    pub http_status: Option<u16>,
    /// The last 64 KiB.
    pub stdout: Bytes,
    /// The last 64 KiB.
    pub stderr: Bytes,
    /// The first 4 KiB of an answer's body.
    pub body: Bytes,
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// It may succeed another time.
    Failed,
    /// It was not over at the deadline.
    TimedOut,
    /// Its server said no and why; asking again would be rude.
    Rejected,
    /// What it was for is gone: the container does not run any more.
    Gone,
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What may be done about it.
    pub kind: Failing,
    /// For people, without any secret: it is shown in a pod's events.
    pub message: String,
    /// What was seen until then.
    pub evidence: Evidence,
}

impl Failure {
    /// Whether it is its server's considered answer, and no sign that the server is unwell: a rejection, or an HTTP status below 500.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        self.kind == Failing::Rejected || self.evidence.http_status.is_some_and(|status| status < 500)
    }

    /// It may succeed another time; nothing was seen that is worth keeping.
    fn failed(message: impl Into<String>) -> Self {
        Self::of(Failing::Failed, message)
    }

    /// Nothing was seen that is worth keeping.
    fn of(kind: Failing, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), evidence: Evidence::default() }
    }
}

/// Does what a hook is for.
pub trait Handler: Send + Sync {
    /// One attempt.
    fn attempt(&self, delivery: Delivery) -> Boxed<'_, Result<Evidence, Failure>>;
}

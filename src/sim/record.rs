//! What the runtime was asked, call by call, for tests that must know in which order and with which bytes.
//!
//! Nothing is kept unless [`Options::record`](super::Options::record) asks for it; then the latest calls are, within two caps.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use prost::Message;

/// The calls that are kept at most; older ones are dropped.
const CALLS: usize = 1 << 16;
/// What their requests may hold together, in bytes; older ones are dropped.
const BYTES: usize = 64 << 20;
/// A gRPC message begins with a flag and its length.
const PREFIX: usize = 5;

/// A call, as the runtime got it.
#[derive(Debug, Clone)]
pub struct Heard {
    /// When its request was here to the last byte: before anything was done about it.
    pub at: Instant,
    /// The method's bare name.
    pub method: &'static str,
    /// The `grpc-timeout` as it was written, such as `2M`; `None`: no deadline.
    pub limit: Option<String>,
    /// The `traceparent` as it was written.
    pub trace: Option<String>,
    /// The whole body of the request, gRPC's prefix included.
    pub body: Bytes,
}

impl Heard {
    /// The request, as far as the view of CRI knows it.
    ///
    /// # Errors
    /// Fails if the body is no such message.
    pub fn request<M: Message + Default>(&self) -> Result<M, prost::DecodeError> {
        M::decode(self.body.get(PREFIX..).unwrap_or_default())
    }
}

/// The latest calls.
#[derive(Debug, Default)]
pub(super) struct Record(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    calls: VecDeque<Heard>,
    bytes: usize,
}

impl Record {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, heard: Heard) {
        let mut kept = self.kept();
        kept.bytes += heard.body.len();
        kept.calls.push_back(heard);
        while kept.calls.len() > CALLS || kept.bytes > BYTES {
            let Some(oldest) = kept.calls.pop_front() else { return };
            kept.bytes -= oldest.body.len();
        }
    }

    pub fn all(&self) -> Vec<Heard> {
        self.kept().calls.iter().cloned().collect()
    }
}

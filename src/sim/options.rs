//! What a test, a benchmark or the demo can ask of the embedded runtime.

use std::time::Duration;

use crate::cri::{Method, OTHER};

/// How the embedded runtime differs from an idle one that answers at once.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub(super) delays: Vec<(Method, Duration)>,
    pub(super) late: Vec<(Method, Duration)>,
    pub(super) image_bytes: usize,
    pub(super) record: bool,
}

/// There is no method of this name in CRI v1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CRI v1 has no method {0:?}; write its bare name, such as PullImage")]
pub struct UnknownMethod(String);

/// The method of this bare name.
pub(super) fn named(name: &str) -> Result<Method, UnknownMethod> {
    let found = Method::all().find(|known| known.name() == name && name != OTHER);
    found.ok_or_else(|| UnknownMethod(name.to_owned()))
}

impl Options {
    /// Every call of `method` (its bare name, such as `PullImage`) waits this long before it is looked at.
    ///
    /// # Errors
    /// Fails if CRI has no such method, since a delay that never happens would prove nothing.
    pub fn delay(mut self, method: &str, by: Duration) -> Result<Self, UnknownMethod> {
        self.delays.push((named(method)?, by));
        Ok(self)
    }

    /// Every call of `method` is done at once, whatever becomes of its client, and answered this much later.
    ///
    /// # Errors
    /// As [`Options::delay`].
    pub fn answer_late(mut self, method: &str, by: Duration) -> Result<Self, UnknownMethod> {
        self.late.push((named(method)?, by));
        Ok(self)
    }

    /// Holds so many images from the start that the answer of `ListImages` is about this many bytes long.
    ///
    /// Above [`MAX_MESSAGE`](super::MAX_MESSAGE) that answer fails with `OutOfRange`, as it does in gRPC's own servers.
    #[must_use]
    pub fn image_bytes(mut self, bytes: usize) -> Self {
        self.image_bytes = bytes;
        self
    }

    /// Keeps the latest calls for [`Runtime::heard`](super::Runtime::heard).
    #[must_use]
    pub fn record(mut self) -> Self {
        self.record = true;
        self
    }
}

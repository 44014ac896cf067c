//! What a test, a benchmark or the demo can ask of the embedded runtime.

use std::collections::BTreeMap;
use std::time::Duration;

/// How the embedded runtime differs from an idle one that answers at once.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub(super) delays: BTreeMap<String, Duration>,
    pub(super) image_bytes: usize,
}

impl Options {
    /// Every call of `method` (its bare name, such as `PullImage`) waits this long before it is looked at.
    #[must_use]
    pub fn delay(mut self, method: &str, by: Duration) -> Self {
        self.delays.insert(method.to_owned(), by);
        self
    }

    /// Holds so many images from the start that the answer of `ListImages` is about this many bytes long.
    ///
    /// Above [`MAX_MESSAGE`](super::MAX_MESSAGE) that answer fails with `OutOfRange`, as it does in gRPC's own servers.
    #[must_use]
    pub fn image_bytes(mut self, bytes: usize) -> Self {
        self.image_bytes = bytes;
        self
    }
}

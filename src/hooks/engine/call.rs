//! What a call tells its hooks, and what it is told.

use std::sync::Arc;

use tokio::time::Instant;

/// What a call allows its hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// When blocking runs must be over; `None`: only their own timeouts bound them.
    pub deadline: Option<Instant>,
    /// What a repeated call means.
    pub repeat: Repeat,
}

/// What a repeated call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The same event: it joins what runs, and what has succeeded for the subject at the point is not run again.
    Once,
    /// Another event.
    Each,
}

/// What firing came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// Whether the call waited for a blocking run, be it another call's.
    pub ran: bool,
    /// Whether a background run was queued, which should be safe before anybody goes on.
    pub queued: bool,
    /// Whether the call may go on.
    pub verdict: Result<(), Rejection>,
}

/// Nothing was fired.
impl Default for Fired {
    fn default() -> Self {
        Self { ran: false, queued: false, verdict: Ok(()) }
    }
}

/// A hook with `failurePolicy: Fail` has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy `{policy}`, hook `{hook}`: {cause}")]
pub struct Rejection {
    /// The policy's name.
    pub policy: Arc<str>,
    /// The hook's name.
    pub hook: Arc<str>,
    /// For people, without secrets.
    pub cause: String,
}

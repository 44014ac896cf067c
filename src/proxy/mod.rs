//! The data path: everything between the client's socket and the runtime's.
//!
//! ```text
//! listener ─▶ connection ─┬─ io, wake, settings     one task a client, in rounds
//!                         ├─ intercept              calls that somebody wants to see first
//!                         ├─ relay ─ pump, source   one a call: two streams tied together
//!                         ├─ upstream               the connections to the runtime
//!                         ├─ latency ─ tap, spans   where the time of a call goes; what of it is shown and told to others
//!                         └─ rescue                 errors → what goes over the wire
//! ```
//!
//! It runs on a current-thread runtime of its own and knows nothing of hooks: what it must not be slowed by cannot reach it. Whoever wants
//! to see calls before they go on is an [`Interceptor`]; whoever wants to see them pass has a [`Tap`].

mod connection;
mod heartbeat;
mod held;
mod intercept;
mod io;
mod latency;
mod listener;
mod pump;
mod relay;
mod rescue;
mod settings;
mod source;
mod spans;
mod tap;
mod upstream;
mod wake;

pub use connection::Shared;
pub use heartbeat::{Beats, Heartbeat};
pub use intercept::{Answer, Asked, Call, Decision, Interceptor, Judged, Nobody, Verdict, Witness};
pub use latency::{Finished, LatencyMetrics, Phase, Recorder, Shares};
pub use listener::{ListenError, Listener, run};
pub use rescue::Status;
pub use tap::{Begun, Body, Ended, Seen, Tap};

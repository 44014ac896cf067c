//! The two ends of a call and what stands between them, as the tests of this directory script them.
//!
//! `Stand` gives a place (a directory with sockets, with or without a crihook in it), `Upstream` and `Client` are peers on the
//! `h2` crate, `frames` is for what that crate is too well behaved to do, `record` holds what either end saw.
pub mod client;
pub mod exposition;
pub mod frames;
pub mod grpc;
mod probe;
pub mod process;
pub mod record;
pub mod shares;
pub mod stand;
pub mod upstream;

pub use client::Client;
pub use process::Crihook;
pub use stand::{Stand, same, until, within};
pub use upstream::{Call, Upstream};

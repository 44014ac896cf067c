//! CRI's vocabulary: the methods and codes that calls are labelled with, gRPC's framing, and the messages of the view.

mod code;
mod frame;
mod method;

pub use code::Code;
pub use frame::Meter;
pub use method::{Method, OTHER, Service};

/// The view of CRI v1 that `proto/cri.proto` writes down, generated at build time.
#[allow(missing_docs, clippy::pedantic, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

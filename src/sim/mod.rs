//! An embedded container runtime and a scripted kubelet: what `crihook demo` shows, what crictl can be pointed at, and
//! the fake upstream of the tests and benchmarks.
//!
//! The runtime keeps pods, containers and images in memory and runs nothing. It promises what a CRI client can tell
//! from outside: states and their order, unique names, prefix ids, idempotent stops and removals, grace periods,
//! statistics that grow, events in the order of what happened, and containerd's choice of status codes. The methods
//! that it answers are those of `proto/cri.proto`; the rest is Unimplemented. Real namespaces, logs, and the URLs of
//! Exec, Attach and `PortForward` are left to a real runtime.
//!
//! Nothing in it is random: the same calls in the same order give the same ids and addresses.
//!
//! How a container behaves is said in its annotations: [`STOP_TAKES`], [`EXIT_AFTER`], [`EXIT_CODE`].

mod container;
mod exec;
mod image;
mod image_service;
mod intake;
pub mod kubelet;
mod options;
mod record;
mod runtime;
mod runtime_service;
mod sandbox;
mod serve;
mod state;
mod stats;

pub use container::{EXIT_AFTER, EXIT_CODE, STOP_TAKES};
pub use options::{Options, UnknownMethod};
pub use record::Heard;
pub use runtime::Runtime;
pub use serve::serve;

/// The largest message in either direction: CRI's own limit, which the kubelet and containerd set too.
pub const MAX_MESSAGE: usize = 16 << 20;

//! Hooks in front of a real containerd: what the kubelet, the container and the people at the node see of them.

#[allow(dead_code, reason = "the integration tests use the rest of it")]
#[path = "../../integration/hooks/collector.rs"]
mod collector;
mod crash;
mod exec;
mod failure;
mod network;
mod restart;
pub mod scene;
mod sight;
mod start;
mod stop;
mod traces;

use crate::wait::until;

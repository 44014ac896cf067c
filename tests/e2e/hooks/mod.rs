//! Hooks in front of a real containerd: what the kubelet, the container and the people at the node see of them.

mod crash;
mod exec;
mod failure;
mod network;
mod restart;
pub mod scene;
mod sight;
mod start;
mod stop;

//! crihook stands between the kubelet and its container runtime, forwards every CRI call unchanged and measures each one.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`cli`] | arguments → config → [`app`]; exit codes |
//! | [`app`] | the composition root: binds, registers, composes, spawns, drains |
//! | [`config`] | flags, environment and file → one validated type |
//! | [`proxy`] | the data path |
//! | [`runtime`] | crihook's own client of the runtime |
//! | [`admin`] | HTTP for people and Prometheus |
//! | [`cri`] | CRI's vocabulary: methods, codes, frames, the view's messages |
//! | [`journal`] | the record of the hooks' runs |
//! | [`sim`] | an embedded runtime and a scripted kubelet, for the demo and the tests |
//! | [`drain`], [`metrics`], [`telemetry`] | what all share |
//!
//! Dependencies point one way: `main → cli → app → everything below`; `proxy → cri, drain, metrics`; `runtime → cri`; `sim → cri`;
//! `admin → metrics`; `config → the types that modules declare`; `cri`, `drain`, `metrics` and `telemetry` use nothing of the crate.
//! A test holds the crate to it.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod cri;
pub mod drain;
pub mod hooks;
pub mod journal;
pub mod lifecycle;
pub mod metrics;
pub mod proxy;
pub mod runtime;
pub mod sim;
pub mod telemetry;

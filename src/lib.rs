//! crihook stands between the kubelet and its container runtime, forwards every CRI call unchanged and measures each one.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`cli`] | arguments → config → [`app`]; exit codes |
//! | [`app`] | the composition root: binds, registers, composes, spawns, drains |
//! | [`config`] | flags, environment and file → one validated type |
//! | [`proxy`] | the data path |
//! | [`interposer`] | the one bridge: CRI call → event → hooks → verdict |
//! | [`hooks`] | policies, matching, the engine that runs hooks, and their handlers |
//! | [`sight`] | what passes by, seen: the pod's own hooks, the phases of a pod's life |
//! | [`identity`] | what requests say of pods and containers |
//! | [`inventory`] | the ids of containers and sandboxes → who they are |
//! | [`journal`] | the record of hooks' runs, on disk |
//! | [`runtime`] | crihook's own client of the runtime |
//! | [`admin`] | HTTP for people and Prometheus |
//! | [`cri`] | CRI's vocabulary: methods, codes, frames, patches, the view's messages |
//! | [`lifecycle`] | points, pods, containers, events, outcomes: plain types |
//! | [`sim`] | an embedded runtime and a scripted kubelet, for the demo and the tests |
//! | [`trace`] | spans, and the collector that they are told |
//! | [`clock`], [`drain`], [`metrics`], [`telemetry`] | what all share |
//!
//! Dependencies point one way: `main → cli → app → everything below`; `interposer → proxy, hooks, inventory, identity, cri, lifecycle, clock, drain, trace`;
//! `sight → proxy, inventory, identity, journal, cri, lifecycle, clock, metrics`; `identity → cri, lifecycle`; `proxy → cri, drain, metrics, trace`; `hooks → lifecycle, journal, clock, drain, metrics, trace`; `runtime → cri, lifecycle` and the traits of hooks and
//! inventory; `inventory → lifecycle`; `journal → lifecycle, metrics`; `admin → drain, metrics`; `sim → cri`; `config → the types that modules declare`;
//! `lifecycle → clock, trace`; `clock`, `cri`, `drain`, `metrics`, `telemetry` and `trace` use nothing of the crate.
//! A test holds the crate to it.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod cri;
pub mod drain;
pub mod hooks;
pub mod identity;
pub mod interposer;
pub mod inventory;
pub mod journal;
pub mod lifecycle;
pub mod metrics;
pub mod proxy;
pub mod runtime;
pub mod sight;
pub mod sim;
pub mod telemetry;
pub mod trace;

//! Hooks as a node's operator sees them: `crihook serve` in front of the embedded runtime, policies in its directory, servers that
//! hooks go to, and a client that makes the kubelet's calls.
//!
//! What the runtime was asked is read from its record, what hooks did from the servers' own records and from crihook's runs. Nothing
//! here takes a time to be long enough: what must have happened is waited for, and what must not happen is looked for after something
//! that comes later.

mod browser;
mod collector;
pub mod cri;
pub mod node;
pub mod server;

mod bad_servers;
mod commands;
mod crowd;
mod doubt;
mod grpc;
mod identity;
mod isolation;
pub mod look;
mod measures;
mod order;
mod page;
mod pod_handlers;
mod post_start;
mod pre_stop;
mod rejections;
mod reload;
mod repeats;
mod retries;
mod sight;
mod table;
mod teardown;
mod traces;
mod untouched;

use serde_json::{Value, json};

use crate::wire::peer::{until, within};
use cri::{Cri, container, pod};
use node::{Node, Place};
use server::{HookServer, Reply};

/// A policy for the pods of the namespace `payments`.
pub fn policy(name: &str, hooks: &[Value]) -> String {
    policy_for(name, &json!({"namespaces": ["payments"]}), hooks)
}

/// A policy document. JSON is YAML.
pub fn policy_for(name: &str, matching: &Value, hooks: &[Value]) -> String {
    let document = json!({
        "apiVersion": "crihook.dev/v1",
        "kind": "HookPolicy",
        "metadata": {"name": name},
        "spec": {"match": matching, "hooks": hooks},
    });
    format!("{document}\n")
}

/// A hook with its handler and whatever else `more` says.
pub fn hook(name: &str, on: &str, more: &Value) -> Value {
    let mut hook = json!({"name": name, "on": on});
    for (key, value) in more.as_object().expect("keys of a hook") {
        hook[key] = value.clone();
    }
    hook
}

/// A webhook to this server, and whatever else `more` says.
pub fn webhook(name: &str, on: &str, server: &HookServer, more: &Value) -> Value {
    let mut hook = hook(name, on, more);
    hook["webhook"] = json!({"url": server.url("/v1/events")});
    hook
}

/// Nothing more.
pub fn plain() -> Value {
    json!({})
}

/// Whether a text tells of everything in `words`.
fn tells(text: &str, words: &[&str]) -> bool {
    words.iter().all(|word| text.contains(word))
}

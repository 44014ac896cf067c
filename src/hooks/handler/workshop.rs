//! Makes the handlers of hooks: once for each hook of a policy set, so that clients and their connections outlive attempts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

use super::command::Command;
use super::exec::Exec;
use super::grpc::Grpc;
use super::http_get::HttpGet;
use super::sleep::Sleep;
use super::tcp_socket::TcpSocket;
use super::tls::Trust;
use super::values::Node;
use super::webhook::Webhook;
use super::{Handler, http};
use crate::hooks::Runtime;
use crate::hooks::policy::{Action, Hook};

/// What handlers are made of.
pub struct Workshop {
    /// Runs `exec`.
    pub runtime: Arc<dyn Runtime>,
    /// For `$(NODE_NAME)` and events.
    pub node_name: String,
    /// Where pods are that share the node's network; see [`default_node_address`].
    pub node_address: IpAddr,
    /// The program that watches over a `command` and its descendants: crihook itself, called with `__command`.
    pub supervisor: PathBuf,
    trust: Trust,
}

impl Workshop {
    /// With this very program as the supervisor of commands.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, node_name: String, node_address: IpAddr) -> Self {
        // Not its path: the file there may be another version by the time a command runs.
        let supervisor = PathBuf::from("/proc/self/exe");
        Self { runtime, node_name, node_address, supervisor, trust: Trust::new() }
    }

    /// The handler of a hook. Must be called within a tokio runtime, on which its connections then live.
    ///
    /// # Errors
    /// Fails, in words for people, for what only a client notices: certificates and keys that are none.
    pub fn build(&self, hook: &Arc<Hook>) -> Result<Box<dyn Handler>, String> {
        let node = Node { name: self.node_name.as_str().into(), address: self.node_address };
        Ok(match &hook.action {
            Action::Exec(command) => Box::new(Exec { runtime: self.runtime.clone(), node, command: command.clone() }),
            Action::HttpGet(spec) => {
                let client = http::client(&self.trust, &spec.tls, http::Purpose::Get)?;
                Box::new(HttpGet { node, spec: spec.clone(), client })
            }
            Action::TcpSocket(spec) => Box::new(TcpSocket { node, spec: spec.clone() }),
            Action::Sleep(duration) => Box::new(Sleep(*duration)),
            Action::Webhook(spec) => Box::new(Webhook::new(node, spec, &self.trust)?),
            Action::Grpc(spec) => Box::new(Grpc::new(node, spec, &self.trust)?),
            Action::Command(spec) => Box::new(Command {
                runtime: self.runtime.clone(),
                node,
                spec: spec.clone(),
                supervisor: self.supervisor.clone(),
            }),
        })
    }
}

/// The address of the default route's interface, else loopback.
#[must_use]
pub fn default_node_address() -> IpAddr {
    // Connecting a datagram socket chooses the route and sends nothing; the addresses are reserved for documentation
    // (RFC 5737, RFC 3849), so that only the default route leads there.
    let towards = |from: IpAddr, to: &str| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    towards(IpAddr::V4(Ipv4Addr::UNSPECIFIED), "192.0.2.1")
        .or_else(|| towards(IpAddr::V6(Ipv6Addr::UNSPECIFIED), "2001:db8::1"))
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_address_is_one_of_its_own() {
        let address = default_node_address();
        assert!(!address.is_unspecified());
        UdpSocket::bind((address, 0)).expect("only an address of this machine can be bound");
    }
}

//! Whom `httpGet` and `tcpSocket` go to: the pod, or a host that the policy names.

use super::Failure;
use super::values::Values;
use crate::hooks::policy::{PortRef, Template};
use crate::lifecycle::Address;

/// A host, by name or address without brackets, and a port of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Target {
    /// Where this delivery goes.
    pub(super) fn of(values: Values<'_>, host: Option<&Template>, port: &PortRef) -> Result<Self, Failure> {
        let host = match host {
            Some(host) => values.fill(host),
            None => of_pod(values)?,
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host).to_owned();
        if host.is_empty() {
            return Err(Failure::failed("the host of the policy is empty"));
        }
        Ok(Self { host, port: number(values, port)? })
    }

    /// Both, as URLs and people write them.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            return format!("[{}]:{}", self.host, self.port);
        }
        format!("{}:{}", self.host, self.port)
    }
}

fn of_pod(values: Values<'_>) -> Result<String, Failure> {
    match values.delivery.address {
        Some(Address::Nowhere) => Err(Failure::failed("the pod has no address")),
        None => Err(Failure::failed("the pod's address is not known")),
        Some(address) => Ok(values.node.ip(address).map(|ip| ip.to_string()).unwrap_or_default()),
    }
}

fn number(values: Values<'_>, port: &PortRef) -> Result<u16, Failure> {
    let name = match port {
        PortRef::Number(number) => return Ok(*number),
        PortRef::Name(name) => name,
    };
    let Some(container) = &values.delivery.event.container else {
        return Err(Failure::failed(format!("there is no container whose port could be called `{name}`")));
    };
    container
        .port(name)
        .ok_or_else(|| Failure::failed(format!("the container `{}` has no port called `{name}`", container.name)))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::super::testing;
    use super::*;

    fn target(address: Option<Address>, host: Option<&str>, port: &PortRef) -> Result<String, String> {
        let mut delivery = testing::delivery(testing::hook("PreStop", testing::sleep()));
        delivery.address = address;
        let node = testing::node();
        let host = host.map(testing::template);
        let found = Target::of(Values { delivery: &delivery, node: &node }, host.as_ref(), port);
        found.map(|target| target.authority()).map_err(|failure| failure.message)
    }

    #[test]
    fn it_is_the_pod_the_node_or_the_host_that_the_policy_names() {
        let http = PortRef::Name("http".into());
        let six = Address::Pod(IpAddr::V6(Ipv6Addr::LOCALHOST));
        assert_eq!(target(Some(six), None, &http).unwrap(), "[::1]:8080");
        assert_eq!(target(Some(Address::Node), None, &PortRef::Number(9)).unwrap(), "127.0.0.1:9");
        assert_eq!(target(None, Some("$(POD_NAME).example"), &http).unwrap(), "web-0.example:8080");
        assert_eq!(target(None, Some("[::2]"), &http).unwrap(), "[::2]:8080");
    }

    #[test]
    fn what_cannot_be_reached_is_said() {
        let number = PortRef::Number(9);
        assert_eq!(target(Some(Address::Nowhere), None, &number).unwrap_err(), "the pod has no address");
        assert_eq!(target(None, None, &number).unwrap_err(), "the pod's address is not known");
        assert_eq!(
            target(Some(Address::Node), None, &PortRef::Name("admin".into())).unwrap_err(),
            "the container `main` has no port called `admin`"
        );
    }
}

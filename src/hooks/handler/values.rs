//! What `$(NAME)` stands for in a delivery.

use std::net::IpAddr;
use std::sync::Arc;

use super::Delivery;
use crate::hooks::policy::{Name, Template};
use crate::lifecycle::Address;

/// What handlers know of their node.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// For `$(NODE_NAME)` and events.
    pub(super) name: Arc<str>,
    /// Where pods are that share its network.
    pub(super) address: IpAddr,
}

impl Node {
    /// The IP that an address stands for.
    pub(super) fn ip(&self, address: Address) -> Option<IpAddr> {
        match address {
            Address::Pod(ip) => Some(ip),
            Address::Node => Some(self.address),
            Address::Nowhere => None,
        }
    }
}

/// The values of one delivery.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    /// Whose values.
    pub(super) delivery: &'a Delivery,
    /// Where.
    pub(super) node: &'a Node,
}

impl Values<'_> {
    /// What a name stands for; empty where there is nothing.
    pub(super) fn get(&self, name: Name) -> String {
        let Delivery { event, .. } = self.delivery;
        let pod = &event.pod;
        let container = event.container.as_ref();
        match name {
            Name::PodName => pod.name.clone(),
            Name::PodNamespace => pod.namespace.clone(),
            Name::PodUid => pod.uid.clone(),
            Name::PodIp => {
                let ip = self.delivery.address.and_then(|address| self.node.ip(address));
                ip.map(|ip| ip.to_string()).unwrap_or_default()
            }
            Name::ContainerName => container.map(|container| container.name.clone()).unwrap_or_default(),
            Name::ContainerId => container.map(|container| container.id.clone()).unwrap_or_default(),
            Name::SandboxId => pod.sandbox_id.clone(),
            Name::Image => container.map(|container| container.image.clone()).unwrap_or_default(),
            Name::NodeName => self.node.name.to_string(),
            Name::EventId => self.delivery.event_id.to_string(),
            Name::Attempt => self.delivery.attempt.to_string(),
            Name::GraceSeconds => event.grace.map(|grace| grace.as_secs().to_string()).unwrap_or_default(),
        }
    }

    /// A template with its names filled in.
    pub(super) fn fill(&self, template: &Template) -> String {
        template.expand(|name| self.get(name))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::super::testing;
    use super::*;

    fn all(delivery: &Delivery) -> String {
        let values = Values { delivery, node: &testing::node() };
        let lines: Vec<_> = Name::ALL.iter().map(|name| format!("{}={}", name.text(), values.get(*name))).collect();
        lines.join("\n") + "\n"
    }

    #[test]
    fn every_name_has_its_value() {
        let mut delivery = testing::delivery(testing::hook("PreStop", testing::sleep()));
        delivery.address = Some(Address::Pod(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9))));
        insta::assert_snapshot!(all(&delivery), @r"
        POD_NAME=web-0
        POD_NAMESPACE=payments
        POD_UID=uid-1
        POD_IP=10.0.0.9
        CONTAINER_NAME=main
        CONTAINER_ID=c1
        SANDBOX_ID=s1
        IMAGE=registry.example/web:1
        NODE_NAME=node-7
        EVENT_ID=event-1
        ATTEMPT=2
        GRACE_SECONDS=7
        ");
        delivery.address = Some(Address::Node);
        assert!(all(&delivery).contains("POD_IP=127.0.0.1\n"), "a pod on the node's network has the node's address");
        delivery.address = Some(Address::Nowhere);
        assert!(all(&delivery).contains("POD_IP=\n"));
    }

    #[test]
    fn at_a_sandboxs_point_the_names_of_containers_are_empty() {
        let told = all(&testing::sandbox_delivery(testing::hook("PostRunPodSandbox", testing::sleep())));
        assert!(told.contains("CONTAINER_NAME=\nCONTAINER_ID=\nSANDBOX_ID=s1\nIMAGE=\n"), "{told}");
        assert!(told.contains("GRACE_SECONDS=\n"), "{told}");
    }
}

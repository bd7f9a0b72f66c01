//! Which endpoints of a Service port take new connections, as kube-proxy decides it.
//!
//! - An endpoint offers a Service port if its subset lists a port of the same name and protocol; a Service port without a name
//!   is offered by an endpoint port without one. The port number is the endpoint's own: a named target port may differ
//!   between Pods.
//! - Ready endpoints count. Where none is ready, those count that are terminating but still serving.
//! - Endpoints that appear in several slices, as they do while slices are rebalanced, count once; ready in any means ready.

use std::net::{IpAddr, SocketAddr};

use lbex_core::intent::is_unicast;
use lbex_core::model::{Endpoint, EndpointSubset, Service, ServicePort};
use lbex_core::rejection::Reason;
use lbex_core::snapshot::Snapshot;

/// An endpoint that takes new connections of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CountingEndpoint<'a> {
    /// Its address and its own port number, which is never 0.
    pub address: SocketAddr,
    /// The node it runs on, where it says so.
    pub node: Option<&'a str>,
}

/// The endpoints of one port that count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counting<'a> {
    /// Sorted, each once. Two may differ in their node alone.
    pub endpoints: Vec<CountingEndpoint<'a>>,
    /// What is worth telling: [`Reason::AllTerminating`], [`Reason::NotUnicast`].
    pub notes: Vec<Reason>,
}

/// The endpoints of `port` that count. Costs work in proportion to the Service's endpoints.
pub fn counting<'a>(cluster: &'a Snapshot, service: &Service, port: &ServicePort) -> Counting<'a> {
    let (mut ready, mut terminating, mut unusable) = (Vec::new(), Vec::new(), Vec::new());
    for subset in cluster.endpoints(&service.key) {
        for number in port_numbers(subset, port) {
            for endpoint in &subset.endpoints {
                let list = match condition(endpoint) {
                    Condition::Ready => &mut ready,
                    Condition::ServingWhileTerminating => &mut terminating,
                    Condition::Neither => continue,
                };
                match usable(endpoint.address) {
                    Some(ip) => list.push(CountingEndpoint {
                        address: SocketAddr::new(ip, number),
                        node: endpoint.node.as_deref().filter(|name| !name.is_empty()),
                    }),
                    None => unusable.push(endpoint.address),
                }
            }
        }
    }
    let mut notes = Vec::new();
    unusable.sort_unstable();
    unusable.dedup();
    if let Some(&example) = unusable.first() {
        notes.push(Reason::NotUnicast { count: unusable.len(), example });
    }
    if ready.is_empty() && !terminating.is_empty() {
        notes.push(Reason::AllTerminating);
        ready = terminating;
    }
    ready.sort_unstable();
    ready.dedup();
    Counting { endpoints: ready, notes }
}

/// The address as traffic can be sent to it: IPv4 inside IPv6 becomes IPv4. `None` where it is not unicast.
pub(crate) fn usable(address: IpAddr) -> Option<IpAddr> {
    Some(address.to_canonical()).filter(is_unicast)
}

/// The numbers under which the endpoints of a subset offer a Service port. More than one only where two of the subset's ports
/// have the same name and protocol, which an API server refuses.
fn port_numbers<'a>(subset: &'a EndpointSubset, port: &'a ServicePort) -> impl Iterator<Item = u16> + 'a {
    let offered = subset.ports.iter().filter(|p| p.name == port.name && p.protocol == port.protocol);
    offered.map(|p| p.port).filter(|&number| number > 0)
}

enum Condition {
    Ready,
    ServingWhileTerminating,
    Neither,
}

fn condition(endpoint: &Endpoint) -> Condition {
    if endpoint.ready {
        Condition::Ready
    } else if endpoint.serving && endpoint.terminating {
        Condition::ServingWhileTerminating
    } else {
        Condition::Neither
    }
}

#[cfg(test)]
mod tests;

//! Upstream type `node`: node addresses and the node port.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use lbex_core::intent::{Destination, Intent, NodeSet};
use lbex_core::model::{Node, NodeAddressType, Service, ServicePort};
use lbex_core::rejection::Reason;
use lbex_core::resolver::{Inputs, NodeInputs, Resolved, UpstreamResolver};
use lbex_core::snapshot::Snapshot;

use crate::endpoints::{Counting, counting, usable};

/// Sends traffic to nodes, where kube-proxy (or what stands in for it) listens on the node port.
///
/// - Node set `host`: nodes that run at least one counting endpoint of the port, Ready or not.
/// - Node set `all`: every available node that is Ready; where none is, every available node.
///
/// A node is available unless it is being deleted, is about to be removed by the cluster autoscaler, or has the label that
/// excludes it from external load balancers.
///
/// Of each node the first address of the wanted type counts, one for each address family of the Service: kube-proxy listens
/// on no other. A Service whose ClusterIPs are not known (in manifest files) has both families.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeResolver;

impl UpstreamResolver for NodeResolver {
    fn inputs(&self, intent: &Intent) -> Inputs {
        match choice(intent).0 {
            NodeSet::Host => Inputs { endpoints: true, nodes: NodeInputs::OfEndpoints },
            NodeSet::All => Inputs { endpoints: false, nodes: NodeInputs::All },
        }
    }

    /// Fails with [`Reason::NoNodePort`] where the port has no node port.
    fn resolve(
        &self,
        cluster: &Snapshot,
        service: &Service,
        intent: &Intent,
        port: &ServicePort,
    ) -> Result<Resolved, Reason> {
        let node_port = port.node_port.filter(|&number| number > 0).ok_or(Reason::NoNodePort)?;
        let (set, address_type) = choice(intent);
        let Chosen { nodes, mut notes } = match set {
            NodeSet::Host => host(cluster, counting(cluster, service, port)),
            NodeSet::All => all(cluster),
        };
        let wanted = Wanted::of(service, address_type);
        let mut targets = Vec::with_capacity(nodes.len());
        let mut without = Without::default();
        for node in nodes {
            let before = targets.len();
            targets.extend(wanted.addresses(node).map(|ip| SocketAddr::new(ip, node_port)));
            if targets.len() == before {
                without.add(&node.name);
            }
        }
        notes.extend(without.first.map(|example| Reason::NodeWithoutAddress {
            count: without.count,
            example: example.to_owned(),
            wanted: wanted.as_str(),
        }));
        targets.sort_unstable();
        targets.dedup();
        Ok(Resolved { targets, notes })
    }
}

fn choice(intent: &Intent) -> (NodeSet, NodeAddressType) {
    match intent.destination {
        Destination::Cluster { node_set, node_address, .. } => (node_set, node_address),
        Destination::Dns { .. } => <_>::default(),
    }
}

/// Nodes to send traffic to, and what is worth telling about those that are not among them.
struct Chosen<'a> {
    nodes: Vec<&'a Node>,
    notes: Vec<Reason>,
}

/// A count with an example: the smallest name.
#[derive(Default)]
struct Without<'a> {
    count: usize,
    first: Option<&'a str>,
}

impl<'a> Without<'a> {
    fn add(&mut self, name: &'a str) {
        self.count += 1;
        self.first = Some(self.first.map_or(name, |first| first.min(name)));
    }
}

/// Node set `host`: the available nodes that the counting endpoints run on.
fn host<'a>(cluster: &'a Snapshot, counting: Counting<'a>) -> Chosen<'a> {
    let Counting { endpoints, mut notes } = counting;
    let (mut unknown, mut names) = (Without::default(), BTreeSet::new());
    for endpoint in &endpoints {
        match endpoint.node {
            Some(name) if cluster.node(name).is_some() => drop(names.insert(name)),
            Some(name) => unknown.add(name),
            None => unknown.count += 1,
        }
    }
    if unknown.count > 0 {
        let example = unknown.first.unwrap_or_default().to_owned();
        notes.push(Reason::NodeUnknown { count: unknown.count, example });
    }
    let known: Vec<_> = names.into_iter().filter_map(|name| cluster.node(name)).collect();
    available(Chosen { nodes: known, notes })
}

/// Node set `all`: the available nodes that are Ready, or all available ones where none is.
fn all(cluster: &Snapshot) -> Chosen<'_> {
    let mut chosen = available(Chosen { nodes: cluster.nodes().collect(), notes: Vec::new() });
    let count = chosen.nodes.len();
    if chosen.nodes.iter().any(|node| node.ready) {
        chosen.nodes.retain(|node| node.ready);
    } else if count > 0 {
        chosen.notes.push(Reason::NoNodeReady { count });
    }
    chosen
}

/// Leaves out the nodes that are not available; loudly where that leaves none.
fn available(mut chosen: Chosen<'_>) -> Chosen<'_> {
    let count = chosen.nodes.len();
    chosen.nodes.retain(|node| !node.leaving && !node.excluded);
    if chosen.nodes.is_empty() && count > 0 {
        chosen.notes.push(Reason::NoNodeAvailable { count });
    }
    chosen
}

/// Which addresses of a node are wanted.
struct Wanted {
    address_type: NodeAddressType,
    v4: bool,
    v6: bool,
}

impl Wanted {
    fn of(service: &Service, address_type: NodeAddressType) -> Self {
        let ips = &service.cluster_ips;
        let has = |family: fn(&IpAddr) -> bool| ips.is_empty() || ips.iter().any(family);
        Self { address_type, v4: has(IpAddr::is_ipv4), v6: has(IpAddr::is_ipv6) }
    }

    /// The first address of each wanted family.
    fn addresses(&self, node: &Node) -> impl Iterator<Item = IpAddr> {
        let first = |family: fn(&IpAddr) -> bool| {
            let of_type = node.addresses.iter().filter(|(of_type, _)| *of_type == self.address_type);
            of_type.filter_map(|&(_, ip)| usable(ip)).find(family)
        };
        let v4 = if self.v4 { first(IpAddr::is_ipv4) } else { None };
        let v6 = if self.v6 { first(IpAddr::is_ipv6) } else { None };
        v4.into_iter().chain(v6)
    }

    /// In words, for [`Reason::NodeWithoutAddress`].
    fn as_str(&self) -> &'static str {
        match (self.address_type, self.v4, self.v6) {
            (NodeAddressType::Internal, true, false) => "internal IPv4",
            (NodeAddressType::Internal, false, true) => "internal IPv6",
            (NodeAddressType::Internal, ..) => "internal IP",
            (NodeAddressType::External, true, false) => "external IPv4",
            (NodeAddressType::External, false, true) => "external IPv6",
            (NodeAddressType::External, ..) => "external IP",
        }
    }
}

#[cfg(test)]
mod tests;

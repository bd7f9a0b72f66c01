//! What holds of every resolver in every cluster.

use lbex_core::intent::is_unicast;
use lbex_core::model::{
    Endpoint, EndpointList, EndpointPort, EndpointSubset, Node, NodeAddressType, Protocol, Service,
};
use lbex_core::rejection::Reason;
use lbex_core::resolver::{NodeInputs, Resolved};
use lbex_core::snapshot::{Change, Snapshot};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::testing::{ip, parsed, service, slice};

const ADDRESSES: [&str; 9] =
    ["10.1.0.1", "10.1.0.2", "10.1.0.3", "fd01::1", "fd01::2", "0.0.0.0", "224.0.0.1", "ff02::1", "::ffff:10.1.0.1"];

fn node_name() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "c", "d"])
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let node = proptest::option::of(node_name());
    (select(&ADDRESSES[..]), any::<(bool, bool, bool)>(), node).prop_map(|(address, conditions, node)| {
        let (ready, serving, terminating) = conditions;
        Endpoint { address: ip(address), ready, serving, terminating, node: node.map(Into::into) }
    })
}

fn endpoint_port() -> impl Strategy<Value = EndpointPort> {
    let protocol = select(vec![Some(Protocol::Tcp), Some(Protocol::Udp), None]);
    (select(vec!["http", "admin", ""]), protocol, select(vec![0_u16, 80, 8080]))
        .prop_map(|(name, protocol, port)| EndpointPort { name: name.into(), protocol, port })
}

fn subset() -> impl Strategy<Value = EndpointSubset> {
    (vec(endpoint_port(), 0..4), vec(endpoint(), 0..6))
        .prop_map(|(ports, endpoints)| EndpointSubset { ports, endpoints })
}

fn slices() -> impl Strategy<Value = Vec<EndpointList>> {
    let named = |subsets: Vec<EndpointSubset>| -> Vec<EndpointList> {
        subsets.into_iter().enumerate().map(|(number, subset)| slice(&format!("web-{number}"), subset)).collect()
    };
    vec(subset(), 0..4).prop_map(named)
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let types = select(vec![NodeAddressType::Internal, NodeAddressType::External]);
    let addresses = vec((types, select(&ADDRESSES[..]).prop_map(ip)), 0..4);
    let node = (node_name(), addresses, any::<(bool, bool, bool)>()).prop_map(|(name, addresses, flags)| {
        let (ready, leaving, excluded) = flags;
        Node { name: name.into(), addresses, ready, leaving, excluded }
    });
    // Of two nodes with one name the last would count: let there be one.
    vec(node, 0..5).prop_map(|mut nodes: Vec<Node>| {
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes.dedup_by(|a, b| a.name == b.name);
        nodes
    })
}

fn a_service() -> impl Strategy<Value = Service> {
    let annotations =
        (select(vec!["node", "pod", "cluster-ip"]), select(vec!["host", "all"]), select(vec!["internal", "external"]));
    let port = (select(vec!["http", "admin", ""]), proptest::option::of(0_u16..3), 0_u16..3);
    let ips = vec(select(&ADDRESSES[..]).prop_map(ip), 0..3);
    (annotations, port, ips, any::<bool>()).prop_map(|((upstream, set, address), port, cluster_ips, local)| {
        let annotations = [("upstream-type", upstream), ("node-set", set), ("node-address-type", address)];
        let mut service = Service { cluster_ips, local_traffic_only: local, ..service(&annotations) };
        (service.ports[0].name, service.ports[0].node_port, service.ports[0].port) = (port.0.into(), port.1, port.2);
        service
    })
}

fn resolved(nodes: Vec<Node>, slices: Vec<EndpointList>, service: &Service) -> Result<Resolved, Reason> {
    let mut cluster = Snapshot::default();
    for node in nodes {
        cluster.apply(Change::Node(node));
    }
    for list in slices {
        cluster.apply(Change::Endpoints(list));
    }
    let intent = parsed(service);
    let resolvers = crate::standard();
    resolvers[&intent.upstream_type().unwrap()].resolve(&cluster, service, &intent, &service.ports[0])
}

/// The same endpoints in another order, in slices of other names; some of them twice.
fn rearranged(slices: &[EndpointList], turn: usize) -> Vec<EndpointList> {
    let mut subsets: Vec<_> = slices.iter().flat_map(|list| list.subsets.to_vec()).collect();
    for subset in &mut subsets {
        subset.ports.reverse();
        if !subset.endpoints.is_empty() {
            let by = turn % subset.endpoints.len();
            subset.endpoints.rotate_left(by);
        }
    }
    subsets.extend(subsets.first().cloned());
    if !subsets.is_empty() {
        let by = turn % subsets.len();
        subsets.rotate_left(by);
    }
    subsets.into_iter().enumerate().map(|(number, subset)| slice(&format!("other-{number}"), subset)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_target_can_be_sent_to(nodes in nodes(), slices in slices(), service in a_service()) {
        if let Ok(resolved) = resolved(nodes, slices, &service) {
            for target in &resolved.targets {
                prop_assert!(target.port() > 0 && is_unicast(&target.ip()), "{target}");
                prop_assert_eq!(target.ip(), target.ip().to_canonical());
            }
            prop_assert!(resolved.targets.is_sorted_by(|a, b| a < b), "sorted, each once: {:?}", resolved.targets);
            prop_assert!(resolved.notes.len() <= 4, "{:?}", resolved.notes);
        }
    }

    #[test]
    fn order_makes_no_difference(
        nodes in nodes(), slices in slices(), service in a_service(), turn in any::<usize>(),
    ) {
        let reversed = nodes.iter().rev().cloned().collect();
        let other = resolved(reversed, rearranged(&slices, turn), &service);
        prop_assert_eq!(resolved(nodes, slices, &service), other);
    }

    /// Else ports would change hands with endpoints and nodes.
    #[test]
    fn an_error_depends_on_the_service_alone(nodes in nodes(), slices in slices(), service in a_service()) {
        let nothing = resolved(Vec::new(), Vec::new(), &service);
        prop_assert_eq!(resolved(nodes, slices, &service).err(), nothing.err());
    }

    /// The planner resolves again only when an input changes.
    #[test]
    fn what_is_no_input_makes_no_difference(nodes in nodes(), slices in slices(), service in a_service()) {
        let intent = parsed(&service);
        let inputs = crate::standard()[&intent.upstream_type().unwrap()].inputs(&intent);
        let whole = resolved(nodes.clone(), slices.clone(), &service);
        if !inputs.endpoints {
            prop_assert_eq!(&whole, &resolved(nodes.clone(), Vec::new(), &service));
        }
        let named = |node: &Node| {
            let mut endpoints = slices.iter().flat_map(|l| l.subsets.iter()).flat_map(|s| &s.endpoints);
            endpoints.any(|e| e.node.as_ref() == Some(&node.name))
        };
        let inputs_only = nodes.iter().filter(|node| match inputs.nodes {
            NodeInputs::None => false,
            NodeInputs::OfEndpoints => named(node),
            NodeInputs::All => true,
        });
        prop_assert_eq!(&whole, &resolved(inputs_only.cloned().collect(), slices.clone(), &service));
    }
}

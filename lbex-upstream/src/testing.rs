//! Small clusters for tests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lbex_core::annotations;
use lbex_core::intent::{self, Asks, Intent};
use lbex_core::model::{
    Endpoint, EndpointList, EndpointListKey, EndpointPort, EndpointSubset, EndpointsApi, Node, NodeAddressType,
    Protocol, Service, ServicePort, ServiceType,
};
use lbex_core::names::ServiceKey;
use lbex_core::rejection::Reason;
use lbex_core::resolver::{Resolved, UpstreamResolver};
use lbex_core::settings::PlanSettings;
use lbex_core::snapshot::{Change, Snapshot};

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn key() -> ServiceKey {
    ServiceKey::new("default", "web").unwrap()
}

/// A TCP port: 80 at the ClusterIP, node port 30080.
pub(crate) fn port(name: &str) -> ServicePort {
    ServicePort { name: name.into(), protocol: Some(Protocol::Tcp), port: 80, node_port: Some(30080) }
}

/// A dual-stack Service with these annotations (without `loadbalancer.lbex/`) and the port `http`.
pub(crate) fn service(annotations: &[(&str, &str)]) -> Service {
    let annotations =
        annotations.iter().map(|(name, value)| (format!("loadbalancer.lbex/{name}").into(), (*value).into()));
    Service {
        key: key(),
        uid: "".into(),
        created: None,
        kind: ServiceType::NodePort,
        load_balancer_class: None,
        annotations: annotations.chain([(annotations::CLASS.into(), annotations::CLASS_VALUE.into())]).collect(),
        unquoted: Vec::new(),
        cluster_ips: vec![ip("10.96.0.1"), ip("fd00:96::1")],
        headless: false,
        external_name: None,
        ports: vec![port("http")],
        client_ip_affinity: false,
        local_traffic_only: false,
        source_ranges: Vec::new(),
    }
}

pub(crate) fn parsed(service: &Service) -> Intent {
    let settings = PlanSettings { require_port: false, ..PlanSettings::default() };
    intent::parse(service, Asks::ByAnnotation, &settings).intent.unwrap()
}

/// A Ready node with these addresses, all internal.
pub(crate) fn node(name: &str, internal: &[&str]) -> Node {
    let addresses = internal.iter().map(|a| (NodeAddressType::Internal, ip(a))).collect();
    Node { name: name.into(), addresses, ready: true, leaving: false, excluded: false }
}

/// The nodes `a` (10.0.0.1, fd00::1), `b` and `c` alike.
pub(crate) fn three_nodes() -> Vec<Node> {
    let named = |(number, name): (usize, &&str)| {
        let number = number + 1;
        node(name, &[&format!("10.0.0.{number}"), &format!("fd00::{number}")])
    };
    ["a", "b", "c"].iter().enumerate().map(named).collect()
}

/// A ready endpoint on a node (`""`: it names none).
pub(crate) fn ready(address: &str, node: &str) -> Endpoint {
    let node: Option<Arc<str>> = (!node.is_empty()).then(|| node.into());
    Endpoint { address: ip(address), ready: true, serving: true, terminating: false, node }
}

/// One that takes no connections: not ready, and not serving either.
pub(crate) fn unready(address: &str, node: &str) -> Endpoint {
    Endpoint { ready: false, serving: false, ..ready(address, node) }
}

/// One that is terminating but still serving.
pub(crate) fn terminating(address: &str, node: &str) -> Endpoint {
    Endpoint { ready: false, terminating: true, ..ready(address, node) }
}

/// One that is terminating and no longer serving.
pub(crate) fn gone(address: &str, node: &str) -> Endpoint {
    Endpoint { serving: false, ..terminating(address, node) }
}

/// Endpoints that offer TCP ports.
pub(crate) fn subset(ports: &[(&str, u16)], endpoints: Vec<Endpoint>) -> EndpointSubset {
    let tcp = |&(name, port): &(&str, u16)| EndpointPort { name: name.into(), protocol: Some(Protocol::Tcp), port };
    EndpointSubset { ports: ports.iter().map(tcp).collect(), endpoints }
}

/// An EndpointSlice of the Service.
pub(crate) fn slice(name: &str, subset: EndpointSubset) -> EndpointList {
    let key = EndpointListKey { api: EndpointsApi::Slices, namespace: "default".into(), name: name.into() };
    EndpointList { key, service: self::key(), subsets: [subset].into() }
}

/// A cluster of these nodes and one slice whose endpoints offer `http` at port 8080.
pub(crate) fn cluster(nodes: Vec<Node>, endpoints: Vec<Endpoint>) -> Snapshot {
    cluster_of_slices(nodes, vec![slice("web-1", subset(&[("http", 8080)], endpoints))])
}

pub(crate) fn cluster_of_slices(nodes: Vec<Node>, slices: Vec<EndpointList>) -> Snapshot {
    let mut cluster = Snapshot::default();
    cluster.apply(Change::AllNodes(nodes));
    cluster.apply(Change::AllEndpoints(EndpointsApi::Slices, slices));
    cluster
}

/// What a resolver says of a Service's first port.
pub(crate) fn resolve(
    resolver: &dyn UpstreamResolver,
    cluster: &Snapshot,
    service: &Service,
) -> Result<Resolved, Reason> {
    resolver.resolve(cluster, service, &parsed(service), &service.ports[0])
}

/// The same as text, where nothing is worth telling.
pub(crate) fn targets(resolver: &dyn UpstreamResolver, cluster: &Snapshot, service: &Service) -> Vec<String> {
    let Resolved { targets, notes } = resolve(resolver, cluster, service).unwrap();
    assert_eq!(notes, [], "nothing is worth telling");
    texts(&targets)
}

pub(crate) fn texts(targets: &[SocketAddr]) -> Vec<String> {
    targets.iter().map(ToString::to_string).collect()
}

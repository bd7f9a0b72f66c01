//! The cluster of the planner's benchmark, and what happens in it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use lbex_core::annotations;
use lbex_core::model::{
    Endpoint, EndpointList, EndpointListKey, EndpointPort, EndpointSubset, EndpointsApi, Node, NodeAddressType,
    Protocol, Service, ServicePort, ServiceType,
};
use lbex_core::names::ServiceKey;
use lbex_core::planner::Rules;
use lbex_core::selector::All;
use lbex_core::settings::PlanSettings;
use lbex_core::snapshot::Change;

const ENDPOINTS: usize = 3;

/// How large a cluster is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) services: usize,
}

impl Size {
    fn nodes(self) -> usize {
        self.services / 10
    }
}

pub(crate) fn rules() -> Rules {
    let resolvers = lbex_upstream::standard();
    Rules { settings: PlanSettings::default(), selector: Box::new(All::default()), resolvers }
}

/// All nodes, endpoints and Services.
pub(crate) fn fill(size: Size) -> Vec<Change> {
    let slices = (0..size.services).map(|number| slice(size, number, ENDPOINTS)).collect();
    vec![
        Change::AllNodes((0..size.nodes()).map(|number| node(number, 0)).collect()),
        Change::AllEndpoints(EndpointsApi::Slices, slices),
        Change::AllServices((0..size.services).map(|number| Arc::new(service(number))).collect()),
    ]
}

/// A third endpoint of a Service of upstream type `pod` (the odd ones).
pub(crate) fn endpoint_of_pod_service(size: Size, number: usize) -> [Change; 2] {
    endpoint_of((number % size.services) | 1, size)
}

/// A third endpoint, and with it a third node, of a Service of upstream type `node` (the even ones).
pub(crate) fn endpoint_of_node_service(size: Size, number: usize) -> [Change; 2] {
    endpoint_of((number % size.services) & !1, size)
}

fn endpoint_of(number: usize, size: Size) -> [Change; 2] {
    [ENDPOINTS - 1, ENDPOINTS].map(|endpoints| Change::Endpoints(slice(size, number, endpoints)))
}

pub(crate) fn annotation(size: Size, number: usize) -> [Change; 2] {
    let number = number % size.services;
    let mut other = service(number);
    other.annotations.insert(annotations::ALGORITHM.into(), "least_conn".into());
    [other, service(number)].map(|service| Change::Service(Box::new(service)))
}

pub(crate) fn service_gone_and_back(size: Size, number: usize) -> [Change; 2] {
    let number = number % size.services;
    [Change::ServiceGone(key(number)), Change::Service(Box::new(service(number)))]
}

/// An older Service claims a port and gives it up again.
pub(crate) fn takeover(size: Size, number: usize) -> [Change; 2] {
    let mut older = service(number % size.services);
    older.key = ServiceKey::new("default", "older").expect("a valid name");
    older.created = Some(0);
    [Change::Service(Box::new(older.clone())), Change::ServiceGone(older.key)]
}

/// A node's address changes: the Services whose endpoints it runs get another server.
pub(crate) fn node_address(size: Size, number: usize) -> [Change; 2] {
    let number = number % size.nodes();
    [Change::Node(node(number, 1)), Change::Node(node(number, 0))]
}

pub(crate) fn node_heartbeat(size: Size, number: usize) -> [Change; 2] {
    let number = number % size.nodes();
    [Change::Node(node(number, 0)), Change::Node(node(number, 0))]
}

fn key(number: usize) -> ServiceKey {
    ServiceKey::new("default", &format!("service-{number}")).expect("a valid name")
}

fn address(network: u8, number: usize) -> IpAddr {
    let number = u32::try_from(number).expect("a small number") + 1;
    IpAddr::V4(Ipv4Addr::from(u32::from(network) << 24 | number))
}

fn node_name(number: usize) -> Arc<str> {
    format!("node-{number}").into()
}

fn node(number: usize, version: usize) -> Node {
    let addresses = vec![(NodeAddressType::Internal, address(10, 2 * number + version))];
    Node { name: node_name(number), addresses, ready: true, leaving: false, excluded: false }
}

fn service(number: usize) -> Service {
    let listen = 1_024 + number;
    let upstream = if number.is_multiple_of(2) { "node" } else { "pod" };
    let annotations = [
        (annotations::CLASS.into(), annotations::CLASS_VALUE.into()),
        (annotations::UPSTREAM_TYPE.into(), upstream.into()),
        (format!("{}http", annotations::PORT_PREFIX).into(), listen.to_string().into()),
    ];
    Service {
        key: key(number),
        uid: "".into(),
        created: Some(1_700_000_000 + i64::try_from(number).expect("a small number")),
        kind: ServiceType::NodePort,
        load_balancer_class: None,
        annotations: BTreeMap::from(annotations),
        unquoted: Vec::new(),
        cluster_ips: vec![address(11, number)],
        headless: false,
        external_name: None,
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Some(Protocol::Tcp),
            port: 80,
            node_port: u16::try_from(20_000 + number).ok(),
        }],
        client_ip_affinity: false,
        local_traffic_only: false,
        source_ranges: Vec::new(),
    }
}

/// The EndpointSlice of a Service. Its endpoints run on nodes that lie next to each other.
fn slice(size: Size, number: usize, endpoints: usize) -> EndpointList {
    let endpoint = |place| Endpoint {
        address: address(12, number * ENDPOINTS + place),
        ready: true,
        serving: true,
        terminating: false,
        node: Some(node_name((number / 10 + place) % size.nodes())),
    };
    let ports = vec![EndpointPort { name: "http".into(), protocol: Some(Protocol::Tcp), port: 8080 }];
    let subset = EndpointSubset { ports, endpoints: (0..endpoints).map(endpoint).collect() };
    let name = format!("service-{number}-1").into();
    let key = EndpointListKey { api: EndpointsApi::Slices, namespace: "default".into(), name };
    EndpointList { key, service: self::key(number), subsets: [subset].into() }
}

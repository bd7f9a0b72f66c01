//! A cluster in which things change.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use lbex_core::model::{
    Endpoint, EndpointList, EndpointListKey, EndpointPort, EndpointSubset, EndpointsApi, Node, NodeAddressType,
    Protocol, Service, ServicePort, ServiceType,
};
use lbex_core::names::ServiceKey;
use lbex_core::snapshot::Change;

const NODES: usize = 10;

pub(crate) struct Cluster {
    services: BTreeMap<String, Service>,
    endpoints: BTreeMap<String, EndpointList>,
    nodes: BTreeMap<String, Node>,
    size: usize,
    /// How many names there were.
    named: usize,
}

impl Cluster {
    pub(crate) fn new(size: usize) -> Self {
        let mut this =
            Self { services: BTreeMap::new(), endpoints: BTreeMap::new(), nodes: BTreeMap::new(), size, named: size };
        this.back_to_the_first_state();
        this
    }

    /// The complete lists.
    pub(crate) fn lists(&self) -> Vec<Change> {
        vec![
            Change::AllServices(self.services.values().cloned().map(Arc::new).collect()),
            Change::AllNodes(self.nodes.values().cloned().collect()),
            Change::AllEndpoints(EndpointsApi::Slices, self.endpoints.values().cloned().collect()),
        ]
    }

    /// The changes that bring the cluster to the state that it began with.
    pub(crate) fn back_to_the_first_state(&mut self) -> Vec<Change> {
        let gone = self.services.values().map(|service| Change::ServiceGone(service.key.clone()));
        let lists = self.endpoints.values().map(|list| Change::EndpointsGone(list.key.clone()));
        let nodes = self.nodes.values().map(|node| Change::NodeGone(node.name.clone()));
        let mut changes: Vec<Change> = gone.chain(lists).chain(nodes).collect();
        self.services = (0..self.size).map(|n| (format!("s{n}"), service(&format!("s{n}"), n))).collect();
        self.endpoints = (0..self.size).map(|n| (format!("s{n}"), endpoints(&format!("s{n}"), 3, n))).collect();
        self.nodes = (0..NODES).map(|n| (format!("n{n}"), node(&format!("n{n}"), n))).collect();
        changes.extend(self.nodes.values().cloned().map(Change::Node));
        changes.extend(self.endpoints.values().cloned().map(Change::Endpoints));
        changes.extend(self.services.values().cloned().map(|service| Change::Service(Box::new(service))));
        changes
    }

    fn some(&self, dice: &mut Rng) -> String {
        self.services.keys().nth(dice.usize(0..self.services.len())).cloned().expect("a Service")
    }

    pub(crate) fn endpoints_change(&mut self, dice: &mut Rng) -> Change {
        let name = self.some(dice);
        let list = endpoints(&name, dice.usize(0..5), dice.usize(0..100));
        self.endpoints.insert(name, list.clone());
        Change::Endpoints(list)
    }

    /// The new one has a name that never was, and maybe a port that somebody has.
    pub(crate) fn one_goes_and_another_comes(&mut self, dice: &mut Rng) -> Vec<Change> {
        let old = self.some(dice);
        let gone = self.services.remove(&old).map(|service| Change::ServiceGone(service.key));
        let list = self.endpoints.remove(&old).map(|list| Change::EndpointsGone(list.key));
        self.named += 1;
        let name = format!("s{}", self.named);
        let (service, endpoints) = (service(&name, dice.usize(0..self.size)), endpoints(&name, 2, self.named));
        self.services.insert(name.clone(), service.clone());
        self.endpoints.insert(name, endpoints.clone());
        gone.into_iter().chain(list).chain([Change::Endpoints(endpoints), Change::Service(Box::new(service))]).collect()
    }

    /// An annotation becomes nonsense that never was, or right again.
    pub(crate) fn is_edited(&mut self, dice: &mut Rng) -> Change {
        let name = self.some(dice);
        let service = self.services.get_mut(&name).expect("a Service");
        let value = if dice.bool() { "round_robin".to_owned() } else { format!("nonsense-{}", dice.u32(..)) };
        service.annotations.insert("loadbalancer.lbex/algorithm".into(), value.as_str().into());
        Change::Service(Box::new(service.clone()))
    }

    pub(crate) fn nodes_change(&mut self, dice: &mut Rng) -> Vec<Change> {
        let old = self.nodes.keys().nth(dice.usize(0..self.nodes.len())).cloned().expect("a Node");
        self.nodes.remove(&old);
        self.named += 1;
        let (name, n) = (format!("n{}", self.named), self.named % 200);
        let new = node(&name, n);
        self.nodes.insert(name, new.clone());
        vec![Change::Node(new), Change::NodeGone(old.as_str().into())]
    }
}

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("default", name).expect("a name")
}

fn byte(n: usize) -> u8 {
    u8::try_from(n % 250).unwrap_or_default() + 1
}

fn node(name: &str, n: usize) -> Node {
    let addresses = vec![(NodeAddressType::Internal, [10, 0, 0, byte(n)].into())];
    Node { name: name.into(), addresses, ready: true, leaving: false, excluded: false }
}

fn endpoints(name: &str, count: usize, n: usize) -> EndpointList {
    let endpoint = |m: usize| Endpoint {
        address: [10, 1, byte(n), byte(m)].into(),
        ready: true,
        serving: true,
        terminating: false,
        node: Some(format!("n{}", m % NODES).into()),
    };
    let ports = vec![EndpointPort { name: "".into(), protocol: Some(Protocol::Tcp), port: 8080 }];
    EndpointList {
        key: EndpointListKey {
            api: EndpointsApi::Slices,
            namespace: "default".into(),
            name: format!("{name}-x").into(),
        },
        service: key(name),
        subsets: [EndpointSubset { ports, endpoints: (0..count).map(endpoint).collect() }].into(),
    }
}

/// One in four has Nodes for servers, the others Pods.
fn service(name: &str, n: usize) -> Service {
    let kind = if n.is_multiple_of(4) { "node" } else { "pod" };
    let notes = [("kubernetes.io/loadbalancer-class", "loadbalancer-lbex"), ("loadbalancer.lbex/upstream-type", kind)];
    Service {
        key: key(name),
        uid: "".into(),
        created: None,
        kind: ServiceType::NodePort,
        load_balancer_class: None,
        annotations: notes.map(|(name, value)| (name.into(), value.into())).into(),
        unquoted: Vec::new(),
        cluster_ips: Vec::new(),
        headless: false,
        external_name: None,
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Some(Protocol::Tcp),
            port: u16::try_from(1000 + n).expect("a port"),
            node_port: Some(30000),
        }],
        client_ip_affinity: false,
        local_traffic_only: false,
        source_ranges: Vec::new(),
    }
}

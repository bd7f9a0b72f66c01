//! The simulated API server: what objects there are, how they came to be so, and what it does wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use lbex_core::model::{
    Endpoint, EndpointList, EndpointListKey, EndpointPort, EndpointSubset, EndpointsApi, Node, NodeAddressType,
    Protocol, Service, ServicePort, ServiceType,
};
use lbex_core::names::ServiceKey;
use lbex_core::snapshot::{Change, Snapshot};

use super::objects::{Id, NAMESPACES, Objects, Part, World, is_of, parts};
use crate::publish::ObjectKind;

/// Services whose connect timeout is this are refused by the simulated proxy for ever.
pub(super) const REFUSED: &str = "7s";

/// The objects, and all changes so far: a version is how many there were.
pub(super) struct Cluster {
    now: World,
    log: Vec<(Part, Change)>,
    names: Vec<ServiceKey>,
    nodes: usize,
    /// The objects of each part from each version on at which one came, went or changed.
    history: BTreeMap<Part, Vec<(usize, Objects)>>,
}

impl Cluster {
    /// A large one has so many objects that some removals are held.
    pub(super) fn new(dice: &mut Rng, large: bool) -> Self {
        let (count, nodes) = if large { (dice.usize(12..=16), 12) } else { (dice.usize(2..=6), dice.usize(1..=3)) };
        let names = (0..count).filter_map(|n| ServiceKey::new(NAMESPACES[n % 2], &format!("s{n}")).ok());
        let history = parts().into_iter().map(|part| (part, vec![(0, Objects::new())])).collect();
        let mut cluster =
            Self { now: World::default(), log: Vec::new(), names: names.collect(), nodes: nodes.max(3), history };
        for n in 0..nodes {
            cluster.change(&Change::Node(node(n, dice)));
        }
        for key in cluster.names.clone() {
            cluster.change(&Change::Endpoints(endpoints(&key, dice)));
            if dice.u8(0..4) > 0 {
                cluster.change(&Change::Service(Box::new(service(&key, cluster.ports(), dice))));
            }
        }
        cluster
    }

    /// How many ports are fought over.
    fn ports(&self) -> u16 {
        u16::try_from(self.names.len().max(5)).unwrap_or(u16::MAX)
    }

    pub(super) fn version(&self) -> usize {
        self.log.len()
    }

    /// All objects of a part, or of a kind, as they are now.
    pub(super) fn list(&self, part: &Part) -> Vec<Change> {
        self.now.of(part).map(|change| (**change).clone()).collect()
    }

    /// The same as it was in a version.
    pub(super) fn list_at(&self, part: &Part, version: usize) -> Vec<Change> {
        let asked = self.history.iter().filter(|(of, _)| is_of(of, part));
        let then = asked.filter_map(|(_, history)| {
            history[..history.partition_point(|(since, _)| *since <= version)].last().map(|(_, objects)| objects)
        });
        then.flat_map(Objects::values).map(|change| (**change).clone()).collect()
    }

    /// What changed of a part, or of a kind, after `version`, with the version that each leads to.
    pub(super) fn since(&self, part: &Part, version: usize) -> impl Iterator<Item = (usize, &Change)> {
        let later = self.log.iter().enumerate().skip(version);
        later.filter(move |(_, (of, _))| is_of(of, part)).map(|(n, (_, change))| (n + 1, change))
    }

    /// The first version, from `version` on, in which a part was so.
    pub(super) fn when(&self, part: &Part, objects: &Objects, version: usize) -> Option<usize> {
        let history = self.history.get(part)?;
        let first = history.partition_point(|(since, _)| *since <= version).saturating_sub(1);
        history[first..].iter().find(|(_, then)| then == objects).map(|(since, _)| (*since).max(version))
    }

    /// The whole cluster with all Services that LBEX may know of since these versions of its parts, and all else as it is now. Each
    /// namespace may be followed by itself.
    pub(super) fn with_services_since(&self, versions: &BTreeMap<Part, usize>) -> impl Iterator<Item = Snapshot> {
        let since = |part: &Part| {
            let history = self.history.get(part).map_or(&[][..], Vec::as_slice);
            let known = versions.get(part).copied().unwrap_or_default();
            history[history.partition_point(|(since, _)| *since <= known).saturating_sub(1)..].iter().rev()
        };
        let [a, b] = NAMESPACES.map(|namespace| (ObjectKind::Service, Some(Arc::from(namespace))));
        let (first, second): (Vec<_>, Vec<_>) = (since(&a).collect(), since(&b).collect());
        first.into_iter().flat_map(move |a| second.clone().into_iter().map(move |b| self.with([&a.1, &b.1])))
    }

    /// The whole cluster as it is now, with these Services.
    fn with(&self, services: [&Objects; 2]) -> Snapshot {
        let others =
            self.now.parts.iter().filter(|(part, _)| part.0 != ObjectKind::Service).map(|(_, objects)| objects);
        let mut cluster = Snapshot::default();
        for change in others.chain(services).flat_map(|objects| objects.values()) {
            cluster.apply((**change).clone());
        }
        cluster
    }

    /// The whole cluster as it is now.
    pub(super) fn snapshot(&self) -> Snapshot {
        let nothing = Objects::new();
        let of = |namespace| self.now.parts.get(&(ObjectKind::Service, Some(Arc::from(namespace)))).unwrap_or(&nothing);
        self.with(NAMESPACES.map(of))
    }

    /// Some user or controller changes something. What, in words.
    pub(super) fn mutate(&mut self, dice: &mut Rng) -> String {
        let key = self.names[dice.usize(0..self.names.len())].clone();
        let there =
            self.now.parts.values().find_map(|objects| match objects.get(&Id::Service(key.clone())).map(|c| &**c) {
                Some(Change::Service(service)) => Some(service.clone()),
                _ => None,
            });
        let (what, change) = match (dice.u8(0..20), there) {
            (0..=9, _) => (format!("endpoints of {key} change"), Change::Endpoints(endpoints(&key, dice))),
            (10..=11, Some(_)) => (format!("{key} is deleted"), Change::ServiceGone(key)),
            (10..=13, None) => {
                (format!("{key} is created"), Change::Service(Box::new(service(&key, self.ports(), dice))))
            }
            (12..=16, Some(old)) => {
                let mut new = service(&key, self.ports(), dice);
                new.created = old.created;
                if dice.bool() {
                    new.ports.clone_from(&old.ports);
                }
                (format!("{key} is edited"), Change::Service(Box::new(new)))
            }
            (17, _) => {
                let EndpointList { key, .. } = endpoints(&key, dice);
                (format!("the endpoints of {} are gone", key.name), Change::EndpointsGone(key))
            }
            _ => {
                let n = dice.usize(0..self.nodes);
                (format!("node n{n} changes"), Change::Node(node(n, dice)))
            }
        };
        self.change(&change);
        what
    }

    fn change(&mut self, change: &Change) {
        for part in self.now.apply(change) {
            self.log.push((part.clone(), change.clone()));
            let objects = self.now.parts.get(&part).cloned().unwrap_or_default();
            self.history.entry(part).or_default().push((self.log.len(), objects));
        }
    }
}

fn node(n: usize, dice: &mut Rng) -> Node {
    let last = u8::try_from(n).unwrap_or_default() + 1 + 100 * u8::from(dice.u8(0..8) == 0);
    Node {
        name: format!("n{n}").into(),
        addresses: vec![(NodeAddressType::Internal, [10, 0, 0, last].into())],
        ready: dice.u8(0..4) > 0,
        leaving: dice.u8(0..10) == 0,
        excluded: dice.u8(0..10) == 0,
    }
}

fn endpoints(key: &ServiceKey, dice: &mut Rng) -> EndpointList {
    let endpoint = |n: u8, dice: &mut Rng| {
        let ready = dice.u8(0..5) > 0;
        Endpoint {
            address: [10, 1, 0, n].into(),
            ready,
            serving: ready,
            terminating: dice.u8(0..8) == 0,
            node: Some(format!("n{}", n % 3).into()),
        }
    };
    let mut all = Vec::new();
    for n in 1..=5 {
        if dice.bool() {
            all.push(endpoint(n, dice));
        }
    }
    let ports = vec![EndpointPort { name: "".into(), protocol: Some(Protocol::Tcp), port: 8080 }];
    EndpointList {
        key: EndpointListKey {
            api: EndpointsApi::Slices,
            namespace: key.namespace.to_string().into(),
            name: format!("{}-x", key.name).into(),
        },
        service: key.clone(),
        subsets: [EndpointSubset { ports, endpoints: all }].into(),
    }
}

fn service(key: &ServiceKey, ports: u16, dice: &mut Rng) -> Service {
    let mut annotations: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
    let mut note = |name: &str, value: &str| drop(annotations.insert(name.into(), value.into()));
    if dice.u8(0..12) > 0 {
        note("kubernetes.io/loadbalancer-class", "loadbalancer-lbex");
    }
    match dice.u8(0..8) {
        0..=5 => note("loadbalancer.lbex/upstream-type", "pod"),
        6 => note("loadbalancer.lbex/node-set", "all"),
        _ => {}
    }
    match dice.u8(0..8) {
        0 => note("loadbalancer.lbex/algorithm", "least_conn"),
        1 => note("loadbalancer.lbex/algorithm", "no such\nthing"),
        2 => note("loadbalancer.lbex/connect-timeout", REFUSED),
        _ => {}
    }
    Service {
        key: key.clone(),
        uid: "".into(),
        created: Some(i64::from(dice.u8(0..4))),
        kind: ServiceType::NodePort,
        load_balancer_class: None,
        annotations,
        unquoted: Vec::new(),
        cluster_ips: Vec::new(),
        headless: false,
        external_name: None,
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Some(if dice.u8(0..6) == 0 { Protocol::Udp } else { Protocol::Tcp }),
            port: 80 + dice.u16(0..ports),
            node_port: Some(30000),
        }],
        client_ip_affinity: dice.u8(0..8) == 0,
        local_traffic_only: false,
        source_ranges: if dice.u8(0..16) == 0 { vec!["nonsense".into()] } else { Vec::new() },
    }
}

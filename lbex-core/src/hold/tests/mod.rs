//! A hold, and a cluster behind it.

mod clusters;
mod lists;
mod properties;
mod start;

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::*;
use crate::model::{Endpoint, EndpointSubset, EndpointsApi, Node, Service, ServiceType};
use crate::names::ServiceKey;

const LIMIT: Duration = Duration::from_secs(300);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A hold, the cluster behind it, and what was told.
struct Gate {
    hold: Hold,
    cluster: Snapshot,
    told: Vec<Notice>,
}

impl Gate {
    fn remembering(cluster: &str, inventory: Inventory) -> Self {
        let hold = Hold::new(Some(LIMIT), Some(cluster.into()), Some(inventory));
        Self { hold, cluster: Snapshot::default(), told: Vec::new() }
    }

    fn complete(&mut self, now: u64) {
        self.told.extend(self.hold.complete(&self.cluster, at(now)));
    }

    fn new(limit: Option<Duration>) -> Self {
        Self { hold: Hold::new(limit, None, None), cluster: Snapshot::default(), told: Vec::new() }
    }

    fn take(&mut self, change: Change, now: u64) {
        let verdict = self.hold.judge(&self.cluster, change, at(now));
        self.follow(verdict);
    }

    fn cluster(&mut self, uid: &str) {
        self.hold.cluster(Some(uid.into()));
    }

    fn tick(&mut self, now: u64) {
        let verdict = self.hold.tick(&self.cluster, at(now));
        self.follow(verdict);
    }

    fn release(&mut self) {
        let verdict = self.hold.release();
        self.follow(verdict);
    }

    fn follow(&mut self, verdict: Verdict) {
        self.told.extend(verdict.notices);
        verdict.pass.into_iter().for_each(|change| drop(self.cluster.apply(change)));
    }

    fn services(&self) -> usize {
        self.cluster.services().len()
    }

    fn texts(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told).iter().map(ToString::to_string).collect()
    }
}

fn service(namespace: &str, n: usize) -> Service {
    Service {
        key: ServiceKey::new(namespace, &format!("s{n}")).unwrap(),
        uid: "".into(),
        created: None,
        kind: ServiceType::NodePort,
        load_balancer_class: None,
        annotations: BTreeMap::new(),
        unquoted: Vec::new(),
        cluster_ips: Vec::new(),
        headless: false,
        external_name: None,
        ports: Vec::new(),
        client_ip_affinity: false,
        local_traffic_only: false,
        source_ranges: Vec::new(),
    }
}

fn services(range: std::ops::Range<usize>) -> Vec<Arc<Service>> {
    range.map(|n| service("web", n).into()).collect()
}

fn node(n: usize) -> Node {
    Node { name: format!("n{n}").into(), addresses: Vec::new(), ready: true, leaving: false, excluded: false }
}

/// An EndpointSlice of the Service `s0` with these endpoints.
fn slice(name: usize, endpoints: &[u8]) -> EndpointList {
    slice_of(0, name, endpoints)
}

fn slice_of(service: usize, name: usize, endpoints: &[u8]) -> EndpointList {
    let endpoint = |n: &u8| Endpoint {
        address: IpAddr::from([10, 0, 0, *n]),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
    };
    let key = EndpointListKey { api: EndpointsApi::Slices, namespace: "web".into(), name: format!("l{name}").into() };
    let subset = EndpointSubset { ports: Vec::new(), endpoints: endpoints.iter().map(endpoint).collect() };
    EndpointList { key, service: self::service("web", service).key, subsets: [subset].into() }
}

fn addresses(cluster: &Snapshot) -> Vec<u8> {
    let key = service("web", 0).key;
    let endpoints = cluster.endpoints(&key).flat_map(|subset| &subset.endpoints);
    let mut last: Vec<u8> = endpoints
        .map(|endpoint| match endpoint.address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(_) => unreachable!(),
        })
        .collect();
    last.sort_unstable();
    last
}

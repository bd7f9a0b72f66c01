//! Design invariants 1-3 and contract section 5 on ports: the incremental planner against the plan from scratch, for any events in
//! any order, with resolvers of the test's own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use lbex_core::desired::{Delta, DesiredState};
use lbex_core::intent::{Destination, Intent, NodeSet, UpstreamType};
use lbex_core::model::{
    Endpoint, EndpointList, EndpointListKey, EndpointPort, EndpointSubset, EndpointsApi, Node, NodeAddressType,
    Protocol, Service, ServicePort, ServiceType,
};
use lbex_core::names::{PoolName, ServiceKey};
use lbex_core::oracle;
use lbex_core::planner::{Planner, Rules, Status};
use lbex_core::rejection::Reason;
use lbex_core::resolver::{Inputs, NodeInputs, Resolved, UpstreamResolver};
use lbex_core::selector::InPool;
use lbex_core::settings::{PlanSettings, PortRanges};
use lbex_core::snapshot::{Change, Snapshot};
use proptest::prelude::*;

/// Addresses of known nodes: those of the Service's endpoints, or all. Depends on every input a resolver may name.
struct OnNodes;

impl UpstreamResolver for OnNodes {
    fn inputs(&self, intent: &Intent) -> Inputs {
        match intent.destination {
            Destination::Cluster { node_set: NodeSet::All, .. } => Inputs { endpoints: false, nodes: NodeInputs::All },
            _ => Inputs { endpoints: true, nodes: NodeInputs::OfEndpoints },
        }
    }

    fn resolve(
        &self,
        cluster: &Snapshot,
        service: &Service,
        intent: &Intent,
        port: &ServicePort,
    ) -> Result<Resolved, Reason> {
        let node_port = port.node_port.ok_or(Reason::NoNodePort)?;
        let nodes: BTreeSet<_> = match intent.destination {
            Destination::Cluster { node_set: NodeSet::All, .. } => cluster.nodes().map(|n| n.name.clone()).collect(),
            _ => cluster.endpoints(&service.key).flat_map(|s| &s.endpoints).filter_map(|e| e.node.clone()).collect(),
        };
        let known = nodes.iter().filter_map(|name| cluster.node(name)).filter(|n| n.ready);
        let targets = known.flat_map(|n| &n.addresses).map(|(_, ip)| SocketAddr::new(*ip, node_port)).collect();
        Ok(Resolved { targets, notes: Vec::new() })
    }
}

/// Endpoint addresses, unsorted, with duplicates and addresses that nothing can be sent to.
struct OnEndpoints;

impl UpstreamResolver for OnEndpoints {
    fn inputs(&self, _: &Intent) -> Inputs {
        Inputs { endpoints: true, nodes: NodeInputs::None }
    }

    fn resolve(
        &self,
        cluster: &Snapshot,
        service: &Service,
        _: &Intent,
        port: &ServicePort,
    ) -> Result<Resolved, Reason> {
        let endpoints = cluster.endpoints(&service.key).flat_map(|s| &s.endpoints);
        let targets = endpoints.map(|e| SocketAddr::new(e.address, port.port)).rev_sorted();
        Ok(Resolved { targets, notes: Vec::new() })
    }
}

trait RevSorted {
    fn rev_sorted(self) -> Vec<SocketAddr>;
}

impl<I: Iterator<Item = SocketAddr>> RevSorted for I {
    fn rev_sorted(self) -> Vec<SocketAddr> {
        let mut all: Vec<_> = self.collect();
        all.sort_by(|a, b| b.cmp(a));
        all
    }
}

fn rules() -> Rules {
    let settings = PlanSettings { allowed_ports: PortRanges::parse("1-5").unwrap(), ..PlanSettings::default() };
    Rules {
        settings,
        selector: Box::new(InPool(Some(PoolName::new("blue").unwrap()))),
        // cluster-ip has none: planning must be total all the same.
        resolvers: BTreeMap::from([
            (UpstreamType::Node, Box::new(OnNodes) as Box<dyn UpstreamResolver>),
            (UpstreamType::Pod, Box::new(OnEndpoints)),
        ]),
    }
}

fn key(n: u8) -> ServiceKey {
    ServiceKey::new(if n.is_multiple_of(2) { "a" } else { "b" }, &format!("s{}", n / 2)).unwrap()
}

fn service(n: u8, created: Option<i64>, ports: &[(Protocol, u16)], annotations: &[(&str, &str)]) -> Service {
    let annotations = [("kubernetes.io/loadbalancer-class", "loadbalancer-lbex")].iter().chain(annotations);
    Service {
        key: key(n),
        uid: "".into(),
        created,
        kind: ServiceType::NodePort,
        load_balancer_class: None,
        annotations: annotations.map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        unquoted: Vec::new(),
        cluster_ips: Vec::new(),
        headless: false,
        external_name: None,
        ports: ports
            .iter()
            .map(|(protocol, port)| ServicePort {
                name: format!("{}{port}", protocol.as_str()).into(),
                protocol: Some(*protocol),
                port: *port,
                // Listeners may have it, too: a loop where the node is this host.
                node_port: (*port != 4).then_some(*port),
            })
            .collect(),
        client_ip_affinity: false,
        local_traffic_only: false,
        source_ranges: Vec::new(),
    }
}

fn wants(n: u8, created: i64, port: u16) -> Service {
    let name = format!("loadbalancer-port.lbex/tcp{port}");
    service(n, Some(created), &[(Protocol::Tcp, port)], &[(&name, &port.to_string())])
}

fn node(n: u8, ready: bool) -> Node {
    Node {
        name: format!("n{n}").into(),
        addresses: vec![(NodeAddressType::Internal, IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)))],
        ready,
        leaving: false,
        excluded: false,
    }
}

fn list(n: u8, owner: u8, api: EndpointsApi, endpoints: &[(u8, u8)]) -> EndpointList {
    let endpoint = |(host, on): &(u8, u8)| Endpoint {
        address: IpAddr::V4(match host {
            0 => Ipv4Addr::new(224, 1, 0, 0),
            4 => Ipv4Addr::new(169, 254, 169, 254),
            host => Ipv4Addr::new(10, 1, 0, *host),
        }),
        ready: true,
        serving: true,
        terminating: false,
        node: Some(format!("n{on}").into()),
    };
    let ports = vec![EndpointPort { name: "".into(), protocol: Some(Protocol::Tcp), port: 80 }];
    let subset = EndpointSubset { ports, endpoints: endpoints.iter().map(endpoint).collect() };
    EndpointList { key: list_key(n, api), service: key(owner), subsets: [subset].into() }
}

fn list_key(n: u8, api: EndpointsApi) -> EndpointListKey {
    EndpointListKey { api, namespace: "a".into(), name: format!("l{n}").into() }
}

fn any_service() -> impl Strategy<Value = Service> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let ports = prop::collection::vec((protocol, 1u16..7), 0..4);
    let listen = prop::collection::vec(0u16..7, 4);
    let pool = prop_oneof![3 => Just(None), 1 => Just(Some("blue")), 1 => Just(Some("red")), 1 => Just(Some("!"))];
    let upstream = prop::sample::select(vec!["node", "pod", "cluster-ip", "nonsense"]);
    let set = prop::sample::select(vec!["host", "all"]);
    (0u8..8, prop::option::of(0i64..3), ports, listen, pool, upstream, set, any::<bool>()).prop_map(
        |(n, created, ports, listen, pool, upstream, set, asks)| {
            let listens: Vec<_> = ports
                .iter()
                .zip(listen)
                .map(|((p, port), l)| (format!("loadbalancer-port.lbex/{}{port}", p.as_str()), l.to_string()))
                .collect();
            let mut annotations: Vec<_> = listens.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            annotations.push(("loadbalancer.lbex/upstream-type", upstream));
            annotations.push(("loadbalancer.lbex/node-set", set));
            annotations.extend(pool.map(|pool| ("loadbalancer.lbex/service-pool", pool)));
            if !asks {
                annotations.push(("kubernetes.io/loadbalancer-class", "another"));
            }
            service(n, created, &ports, &annotations)
        },
    )
}

fn any_list() -> impl Strategy<Value = EndpointList> {
    (0u8..6, 0u8..8, any_api(), prop::collection::vec((0u8..5, 0u8..4), 0..4))
        .prop_map(|(n, owner, api, endpoints)| list(n, owner, api, &endpoints))
}

fn any_api() -> impl Strategy<Value = EndpointsApi> {
    prop_oneof![Just(EndpointsApi::Slices), Just(EndpointsApi::Endpoints)]
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => any_service().prop_map(|s| Change::Service(Box::new(s))),
        2 => (0u8..8).prop_map(|n| Change::ServiceGone(key(n))),
        3 => (0u8..4, any::<bool>()).prop_map(|(n, ready)| Change::Node(node(n, ready))),
        1 => (0u8..4).prop_map(|n| Change::NodeGone(format!("n{n}").into())),
        4 => any_list().prop_map(Change::Endpoints),
        2 => (0u8..6, any_api()).prop_map(|(n, api)| Change::EndpointsGone(list_key(n, api))),
        1 => prop::collection::vec(any_service().prop_map(Arc::new), 0..6).prop_map(Change::AllServices),
        1 => prop::collection::vec((0u8..4, any::<bool>()), 0..4)
            .prop_map(|all| Change::AllNodes(all.into_iter().map(|(n, ready)| node(n, ready)).collect())),
        1 => (any_api(), prop::collection::vec(any_list(), 0..4)).prop_map(|(api, mut all)| {
            all.iter_mut().for_each(|l| l.key.api = api);
            Change::AllEndpoints(api, all)
        }),
        1 => prop::collection::vec((any::<bool>(), 0u8..4), 0..5).prop_map(|all| {
            let address = |(pod, n)| IpAddr::V4(Ipv4Addr::new(10, u8::from(pod), 0, n));
            Change::Host(all.into_iter().map(address).collect())
        }),
    ]
}

fn assert_agrees(planner: &Planner, rules: &Rules) {
    let plan = oracle::plan(rules, planner.cluster());
    assert_eq!(planner.desired().services, plan.services, "desired state");
    assert_eq!(planner.rejections(), &plan.rejections, "rejections");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Any events, planned in rounds of any size: after each round planner and oracle agree, and whoever folds the deltas, one by
    /// one or joined, has the same desired state.
    #[test]
    fn incremental_plan_equals_plan_from_scratch(
        rounds in prop::collection::vec(prop::collection::vec(any_change(), 0..6), 1..12),
    ) {
        let rules = rules();
        let mut planner = Planner::new(self::rules());
        let mut followed = DesiredState::default();
        let mut joined = Delta::default();
        let mut told = BTreeMap::new();
        for round in rounds {
            round.into_iter().for_each(|change| planner.ingest(change));
            let outcome = planner.plan();
            assert_agrees(&planner, &rules);
            followed.advance(&outcome.delta);
            prop_assert_eq!(&followed, planner.desired());
            joined.merge(outcome.delta);
            for (key, rejections) in outcome.rejections {
                if rejections.is_empty() { told.remove(&key) } else { told.insert(key, rejections) };
            }
            prop_assert_eq!(&told, planner.rejections());
            prop_assert!(planner.plan().delta.is_empty(), "nothing is left to do");
        }
        let mut at_once = DesiredState::default();
        at_once.advance(&joined);
        prop_assert_eq!(&at_once, planner.desired());
    }

    /// The same objects in another order make the same plan (complete lists aside, which say what is gone).
    #[test]
    fn order_of_events_does_not_matter(
        services in prop::collection::btree_map(0u8..8, any_service(), 0..8),
        lists in prop::collection::btree_map(0u8..6, any_list(), 0..6),
        seed in any::<prop::sample::Index>(),
    ) {
        let mut changes: Vec<Change> = Vec::new();
        changes.extend(services.into_iter().map(|(n, mut s)| { s.key = key(n); Change::Service(Box::new(s)) }));
        changes.extend(lists.into_iter().map(|(n, mut l)| { l.key = list_key(n, l.key.api); Change::Endpoints(l) }));
        changes.extend((0..3).map(|n| Change::Node(node(n, true))));
        let mut one = Planner::new(rules());
        changes.iter().cloned().for_each(|c| one.ingest(c));
        one.plan();
        let turn = seed.index(changes.len());
        changes.rotate_left(turn);
        changes.reverse();
        let mut other = Planner::new(rules());
        for change in changes {
            other.ingest(change);
            other.plan();
        }
        prop_assert_eq!(&one.desired().services, &other.desired().services);
        prop_assert_eq!(one.rejections(), other.rejections());
    }
}

fn planner_with(changes: Vec<Change>) -> Planner {
    let mut planner = Planner::new(rules());
    changes.into_iter().for_each(|c| planner.ingest(c));
    planner.plan();
    planner
}

fn set(service: Service) -> Change {
    Change::Service(Box::new(service))
}

fn reasons(planner: &Planner, n: u8) -> Vec<Reason> {
    planner.rejections().get(&key(n)).map_or(Vec::new(), |r| r.iter().map(|r| r.reason.clone()).collect())
}

#[test]
fn the_older_service_has_the_port_and_freeing_it_gives_it_to_the_next_in_line() {
    let mut planner = planner_with(vec![set(wants(1, 30, 2)), set(wants(2, 20, 2)), set(wants(3, 10, 2))]);
    let taken = |holder| Reason::PortTaken { protocol: Protocol::Tcp, port: 2, holder: key(holder) };
    let contested = |next| Reason::PortContested { protocol: Protocol::Tcp, port: 2, next: key(next) };
    assert_eq!(planner.desired().services.keys().collect::<Vec<_>>(), [&key(3)]);
    assert_eq!(reasons(&planner, 3), [contested(2)]);
    assert_eq!(reasons(&planner, 2), [taken(3)]);
    assert_eq!(reasons(&planner, 1), [taken(3)]);
    assert_eq!(planner.status(&key(1)), Status::NotServed);

    planner.ingest(Change::ServiceGone(key(3)));
    let outcome = planner.plan();
    assert_eq!(outcome.delta.changes.len(), 2, "one goes, one comes");
    assert_eq!(planner.desired().services.keys().collect::<Vec<_>>(), [&key(2)]);
    assert_eq!(reasons(&planner, 2), [contested(1)]);
    assert_eq!(reasons(&planner, 1), [taken(2)]);

    // An older one comes back: the takeover is told to both.
    planner.ingest(set(wants(3, 10, 2)));
    let outcome = planner.plan();
    assert!(outcome.rejections.contains_key(&key(2)) && outcome.rejections.contains_key(&key(3)));
    assert_eq!(planner.status(&key(3)), Status::Served);
}

#[test]
fn without_timestamps_namespace_and_name_decide_and_a_port_that_cannot_be_served_claims_nothing() {
    let undated = |n| Service { created: None, ..wants(n, 0, 2) };
    let planner = planner_with(vec![set(undated(3)), set(undated(2))]);
    assert_eq!(planner.status(&key(2)), Status::Served, "a/s1 comes before b/s1");
    assert_eq!(planner.status(&key(3)), Status::NotServed);

    let unservable = service(2, Some(1), &[(Protocol::Tcp, 4)], &[("loadbalancer-port.lbex/tcp4", "2")]);
    let planner = planner_with(vec![set(unservable), set(undated(3))]);
    assert_eq!(reasons(&planner, 2), [Reason::NoNodePort]);
    assert_eq!(planner.status(&key(3)), Status::Served);
}

#[test]
fn of_two_ports_of_one_service_the_first_in_its_list_has_it_and_protocols_are_apart() {
    let ports = [(Protocol::Tcp, 1), (Protocol::Tcp, 2), (Protocol::Udp, 3)];
    let listens = ["tcp1", "tcp2", "udp3"].map(|n| (format!("loadbalancer-port.lbex/{n}"), "5"));
    let annotations: Vec<_> = listens.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    let planner = planner_with(vec![set(service(1, None, &ports, &annotations))]);
    let listeners = &planner.desired().services[&key(1)].listeners;
    let served: Vec<_> = listeners.iter().map(|l| (l.protocol, l.port)).collect();
    assert_eq!(served, [(Protocol::Tcp, 5), (Protocol::Udp, 5)]);
    assert_eq!(planner.status(&key(1)), Status::PartlyServed);
}

#[test]
fn an_event_costs_the_services_it_touches() {
    let all_nodes = ("loadbalancer.lbex/node-set", "all");
    let mut changes = vec![Change::Node(node(1, true)), Change::Node(node(2, true))];
    let on_host = wants(1, 1, 1);
    let mut on_all = wants(2, 1, 2);
    on_all.annotations.insert(all_nodes.0.into(), all_nodes.1.into());
    changes.extend([set(on_host), set(on_all), Change::Endpoints(list(1, 1, EndpointsApi::Slices, &[(9, 1)]))]);
    let mut planner = planner_with(changes);

    let mut changed_by = |change: Change| -> Vec<ServiceKey> {
        planner.ingest(change);
        planner.plan().delta.changes.into_keys().collect()
    };
    assert_eq!(changed_by(Change::Node(node(1, true))), [], "nothing changed, nothing planned");
    assert_eq!(changed_by(Change::Node(node(2, false))), [key(2)], "only who uses all nodes");
    assert_eq!(changed_by(Change::Node(node(1, false))), [key(2), key(1)], "and who has an endpoint there");
    let elsewhere = list(2, 7, EndpointsApi::Slices, &[(9, 1)]);
    assert_eq!(changed_by(Change::Endpoints(elsewhere)), [], "endpoints of a Service that is not there");
}

#[test]
fn slices_win_over_endpoints_and_a_slice_may_change_hands() {
    let mut pods = wants(1, 1, 1);
    pods.annotations.insert("loadbalancer.lbex/upstream-type".into(), "pod".into());
    let mut planner = planner_with(vec![
        set(pods),
        Change::Endpoints(list(1, 1, EndpointsApi::Endpoints, &[(1, 1)])),
        Change::Endpoints(list(2, 1, EndpointsApi::Slices, &[(2, 1)])),
    ]);
    let servers = |planner: &Planner| {
        let listener = planner.desired().services[&key(1)].listeners[0].clone();
        serde_json::to_value(&listener.upstream.servers).unwrap()["addresses"].clone()
    };
    assert_eq!(servers(&planner), serde_json::json!(["10.1.0.2:1"]));
    planner.ingest(Change::Endpoints(list(2, 5, EndpointsApi::Slices, &[(2, 1)])));
    let outcome = planner.plan();
    assert!(outcome.delta.servers_only(), "only servers changed: {:?}", outcome.delta);
    assert_eq!(servers(&planner), serde_json::json!(["10.1.0.1:1"]));
}

#[test]
fn planned_output_is_the_same_bytes_whatever_the_order() {
    let changes = [set(wants(5, 1, 1)), set(wants(2, 1, 2)), set(wants(4, 1, 3))];
    let text = |order: [usize; 3]| {
        let planner = planner_with(order.iter().map(|i| changes[*i].clone()).collect());
        serde_json::to_string(&planner.desired().services.values().collect::<Vec<_>>()).unwrap()
    };
    assert_eq!(text([0, 1, 2]), text([2, 1, 0]));
}

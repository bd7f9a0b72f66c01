//! Contract sections 2 and 5: endpoints that must not be reached, and servers that are LBEX itself, by the real resolvers.

use std::net::{IpAddr, SocketAddr};

use lbex_core::addresses::{EndpointRules, Special};
use lbex_core::desired::Servers;
use lbex_core::model::{
    Endpoint, EndpointList, EndpointListKey, EndpointPort, EndpointSubset, EndpointsApi, Node, NodeAddressType,
    Protocol, Service, ServicePort, ServiceType,
};
use lbex_core::names::ServiceKey;
use lbex_core::oracle;
use lbex_core::planner::{Planner, Rules};
use lbex_core::rejection::Reason;
use lbex_core::selector::All;
use lbex_core::settings::{PlanSettings, Reserved};
use lbex_core::snapshot::Change;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn rules(settings: PlanSettings) -> Rules {
    let settings = PlanSettings { require_port: false, ..settings };
    Rules { settings, selector: Box::new(All::default()), resolvers: lbex_upstream::standard() }
}

/// A planner of a host with these addresses, and what it must agree with.
struct Plan {
    planner: Planner,
    rules: Rules,
}

impl Plan {
    fn new(settings: PlanSettings, host: &[&str]) -> Self {
        let mut planner = Planner::new(rules(settings.clone()));
        planner.ingest(Change::Host(host.iter().map(|a| ip(a)).collect()));
        Self { planner, rules: rules(settings) }
    }

    /// Takes changes in; which Services changed by that.
    fn take(&mut self, changes: impl IntoIterator<Item = Change>) -> Vec<String> {
        changes.into_iter().for_each(|change| self.planner.ingest(change));
        let outcome = self.planner.plan();
        let oracle = oracle::plan(&self.rules, self.planner.cluster());
        assert_eq!(self.planner.desired().services, oracle.services);
        assert_eq!(self.planner.rejections(), &oracle.rejections);
        outcome.delta.changes.keys().map(|key| key.name.to_string()).collect()
    }

    fn servers(&self, name: &str) -> Vec<String> {
        match &self.planner.desired().services[&key(name)].listeners[0].upstream.servers {
            Servers::Addresses(all) => all.iter().map(ToString::to_string).collect(),
            Servers::Dns { .. } => panic!("no addresses"),
        }
    }

    fn reasons(&self, name: &str) -> Vec<Reason> {
        let all = self.planner.rejections().get(&key(name));
        all.into_iter().flat_map(|all| all.iter()).map(|rejection| rejection.reason.clone()).collect()
    }
}

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("default", name).unwrap()
}

fn service(name: &str, listen: u16, upstream: &str) -> Service {
    let annotations =
        [("kubernetes.io/loadbalancer-class", "loadbalancer-lbex"), ("loadbalancer.lbex/upstream-type", upstream)];
    let all_nodes = [("loadbalancer.lbex/node-set", "all")];
    let more = if upstream == "node" { &all_nodes[..] } else { &[] };
    Service {
        key: key(name),
        uid: "".into(),
        created: None,
        kind: ServiceType::NodePort,
        load_balancer_class: None,
        annotations: annotations.iter().chain(more).map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        unquoted: Vec::new(),
        cluster_ips: vec![ip("10.96.0.1")],
        headless: false,
        external_name: None,
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Some(Protocol::Tcp),
            port: listen,
            // A port of listeners in some.
            node_port: Some(if name == "s4" { 2 } else { 30080 }),
        }],
        client_ip_affinity: false,
        local_traffic_only: false,
        source_ranges: Vec::new(),
    }
}

fn set(name: &str, listen: u16, upstream: &str) -> Change {
    Change::Service(Box::new(service(name, listen, upstream)))
}

fn endpoints(service: &str, port: u16, addresses: &[&str]) -> Change {
    let endpoint = |a: &&str| Endpoint { address: ip(a), ready: true, serving: true, terminating: false, node: None };
    let ports = vec![EndpointPort { name: "".into(), protocol: Some(Protocol::Tcp), port }];
    let subset = EndpointSubset { ports, endpoints: addresses.iter().map(endpoint).collect() };
    let key = EndpointListKey { api: EndpointsApi::Slices, namespace: "default".into(), name: service.into() };
    Change::Endpoints(EndpointList { key, service: self::key(service), subsets: [subset].into() })
}

fn node(name: &str, address: &str) -> Change {
    let addresses = vec![(NodeAddressType::Internal, ip(address))];
    Change::Node(Node { name: name.into(), addresses, ready: true, leaving: false, excluded: false })
}

const HOSTILE: [&str; 11] = [
    "10.1.0.1",
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "::ffff:127.0.0.1",
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "fe80::1",
    "fd00:ec2::254",
    "224.0.0.1",
    "0.0.0.0",
];

#[test]
fn endpoints_that_must_not_be_reached_are_left_out_and_told_by_address_and_rule() {
    let mut plan = Plan::new(PlanSettings::default(), &[]);
    plan.take([set("web", 80, "pod"), endpoints("web", 8080, &HOSTILE)]);
    assert_eq!(plan.servers("web"), ["10.1.0.1:8080"]);
    let reasons = plan.reasons("web");
    let refused = |special, count, example| Reason::EndpointNotAllowed { special, count, example: ip(example) };
    assert!(reasons.contains(&Reason::NotUnicast { count: 2, example: ip("0.0.0.0") }), "{reasons:?}");
    // In the form in which they would be used.
    assert!(reasons.contains(&refused(Special::Loopback, 3, "127.0.0.1")), "{reasons:?}");
    assert!(reasons.contains(&refused(Special::LinkLocal, 2, "169.254.169.254")), "{reasons:?}");
    assert!(reasons.contains(&refused(Special::Metadata, 1, "fd00:ec2::254")), "{reasons:?}");
    let texts: Vec<_> = reasons.iter().map(ToString::to_string).collect();
    assert!(texts.iter().any(|t| t.contains("169.254.169.254") && t.contains("link-local")), "{texts:?}");
}

#[test]
fn the_operator_may_permit_networks_and_files_are_the_operators_own() {
    let allow = vec!["127.9.0.0/16".parse().unwrap(), "169.254.169.254/32".parse().unwrap()];
    let mut plan =
        Plan::new(PlanSettings { endpoints: EndpointRules::allowing(allow), ..PlanSettings::default() }, &[]);
    plan.take([set("web", 80, "pod"), endpoints("web", 8080, &HOSTILE)]);
    assert_eq!(plan.servers("web"), ["10.1.0.1:8080", "127.9.9.9:8080", "169.254.169.254:8080"]);

    let mut plan = Plan::new(PlanSettings { endpoints: EndpointRules::trusting(), ..PlanSettings::default() }, &[]);
    plan.take([set("web", 80, "pod"), endpoints("web", 8080, &HOSTILE)]);
    assert_eq!(plan.servers("web").len(), 7);
}

#[test]
fn cluster_ips_are_judged_and_node_addresses_are_not() {
    let mut plan = Plan::new(PlanSettings::default(), &[]);
    let mut by_ip = service("ip", 80, "cluster-ip");
    by_ip.cluster_ips = vec![ip("127.0.0.1"), ip("10.96.0.1")];
    plan.take([Change::Service(Box::new(by_ip)), set("node", 81, "node"), node("n", "127.0.0.2")]);
    assert_eq!(plan.servers("ip"), ["10.96.0.1:80"]);
    assert_eq!(plan.servers("node"), ["127.0.0.2:30080"]);
}

#[test]
fn servers_that_are_lbex_itself_are_left_out_as_long_as_they_are() {
    let mut plan = Plan::new(PlanSettings::default(), &["10.0.0.9"]);
    let own = |server: &str| Reason::OwnListener { count: 1, example: server.parse::<SocketAddr>().unwrap() };
    plan.take([set("pods", 80, "pod"), endpoints("pods", 8080, &["10.0.0.9", "10.1.0.1"])]);
    plan.take([set("self", 8443, "pod"), endpoints("self", 8443, &["10.0.0.9"])]);
    plan.take([set("nodes", 81, "node"), node("me", "10.0.0.9"), node("other", "10.0.0.8")]);
    assert_eq!(plan.servers("pods"), ["10.0.0.9:8080", "10.1.0.1:8080"], "nothing listens there");
    assert_eq!((plan.servers("self"), plan.reasons("self")), (vec![], vec![own("10.0.0.9:8443")]));
    assert_eq!(plan.servers("nodes"), ["10.0.0.8:30080", "10.0.0.9:30080"]);

    // Others come to listen there: what has servers there changes, and nothing else.
    assert_eq!(plan.take([set("more", 8080, "pod")]), ["more", "pods"]);
    assert_eq!(
        (plan.servers("pods"), plan.reasons("pods")),
        (vec!["10.1.0.1:8080".into()], vec![own("10.0.0.9:8080")])
    );
    assert_eq!(plan.take([set("port", 30080, "pod")]), ["nodes", "port"]);
    assert_eq!(plan.servers("nodes"), ["10.0.0.8:30080"]);
    assert_eq!(plan.take([set("second", 8080, "pod")]), [""; 0], "the port is claimed already");
    assert_eq!(plan.take([Change::ServiceGone(key("more"))]), ["more", "second"], "and stays so");
    assert_eq!(plan.take([Change::ServiceGone(key("second"))]), ["pods", "second"]);
    assert_eq!(plan.servers("pods"), ["10.0.0.9:8080", "10.1.0.1:8080"]);

    // The address moves to another host: only who has a server there is planned again.
    assert_eq!(plan.take([Change::Host([ip("10.0.0.7")].into_iter().collect())]), ["nodes", "self"]);
    assert_eq!(plan.servers("self"), ["10.0.0.9:8443"]);
}

#[test]
fn only_where_listeners_bind_and_lbexs_own_ports_count() {
    let reserved = |address: &str, what| Reserved { protocol: Protocol::Tcp, address: address.parse().unwrap(), what };
    let settings = PlanSettings {
        listen: [ip("10.0.0.9")].into(),
        reserved: vec![reserved("0.0.0.0:7331", "health"), reserved("127.0.0.1:7332", "metrics")],
        endpoints: EndpointRules::trusting(),
        ..PlanSettings::default()
    };
    let mut plan = Plan::new(settings, &["10.0.0.9", "10.0.0.10", "fd00::9"]);
    plan.take([set("web", 80, "pod"), endpoints("web", 80, &["10.0.0.9", "10.0.0.10", "127.0.0.1", "fd00::9"])]);
    assert_eq!(plan.servers("web"), ["10.0.0.10:80", "127.0.0.1:80", "[fd00::9]:80"]);
    plan.take([set("health", 81, "pod"), endpoints("health", 7331, &["10.0.0.10", "127.0.0.1", "10.1.0.1"])]);
    assert_eq!(plan.servers("health"), ["10.1.0.1:7331"]);
    plan.take([set("metrics", 82, "pod"), endpoints("metrics", 7332, &["10.0.0.10", "127.0.0.1"])]);
    assert_eq!(plan.servers("metrics"), ["10.0.0.10:7332"]);
}

#[test]
fn an_address_that_is_written_as_ipv6_is_the_same() {
    let mut plan = Plan::new(PlanSettings::default(), &["10.0.0.9"]);
    plan.take([set("web", 80, "pod"), endpoints("web", 80, &["::ffff:10.0.0.9", "::ffff:10.1.0.1"])]);
    assert_eq!(plan.servers("web"), ["10.1.0.1:80"]);
}

/// Few ports and addresses, so that servers are LBEX's own all the time.
fn any_change() -> impl Strategy<Value = Change> {
    let name = || select(vec!["s1", "s2", "s3", "s4"]);
    let addresses = || subsequence(vec!["10.0.0.1", "10.0.0.2", "10.1.0.1"], 0..=3);
    prop_oneof![
        4 => (name(), 1u16..4, select(vec!["pod", "node"])).prop_map(|(name, listen, upstream)| set(name, listen, upstream)),
        2 => name().prop_map(|name| Change::ServiceGone(key(name))),
        3 => (name(), 1u16..4, addresses()).prop_map(|(name, port, to)| endpoints(name, port, &to)),
        1 => addresses().prop_map(|all| Change::Host(all.into_iter().map(ip).collect())),
        1 => select(vec!["10.0.0.1", "10.0.0.3"]).prop_map(|address| node("n", address)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// [`Plan::take`] compares with the plan from scratch.
    #[test]
    fn own_servers_are_found_by_increments_as_from_scratch(
        rounds in prop::collection::vec(prop::collection::vec(any_change(), 1..4), 1..20),
    ) {
        let mut plan = Plan::new(PlanSettings::default(), &["10.0.0.1"]);
        for round in rounds {
            plan.take(round);
        }
    }
}

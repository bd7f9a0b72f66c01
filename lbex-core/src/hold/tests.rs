use std::net::IpAddr;

use proptest::prelude::*;

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

    fn cluster(&mut self, uid: &str, now: u64) {
        self.told.extend(self.hold.cluster(Some(uid.into()), at(now)));
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

fn services(range: std::ops::Range<usize>) -> Vec<Service> {
    range.map(|n| service("web", n)).collect()
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
    EndpointList { key, service: self::service("web", service).key, subsets: vec![subset] }
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

#[test]
fn a_list_that_lacks_most_is_taken_in_but_for_what_it_lacks() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.take(Change::AllServices(services(0..10)), 0);
    assert_eq!(gate.texts(), [""; 0], "a first list removes nothing");
    let mut list = services(8..12);
    list[0].headless = true;
    gate.take(Change::AllServices(list), 10);
    assert_eq!((gate.services(), gate.hold.held(ObjectKind::Service)), (12, 8));
    assert!(gate.cluster.service(&service("web", 8).key).unwrap().headless, "what it changes is taken in");
    let texts = gate.texts();
    assert_eq!(texts.len(), 1);
    assert!(texts[0].contains("lacks 8 of 10 Services") && texts[0].contains("SIGUSR1"), "{texts:?}");
}

#[test]
fn half_is_not_most_and_nine_are_not_many() {
    for (known, left, held) in [(10, 5, 0), (10, 4, 6), (9, 0, 0), (11, 5, 6), (2000, 0, 2000)] {
        let mut gate = Gate::new(Some(LIMIT));
        gate.take(Change::AllNodes((0..known).map(node).collect()), 0);
        gate.take(Change::AllNodes((0..left).map(node).collect()), 1);
        assert_eq!(gate.hold.held(ObjectKind::Node), held, "{left} of {known}");
        assert_eq!(gate.cluster.nodes().len(), if held > 0 { known } else { left });
    }
}

#[test]
fn time_lets_go_and_later_lists_do_not_prolong_it() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.take(Change::AllServices(services(0..20)), 0);
    gate.take(Change::AllServices(Vec::new()), 100);
    gate.take(Change::AllServices(services(30..31)), 200);
    gate.tick(399);
    assert_eq!(gate.services(), 21);
    gate.tick(400);
    assert_eq!((gate.services(), gate.hold.held(ObjectKind::Service)), (1, 0));
    let texts = gate.texts();
    assert!(texts.last().unwrap().contains("20 Services that a list lacked are gone now: the time"), "{texts:?}");
    gate.take(Change::AllServices(Vec::new()), 500);
    assert_eq!(gate.services(), 0, "one is not many");
}

#[test]
fn the_operator_lets_go() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.take(Change::AllServices(services(0..20)), 0);
    gate.take(Change::AllServices(Vec::new()), 1);
    gate.texts();
    gate.release();
    assert_eq!(gate.services(), 0);
    assert!(gate.texts()[0].contains("SIGUSR1 asked for it"));
    gate.release();
    assert_eq!(gate.texts(), [""; 0]);
}

#[test]
fn a_list_that_recovers_is_believed() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.take(Change::AllServices(services(0..20)), 0);
    gate.take(Change::AllServices(Vec::new()), 1);
    gate.take(Change::AllServices(services(3..20)), 2);
    assert_eq!((gate.services(), gate.hold.held(ObjectKind::Service)), (17, 0));
    assert!(gate.texts()[1].contains("3 are gone"));
}

#[test]
fn watch_events_bring_back_one_by_one_and_deletions_are_deletions() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.take(Change::AllServices(services(0..10)), 0);
    gate.take(Change::AllServices(Vec::new()), 1);
    for n in 0..9 {
        gate.take(Change::Service(Box::new(service("web", n))), 2);
    }
    assert_eq!((gate.services(), gate.hold.held(ObjectKind::Service)), (10, 1));
    gate.take(Change::ServiceGone(service("web", 9).key), 3);
    assert_eq!((gate.services(), gate.hold.held(ObjectKind::Service)), (9, 0));
    assert!(gate.texts()[1].contains("are there again"));
    // Never held.
    for n in 0..9 {
        gate.take(Change::ServiceGone(service("web", n).key), 4);
    }
    assert_eq!(gate.services(), 0);
    gate.tick(400);
    assert_eq!(gate.texts(), [""; 0]);
}

#[test]
fn what_lasts_is_told_again_every_minute() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.take(Change::AllServices(services(0..10)), 0);
    gate.take(Change::AllServices(Vec::new()), 0);
    gate.texts();
    (0..300).for_each(|now| gate.tick(now));
    let texts = gate.texts();
    assert_eq!(texts.len(), 4, "{texts:?}");
    assert!(texts[0].contains("10 Services that a list lacks still stay, for 240s more"), "{texts:?}");
}

#[test]
fn lists_of_one_namespace_concern_that_namespace() {
    let mut gate = Gate::new(Some(LIMIT));
    let of = |namespace: &str, count| (0..count).map(|n| service(namespace, n)).collect::<Vec<_>>();
    let list = |namespace: &str, count| Change::NamespaceServices(namespace.into(), of(namespace, count));
    gate.take(list("a", 10), 0);
    gate.take(list("b", 10), 0);
    gate.take(list("a", 6), 1);
    assert_eq!(gate.services(), 16);
    gate.take(list("b", 0), 2);
    assert_eq!((gate.services(), gate.hold.held(ObjectKind::Service)), (16, 10));
    assert!(gate.texts()[0].contains("10 of 10 Services of the namespace b"));
    gate.take(list("a", 7), 3);
    assert_eq!((gate.services(), gate.hold.held(ObjectKind::Service)), (17, 10));
}

#[test]
fn off_lets_everything_through() {
    let mut gate = Gate::new(None);
    gate.cluster("a", 0);
    gate.take(Change::AllServices(services(0..100)), 0);
    gate.cluster("b", 1);
    gate.take(Change::AllServices(Vec::new()), 1);
    assert_eq!((gate.services(), gate.texts().len()), (0, 0));
}

#[test]
fn endpoints_are_counted_and_kept_wherever_they_were() {
    let mut gate = Gate::new(Some(LIMIT));
    let list = |slices: Vec<EndpointList>| Change::AllEndpoints(EndpointsApi::Slices, slices);
    gate.take(list(vec![slice(1, &[1, 2, 3, 4, 5, 6]), slice(2, &[7, 8, 9, 10])]), 0);
    // The slices are there, all but empty: as much of a removal as slices that are not there.
    gate.take(list(vec![slice(1, &[1, 11]), slice(3, &[7])]), 1);
    assert_eq!(addresses(&gate.cluster), (1..=11).collect::<Vec<_>>());
    assert_eq!(gate.hold.held(ObjectKind::Endpoints), 8);
    // One comes back elsewhere, one where it was.
    gate.take(Change::Endpoints(slice(4, &[8])), 2);
    gate.take(Change::Endpoints(slice(1, &[1, 2, 11])), 3);
    assert_eq!(addresses(&gate.cluster), (1..=11).collect::<Vec<_>>());
    assert_eq!(gate.hold.held(ObjectKind::Endpoints), 6);
    gate.release();
    assert_eq!(addresses(&gate.cluster), [1, 2, 7, 8, 11]);
}

#[test]
fn endpoints_that_only_move_between_slices_are_no_removal() {
    let mut gate = Gate::new(Some(LIMIT));
    let list = |slices: Vec<EndpointList>| Change::AllEndpoints(EndpointsApi::Slices, slices);
    let all: Vec<u8> = (1..=12).collect();
    gate.take(list(all.iter().map(|n| slice(usize::from(*n), &[*n])).collect()), 0);
    gate.take(list(vec![slice(20, &all)]), 1);
    assert_eq!((addresses(&gate.cluster), gate.hold.held(ObjectKind::Endpoints)), (all, 0));
    assert_eq!(gate.cluster.endpoint_lists().count(), 1);
}

#[test]
fn a_slice_that_is_given_to_another_service_is_no_removal() {
    let mut gate = Gate::new(Some(LIMIT));
    let list = |slices: Vec<EndpointList>| Change::AllEndpoints(EndpointsApi::Slices, slices);
    let all: Vec<u8> = (1..=12).collect();
    gate.take(list(vec![slice_of(0, 1, &all)]), 0);
    gate.take(list(vec![slice_of(1, 1, &all)]), 1);
    assert_eq!((addresses(&gate.cluster), gate.hold.held(ObjectKind::Endpoints)), (Vec::new(), 0));
}

#[test]
fn another_cluster_waits_and_then_replaces_everything() {
    for by_time in [true, false] {
        let mut gate = Gate::new(Some(LIMIT));
        gate.cluster("a", 0);
        gate.take(Change::AllServices(services(0..3)), 0);
        gate.take(Change::AllNodes(vec![node(1)]), 0);
        gate.cluster("b", 10);
        gate.take(Change::AllServices(services(50..51)), 10);
        gate.take(Change::Service(Box::new(service("web", 60))), 11);
        gate.tick(309);
        assert_eq!(
            (gate.services(), gate.hold.holds_cluster()),
            (3, true),
            "three are not many, but they are another's"
        );
        assert!(gate.told[0].to_string().contains("is b, it was a"), "{:?}", gate.told);
        if by_time {
            gate.tick(310);
        } else {
            gate.release();
        }
        assert_eq!((gate.services(), gate.hold.holds_cluster()), (2, false));
        assert_eq!(gate.cluster.nodes().len(), 1, "its nodes are not known yet");
        gate.take(Change::AllNodes(Vec::new()), 311);
        assert_eq!(gate.cluster.nodes().len(), 0);
        assert!(gate.texts().iter().any(|text| text.contains("replaced by what the other cluster has (b)")));
        gate.cluster("b", 400);
        assert_eq!(gate.texts(), [""; 0]);
    }
}

#[test]
fn the_first_lists_of_a_cluster_that_is_taken_in_are_not_held() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.cluster("a", 0);
    gate.take(Change::AllServices(services(0..30)), 0);
    gate.take(Change::AllNodes((0..30).map(node).collect()), 0);
    gate.cluster("b", 10);
    gate.take(Change::AllServices(Vec::new()), 10);
    gate.release();
    assert_eq!(gate.services(), 0);
    gate.take(Change::AllNodes(vec![node(40)]), 11);
    assert_eq!(gate.cluster.nodes().len(), 1);
}

#[test]
fn the_known_cluster_may_come_back() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.cluster("a", 0);
    gate.take(Change::AllServices(services(0..30)), 0);
    gate.cluster("b", 10);
    gate.take(Change::AllServices(Vec::new()), 10);
    gate.take(Change::AllEndpoints(EndpointsApi::Slices, Vec::new()), 10);
    // Its other watches still go on.
    gate.cluster("a", 11);
    gate.take(Change::Node(node(1)), 11);
    assert!(gate.hold.holds_cluster() && gate.cluster.nodes().len() == 1);
    gate.take(Change::AllServices(services(0..29)), 12);
    assert_eq!((gate.services(), gate.hold.holds_cluster()), (29, true), "endpoints are still the other's");
    gate.take(Change::AllEndpoints(EndpointsApi::Slices, Vec::new()), 12);
    assert!(!gate.hold.holds_cluster());
    assert_eq!(gate.texts().len(), 2);
    gate.tick(1000);
    assert_eq!((gate.services(), gate.texts().len()), (29, 0));
}

#[test]
fn an_identity_that_nobody_may_read_is_no_other() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.cluster("a", 0);
    gate.take(Change::AllServices(services(0..3)), 0);
    assert_eq!(gate.hold.cluster(None, at(1)), None);
    gate.take(Change::AllServices(services(0..2)), 1);
    assert_eq!(gate.services(), 2);
    gate.cluster("b", 2);
    assert!(gate.hold.holds_cluster(), "it is remembered meanwhile");
}

/// What was known: 20 Services, 10 Nodes, 12 endpoints.
fn inventory() -> Inventory {
    let mut gate = Gate::new(None);
    gate.take(Change::AllServices(services(0..20)), 0);
    gate.take(Change::AllNodes((0..10).map(node).collect()), 0);
    gate.take(Change::AllEndpoints(EndpointsApi::Slices, vec![slice(1, &[1; 6]), slice(2, &[2; 6])]), 0);
    let keys: Vec<_> = gate.cluster.services().map(|s| s.key.clone()).collect();
    let inventory = Inventory::of(&gate.cluster, keys.iter());
    assert_eq!((inventory.services.len(), inventory.nodes.len(), inventory.endpoints), (20, 10, 12));
    inventory
}

#[test]
fn first_lists_after_a_restart_that_are_as_before_are_planned_at_once() {
    let mut gate = Gate::remembering("a", inventory());
    gate.cluster("a", 0);
    assert!(!gate.hold.may_plan());
    gate.take(Change::AllServices(services(0..10)), 0);
    gate.take(Change::AllNodes((0..5).map(node).collect()), 0);
    gate.take(Change::AllEndpoints(EndpointsApi::Slices, vec![slice(1, &[1; 6])]), 0);
    gate.complete(0);
    assert!(gate.hold.may_plan() && gate.hold.is_sure(), "half is not most");
    assert_eq!(gate.texts(), [""; 0]);
}

#[test]
fn first_lists_after_a_restart_that_lack_most_are_not_planned_until_they_recover_or_are_believed() {
    for end in ["watch", "time", "operator"] {
        let mut gate = Gate::remembering("a", inventory());
        gate.cluster("a", 0);
        gate.take(Change::AllServices(services(0..9)), 0);
        gate.take(Change::AllNodes((0..10).map(node).collect()), 0);
        gate.take(Change::AllEndpoints(EndpointsApi::Slices, vec![slice(1, &[1; 6])]), 0);
        gate.complete(1);
        assert!(!gate.hold.may_plan() && !gate.hold.is_sure());
        assert_eq!(gate.hold.held(ObjectKind::Service), 11);
        assert!(gate.texts()[0].contains("lack 11 of 20 Services that were known before the restart"));
        gate.tick(300);
        assert!(!gate.hold.may_plan());
        match end {
            "watch" => {
                gate.take(Change::Service(Box::new(service("web", 9))), 2);
                gate.tick(300);
            }
            "time" => gate.tick(301),
            _ => gate.release(),
        }
        assert!(gate.hold.may_plan() && gate.hold.held(ObjectKind::Service) == 0, "{end}");
        assert_eq!(gate.texts().len(), 2, "told again once, and the end");
    }
}

#[test]
fn another_cluster_after_a_restart_is_not_planned_until_it_is_taken_in_or_gone() {
    for back in [false, true] {
        let mut gate = Gate::remembering("a", inventory());
        gate.cluster("b", 0);
        gate.take(Change::AllServices(services(0..20)), 0);
        gate.take(Change::AllNodes(Vec::new()), 0);
        gate.complete(0);
        assert!(!gate.hold.may_plan() && gate.services() == 0);
        if back {
            gate.cluster("a", 10);
            gate.take(Change::AllServices(services(0..20)), 10);
            gate.tick(10);
            assert!(!gate.hold.may_plan(), "its nodes are still to come");
            gate.take(Change::AllNodes(Vec::new()), 11);
            gate.tick(11);
            assert!(!gate.hold.may_plan(), "and there are none, though there were ten");
            gate.release();
        } else {
            gate.tick(300);
        }
        assert!(gate.hold.may_plan() && gate.services() == 20, "{:?}", gate.told);
    }
}

#[test]
fn an_inventory_is_other_where_objects_are_or_endpoints_by_a_tenth() {
    let other = |endpoints| Inventory { endpoints, ..inventory() };
    assert!(!other(13).differs(&inventory()) && other(14).differs(&inventory()) && other(10).differs(&inventory()));
    let fewer = Inventory { nodes: BTreeSet::new(), ..inventory() };
    assert!(fewer.differs(&inventory()));
}

fn any_slices() -> impl Strategy<Value = Vec<EndpointList>> {
    let slice = (0..6usize, prop::collection::vec(1..30u8, 0..8));
    prop::collection::vec(slice, 0..6).prop_map(|all| {
        let mut all: Vec<_> = all.into_iter().map(|(name, e)| slice_of(name % 3, name, &e)).collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all.dedup_by(|a, b| a.key == b.key);
        all
    })
}

#[derive(Debug, Clone)]
enum Step {
    Take(Change),
    Wait(u64),
    Release,
}

fn any_step() -> impl Strategy<Value = Step> {
    let services = prop::collection::btree_set(0..30usize, 0..30)
        .prop_map(|all| Change::AllServices(all.into_iter().map(|n| service("web", n)).collect()));
    let nodes = prop::collection::btree_set(0..30usize, 0..30)
        .prop_map(|all| Change::AllNodes(all.into_iter().map(node).collect()));
    prop_oneof![
        3 => services.prop_map(Step::Take),
        3 => nodes.prop_map(Step::Take),
        3 => any_slices().prop_map(|all| Step::Take(Change::AllEndpoints(EndpointsApi::Slices, all))),
        2 => (0..30usize).prop_map(|n| Step::Take(Change::Service(Box::new(service("web", n))))),
        1 => (0..30usize).prop_map(|n| Step::Take(Change::ServiceGone(service("web", n).key))),
        1 => (0..30usize).prop_map(|n| Step::Take(Change::Node(node(n)))),
        3 => any_slices().prop_filter_map("one", |mut all| Some(Step::Take(Change::Endpoints(all.pop()?)))),
        1 => (0..6usize).prop_map(|n| Step::Take(Change::EndpointsGone(slice(n, &[]).key))),
        1 => (0..200u64).prop_map(Step::Wait),
        1 => Just(Step::Release),
    ]
}

/// Every Service, Node and endpoint.
fn everything(cluster: &Snapshot) -> BTreeSet<String> {
    let services = cluster.services().map(|s| s.key.to_string());
    let nodes = cluster.nodes().map(|n| n.name.to_string());
    let endpoints = cluster.endpoint_lists().flat_map(|(_, service, subsets)| {
        subsets.iter().flat_map(|s| &s.endpoints).map(move |e| format!("{service} {}", e.address))
    });
    services.chain(nodes).chain(endpoints).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// Whatever comes: what the source has is served, what is kept beyond that is what is held, one list removes no more than half
    /// of what is many, and after a release everything is as the source has it.
    #[test]
    fn nothing_is_lost_and_nothing_stays(steps in prop::collection::vec(any_step(), 1..30)) {
        let mut gate = Gate::new(Some(LIMIT));
        let mut truth = Snapshot::default();
        let mut now = 0;
        for step in steps {
            let before = everything(&gate.cluster);
            match step {
                Step::Take(change) => {
                    truth.apply(change.clone());
                    let first = ListKey::of(&change).is_some_and(|list| !gate.hold.listed.contains(&list));
                    let kind = ListKey::of(&change).map(|list| list.kind);
                    gate.take(change, now);
                    let of_kind = |all: &BTreeSet<String>| match kind {
                        Some(ObjectKind::Service) => all.iter().filter(|t| t.starts_with("web/s") && !t.contains(' ')).cloned().collect(),
                        Some(ObjectKind::Node) => all.iter().filter(|t| t.starts_with('n')).cloned().collect(),
                        Some(ObjectKind::Endpoints) => all.iter().filter(|t| t.contains(' ')).cloned().collect(),
                        None => BTreeSet::new(),
                    };
                    let (had, has) = (of_kind(&before), of_kind(&everything(&gate.cluster)));
                    let lost = had.difference(&has).count();
                    prop_assert!(first || had.len() < 10 || lost * 2 <= had.len(), "{lost} of {} in one list", had.len());
                }
                Step::Wait(seconds) => { now += seconds; gate.tick(now); }
                Step::Release => gate.release(),
            }
            let (all, should) = (everything(&gate.cluster), everything(&truth));
            prop_assert!(should.is_subset(&all), "{:?}", should.difference(&all));
            let held: usize = ObjectKind::ALL.map(|kind| gate.hold.held(kind)).iter().sum();
            let more = all.difference(&should).count();
            prop_assert!(more <= held, "{more} are kept, {held} are held");
            if held == 0 {
                prop_assert_eq!(&gate.cluster, &truth);
            }
        }
        gate.release();
        prop_assert_eq!(&gate.cluster, &truth);
        prop_assert!(ObjectKind::ALL.iter().all(|kind| gate.hold.held(*kind) == 0));
    }
}

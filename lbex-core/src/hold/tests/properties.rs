//! What holds of any lists and watches.

use proptest::prelude::*;

use super::*;

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
        .prop_map(|all| Change::AllServices(all.into_iter().map(|n| service("web", n).into()).collect()));
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
                    let first = ListKey::of(&change).is_some_and(|list| !gate.hold.clusters.has_told(&list));
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

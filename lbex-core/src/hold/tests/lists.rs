//! Lists that lack most.

use super::*;

#[test]
fn a_list_that_lacks_most_is_taken_in_but_for_what_it_lacks() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.take(Change::AllServices(services(0..10)), 0);
    assert_eq!(gate.texts(), [""; 0], "a first list removes nothing");
    let mut list = services(8..12);
    Arc::make_mut(&mut list[0]).headless = true;
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
    let of = |namespace: &str, count| (0..count).map(|n| service(namespace, n).into()).collect::<Vec<_>>();
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
    gate.cluster("a");
    gate.take(Change::AllServices(services(0..100)), 0);
    gate.cluster("b");
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

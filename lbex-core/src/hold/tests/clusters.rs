//! Another cluster.

use super::*;

#[test]
fn another_cluster_waits_and_then_replaces_everything() {
    for by_time in [true, false] {
        let mut gate = Gate::new(Some(LIMIT));
        gate.cluster("a");
        gate.take(Change::AllServices(services(0..3)), 0);
        gate.take(Change::AllNodes(vec![node(1)]), 0);
        gate.cluster("b");
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
        gate.cluster("b");
        assert_eq!(gate.texts(), [""; 0]);
    }
}

#[test]
fn the_first_lists_of_a_cluster_that_is_taken_in_are_not_held() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.cluster("a");
    gate.take(Change::AllServices(services(0..30)), 0);
    gate.take(Change::AllNodes((0..30).map(node).collect()), 0);
    gate.cluster("b");
    gate.take(Change::AllServices(Vec::new()), 10);
    gate.release();
    assert_eq!(gate.services(), 0);
    gate.take(Change::AllNodes(vec![node(40)]), 11);
    assert_eq!(gate.cluster.nodes().len(), 1);
}

#[test]
fn what_is_held_of_lists_that_another_cluster_has_not_told_is_let_go_in_its_time() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.cluster("a");
    gate.take(Change::AllServices(services(0..3)), 0);
    gate.take(Change::AllNodes((0..30).map(node).collect()), 0);
    gate.cluster("b");
    gate.take(Change::AllServices(services(50..51)), 10);
    gate.cluster("a");
    gate.take(Change::AllNodes(vec![node(1)]), 20);
    gate.tick(310);
    assert_eq!((gate.services(), gate.cluster.nodes().len()), (1, 30), "b is taken in; of Nodes only a has told");
    gate.tick(319);
    assert_eq!((gate.cluster.nodes().len(), gate.hold.held(ObjectKind::Node)), (30, 29));
    gate.tick(320);
    assert_eq!((gate.cluster.nodes().len(), gate.hold.held(ObjectKind::Node)), (1, 0));
}

#[test]
fn a_watch_goes_on_where_its_list_is_in_effect_whichever_cluster_is_known() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.cluster("a");
    gate.take(Change::AllServices(services(0..20)), 0);
    gate.take(Change::AllNodes(vec![node(1)]), 0);
    gate.cluster("b");
    gate.take(Change::AllNodes(vec![node(2)]), 10);
    gate.release();
    gate.cluster("a");
    gate.take(Change::Service(Box::new(service("web", 60))), 20);
    assert_eq!((gate.services(), gate.hold.holds_cluster()), (21, false), "the Services are those of a, still");
    gate.take(Change::AllNodes(vec![node(1)]), 30);
    gate.take(Change::Node(node(3)), 31);
    gate.take(Change::ServiceGone(service("web", 0).key), 31);
    assert_eq!((gate.services(), gate.cluster.nodes().len(), gate.hold.holds_cluster()), (20, 1, true));
    gate.tick(330);
    assert_eq!((gate.services(), gate.cluster.nodes().len(), gate.hold.holds_cluster()), (20, 2, false));
    gate.take(Change::AllServices(Vec::new()), 331);
    assert_eq!((gate.services(), gate.hold.held(ObjectKind::Service)), (20, 20), "a has listed them before");
}

#[test]
fn what_follows_when_a_cluster_is_taken_in_is_of_whoever_spoke_last() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.cluster("a");
    gate.take(Change::AllServices(services(0..3)), 0);
    gate.take(Change::AllNodes(vec![node(1)]), 0);
    gate.cluster("b");
    gate.take(Change::AllServices(services(50..51)), 10);
    gate.cluster("a");
    gate.take(Change::Node(node(2)), 20);
    gate.release();
    gate.take(Change::AllServices(services(0..3)), 30);
    assert_eq!((gate.services(), gate.hold.holds_cluster()), (1, true), "a is another now");
}

#[test]
fn while_a_cluster_waits_what_is_in_effect_of_another_is_planned() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.cluster("a");
    gate.take(Change::AllServices(services(0..3)), 0);
    gate.take(Change::AllNodes(vec![node(1)]), 0);
    gate.cluster("b");
    gate.take(Change::AllServices(services(50..51)), 10);
    gate.release();
    gate.cluster("a");
    gate.take(Change::AllNodes(vec![node(1)]), 20);
    assert!(gate.hold.holds_cluster() && gate.hold.may_plan(), "the Nodes that a told first are still in effect");
}

#[test]
fn a_cluster_that_the_operator_wants_is_taken_in_as_soon_as_it_has_a_list() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.cluster("a");
    gate.take(Change::AllServices(services(0..3)), 0);
    gate.cluster("b");
    gate.take(Change::Service(Box::new(service("web", 60))), 10);
    gate.release();
    assert_eq!(gate.services(), 3);
    gate.take(Change::AllServices(services(0..1)), 20);
    gate.tick(20);
    assert_eq!((gate.services(), gate.hold.holds_cluster()), (1, false));
}

#[test]
fn the_known_cluster_may_come_back() {
    let mut gate = Gate::new(Some(LIMIT));
    gate.cluster("a");
    gate.take(Change::AllServices(services(0..30)), 0);
    gate.cluster("b");
    gate.take(Change::AllServices(Vec::new()), 10);
    gate.take(Change::AllEndpoints(EndpointsApi::Slices, Vec::new()), 10);
    // Its other watches still go on.
    gate.cluster("a");
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
    gate.cluster("a");
    gate.take(Change::AllServices(services(0..3)), 0);
    gate.hold.cluster(None);
    gate.take(Change::AllServices(services(0..2)), 1);
    assert_eq!(gate.services(), 2);
    gate.cluster("b");
    gate.take(Change::AllServices(services(0..1)), 2);
    assert!(gate.hold.holds_cluster(), "it is remembered meanwhile");
}

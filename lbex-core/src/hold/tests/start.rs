//! The first lists after a restart.

use super::*;

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
    gate.cluster("a");
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
        gate.cluster("a");
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
        gate.cluster("b");
        gate.take(Change::AllServices(services(0..20)), 0);
        gate.take(Change::AllNodes(Vec::new()), 0);
        gate.complete(0);
        assert!(!gate.hold.may_plan() && gate.services() == 0);
        if back {
            gate.cluster("a");
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

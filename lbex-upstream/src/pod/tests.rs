use lbex_core::snapshot::Change;

use super::*;
use crate::testing::{
    cluster, cluster_of_slices, parsed, ready, resolve, service, slice, subset, targets, terminating, texts,
    three_nodes, unready,
};

fn pods() -> Service {
    service(&[("upstream-type", "pod")])
}

#[test]
fn the_addresses_and_ports_of_ready_endpoints() {
    let slices = vec![
        slice("web-4", subset(&[("http", 8080)], vec![ready("10.1.0.2", "a"), unready("10.1.0.3", "a")])),
        slice("web-6", subset(&[("http", 8080)], vec![ready("fd01::2", "a")])),
        slice("web-n", subset(&[("http", 9090)], vec![ready("10.1.0.1", "b")])),
    ];
    let cluster = cluster_of_slices(three_nodes(), slices);
    assert_eq!(targets(&PodResolver, &cluster, &pods()), ["10.1.0.1:9090", "10.1.0.2:8080", "[fd01::2]:8080"]);
}

#[test]
fn it_asks_neither_for_the_node_nor_for_its_state() {
    let cluster = cluster(Vec::new(), vec![ready("10.1.0.1", "nowhere"), ready("10.1.0.2", "")]);
    assert_eq!(targets(&PodResolver, &cluster, &pods()), ["10.1.0.1:8080", "10.1.0.2:8080"]);
    let expected = Inputs { endpoints: true, nodes: NodeInputs::None };
    assert_eq!(PodResolver.inputs(&parsed(&pods())), expected);
}

#[test]
fn one_address_is_one_target_whatever_node_it_names() {
    let cluster = cluster(Vec::new(), vec![ready("10.1.0.1", "a"), ready("10.1.0.1", "b")]);
    assert_eq!(targets(&PodResolver, &cluster, &pods()), ["10.1.0.1:8080"]);
}

#[test]
fn from_none_to_three_to_none() {
    let service = pods();
    let mut cluster = cluster(Vec::new(), Vec::new());
    assert!(targets(&PodResolver, &cluster, &service).is_empty());
    let three = ["10.1.0.1", "10.1.0.2", "10.1.0.3"].map(|a| ready(a, "a")).to_vec();
    cluster.apply(Change::Endpoints(slice("web-1", subset(&[("http", 8080)], three))));
    assert_eq!(targets(&PodResolver, &cluster, &service).len(), 3);
    cluster.apply(Change::EndpointsGone(slice("web-1", subset(&[], Vec::new())).key));
    assert!(targets(&PodResolver, &cluster, &service).is_empty());
}

#[test]
fn terminating_ones_are_used_when_all_are_and_that_is_told() {
    let cluster = cluster(Vec::new(), vec![terminating("10.1.0.1", "a"), unready("10.1.0.2", "a")]);
    let resolved = resolve(&PodResolver, &cluster, &pods()).unwrap();
    assert_eq!(texts(&resolved.targets), ["10.1.0.1:8080"]);
    assert_eq!(resolved.notes, [Reason::AllTerminating]);
}

#[test]
fn a_headless_service_is_served() {
    let headless = Service { headless: true, cluster_ips: Vec::new(), ..pods() };
    let cluster = cluster(Vec::new(), vec![ready("10.1.0.1", "a")]);
    assert_eq!(targets(&PodResolver, &cluster, &headless), ["10.1.0.1:8080"]);
}

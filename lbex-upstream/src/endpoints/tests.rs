use lbex_core::model::{EndpointPort, Protocol};

use super::*;
use crate::testing::{cluster, cluster_of_slices, gone, ip, port, ready, service, slice, subset, terminating, unready};

fn addresses(cluster: &Snapshot, port: &ServicePort) -> (Vec<String>, Vec<Reason>) {
    let counting = counting(cluster, &service(&[]), port);
    (counting.endpoints.iter().map(|e| e.address.to_string()).collect(), counting.notes)
}

#[test]
fn ready_endpoints_count_and_no_others() {
    let endpoints = vec![
        ready("10.1.0.1", "a"),
        unready("10.1.0.2", "a"),
        terminating("10.1.0.3", "b"),
        gone("10.1.0.4", "b"),
        ready("fd01::1", "a"),
    ];
    let (addresses, notes) = addresses(&cluster(Vec::new(), endpoints), &port("http"));
    assert_eq!(addresses, ["10.1.0.1:8080", "[fd01::1]:8080"]);
    assert_eq!(notes, [], "terminating endpoints are nothing to tell while others are ready");
}

#[test]
fn terminating_endpoints_that_serve_count_where_none_is_ready() {
    let endpoints = vec![unready("10.1.0.2", "a"), terminating("10.1.0.3", "b"), gone("10.1.0.4", "b")];
    let (addresses, notes) = addresses(&cluster(Vec::new(), endpoints), &port("http"));
    assert_eq!(addresses, ["10.1.0.3:8080"]);
    assert_eq!(notes, [Reason::AllTerminating]);
}

#[test]
fn one_that_serves_but_is_neither_ready_nor_terminating_does_not_count() {
    let starting = Endpoint { serving: true, ..unready("10.1.0.2", "a") };
    let (addresses, notes) = addresses(&cluster(Vec::new(), vec![starting]), &port("http"));
    assert!(addresses.is_empty() && notes.is_empty());
}

#[test]
fn readiness_is_decided_for_each_port() {
    let slices = vec![
        slice("web-1", subset(&[("http", 8080)], vec![ready("10.1.0.1", "a")])),
        slice("web-2", subset(&[("admin", 9090)], vec![terminating("10.1.0.2", "a")])),
    ];
    let cluster = cluster_of_slices(Vec::new(), slices);
    assert_eq!(addresses(&cluster, &port("http")), (vec!["10.1.0.1:8080".to_owned()], vec![]));
    assert_eq!(addresses(&cluster, &port("admin")), (vec!["10.1.0.2:9090".to_owned()], vec![Reason::AllTerminating]));
}

#[test]
fn a_named_target_port_may_differ_between_pods() {
    let slices = vec![
        slice("web-1", subset(&[("http", 8080), ("admin", 1)], vec![ready("10.1.0.1", "a")])),
        slice("web-2", subset(&[("http", 9090)], vec![ready("10.1.0.2", "a")])),
    ];
    let (addresses, _) = addresses(&cluster_of_slices(Vec::new(), slices), &port("http"));
    assert_eq!(addresses, ["10.1.0.1:8080", "10.1.0.2:9090"]);
}

#[test]
fn name_and_protocol_must_be_the_service_ports() {
    let mut offered = subset(&[("http", 8080)], vec![ready("10.1.0.1", "a")]);
    offered.ports.push(EndpointPort { name: "http".into(), protocol: Some(Protocol::Udp), port: 53 });
    offered.ports.push(EndpointPort { name: "http".into(), protocol: None, port: 132 });
    let cluster = cluster_of_slices(Vec::new(), vec![slice("web-1", offered)]);
    let udp = ServicePort { protocol: Some(Protocol::Udp), ..port("http") };
    assert_eq!(addresses(&cluster, &port("http")).0, ["10.1.0.1:8080"]);
    assert_eq!(addresses(&cluster, &udp).0, ["10.1.0.1:53"]);
    assert!(addresses(&cluster, &port("https")).0.is_empty());
    assert!(addresses(&cluster, &port("")).0.is_empty(), "a port without a name is not the port named http");
}

#[test]
fn a_port_without_a_name_is_offered_by_one_without() {
    let offered = subset(&[("", 8080), ("http", 1)], vec![ready("10.1.0.1", "a")]);
    let (addresses, _) = addresses(&cluster_of_slices(Vec::new(), vec![slice("web-1", offered)]), &port(""));
    assert_eq!(addresses, ["10.1.0.1:8080"]);
}

#[test]
fn an_endpoint_in_two_slices_counts_once_and_ready_in_one_is_ready() {
    let in_slice = |name, endpoint| slice(name, subset(&[("http", 8080)], vec![endpoint]));
    let slices = vec![
        in_slice("web-1", ready("10.1.0.1", "a")),
        in_slice("web-2", ready("10.1.0.1", "a")),
        in_slice("web-3", terminating("10.1.0.1", "a")),
    ];
    let (addresses, notes) = addresses(&cluster_of_slices(Vec::new(), slices), &port("http"));
    assert_eq!(addresses, ["10.1.0.1:8080"]);
    assert_eq!(notes, []);
}

#[test]
fn addresses_that_are_not_unicast_are_left_out_and_told() {
    let bad = ["255.255.255.255", "0.0.0.0", "224.0.0.1", "::", "ff02::1", "::ffff:224.0.0.1", "224.0.0.1"];
    let endpoints = bad.iter().map(|a| ready(a, "a")).chain([ready("10.1.0.1", "a")]).collect();
    let (addresses, notes) = addresses(&cluster(Vec::new(), endpoints), &port("http"));
    assert_eq!(addresses, ["10.1.0.1:8080"]);
    assert_eq!(notes, [Reason::NotUnicast { count: 6, example: ip("0.0.0.0") }], "each once, the smallest as example");
}

#[test]
fn ipv4_inside_ipv6_is_ipv4() {
    let endpoints = vec![ready("::ffff:10.1.0.1", "a"), ready("10.1.0.1", "a")];
    assert_eq!(addresses(&cluster(Vec::new(), endpoints), &port("http")).0, ["10.1.0.1:8080"]);
}

#[test]
fn a_port_number_of_0_is_no_port() {
    let offered = subset(&[("http", 0)], vec![ready("10.1.0.1", "a")]);
    let cluster = cluster_of_slices(Vec::new(), vec![slice("web-1", offered)]);
    assert_eq!(addresses(&cluster, &port("http")), (vec![], vec![]));
}

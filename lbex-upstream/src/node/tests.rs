use lbex_core::model::{EndpointSubset, ServiceType};
use lbex_core::snapshot::Change;

use super::*;
use crate::testing::{
    cluster, cluster_of_slices, ip, node, parsed, port, ready, resolve, service, slice, subset, targets, terminating,
    texts, three_nodes, unready,
};

const IPV4: [&str; 1] = ["10.96.0.1"];
const IPV6: [&str; 1] = ["fd00:96::1"];

fn with_cluster_ips(annotations: &[(&str, &str)], ips: &[&str]) -> Service {
    Service { cluster_ips: ips.iter().map(|a| ip(a)).collect(), ..service(annotations) }
}

/// An IPv4 Service with the default node set, `host`.
fn on_hosts() -> Service {
    with_cluster_ips(&[], &IPV4)
}

/// An IPv4 Service with node set `all`.
fn on_all() -> Service {
    with_cluster_ips(&[("node-set", "all")], &IPV4)
}

/// Changes one of the three nodes.
fn nodes_with(name: &str, change: impl Fn(&mut Node)) -> Vec<Node> {
    let mut nodes = three_nodes();
    nodes.iter_mut().filter(|n| &*n.name == name).for_each(change);
    nodes
}

fn on_a_and_b() -> Vec<lbex_core::model::Endpoint> {
    vec![ready("10.1.0.1", "a"), ready("10.1.0.2", "b"), ready("10.1.0.3", "a"), unready("10.1.0.4", "c")]
}

mod host {
    use super::*;

    #[test]
    fn nodes_that_run_a_ready_endpoint_each_once() {
        let cluster = cluster(three_nodes(), on_a_and_b());
        assert_eq!(targets(&NodeResolver, &cluster, &on_hosts()), ["10.0.0.1:30080", "10.0.0.2:30080"]);
    }

    #[test]
    fn of_that_port() {
        let slices = vec![
            slice("web-1", subset(&[("http", 8080)], vec![ready("10.1.0.1", "a")])),
            slice("web-2", subset(&[("admin", 9090)], vec![ready("10.1.0.2", "b")])),
        ];
        let cluster = cluster_of_slices(three_nodes(), slices);
        let mut service = on_hosts();
        assert_eq!(targets(&NodeResolver, &cluster, &service), ["10.0.0.1:30080"]);
        service.ports = vec![ServicePort { node_port: Some(30090), ..port("admin") }];
        assert_eq!(targets(&NodeResolver, &cluster, &service), ["10.0.0.2:30090"]);
    }

    #[test]
    fn a_node_that_is_not_ready_stays() {
        let cluster = cluster(nodes_with("a", |n| n.ready = false), on_a_and_b());
        assert_eq!(targets(&NodeResolver, &cluster, &on_hosts()), ["10.0.0.1:30080", "10.0.0.2:30080"]);
    }

    #[test]
    fn a_node_that_is_leaving_or_excluded_is_left_out() {
        for change in [|n: &mut Node| n.leaving = true, |n: &mut Node| n.excluded = true] {
            let cluster = cluster(nodes_with("a", change), on_a_and_b());
            assert_eq!(targets(&NodeResolver, &cluster, &on_hosts()), ["10.0.0.2:30080"]);
        }
    }

    #[test]
    fn that_none_is_left_is_told() {
        let cluster = cluster(nodes_with("a", |n| n.leaving = true), vec![ready("10.1.0.1", "a")]);
        let resolved = resolve(&NodeResolver, &cluster, &on_hosts()).unwrap();
        assert_eq!(resolved, Resolved { targets: Vec::new(), notes: vec![Reason::NoNodeAvailable { count: 1 }] });
    }

    #[test]
    fn no_endpoints_no_nodes_and_nothing_to_tell() {
        assert!(targets(&NodeResolver, &cluster(three_nodes(), Vec::new()), &on_hosts()).is_empty());
        assert!(targets(&NodeResolver, &Snapshot::default(), &on_hosts()).is_empty());
    }

    #[test]
    fn endpoints_of_unknown_nodes_are_left_out_and_told() {
        let endpoints = vec![
            ready("10.1.0.1", "a"),
            ready("10.1.0.2", "y"),
            ready("10.1.0.3", "x"),
            ready("10.1.0.4", ""),
            unready("10.1.0.5", "z"),
        ];
        let resolved = resolve(&NodeResolver, &cluster(three_nodes(), endpoints), &on_hosts()).unwrap();
        assert_eq!(texts(&resolved.targets), ["10.0.0.1:30080"]);
        let example = "x".to_owned();
        assert_eq!(resolved.notes, [Reason::NodeUnknown { count: 3, example }], "the smallest name as example");
    }

    #[test]
    fn endpoints_that_name_no_node_are_told() {
        let cluster = cluster(three_nodes(), vec![ready("10.1.0.4", "")]);
        let resolved = resolve(&NodeResolver, &cluster, &on_hosts()).unwrap();
        assert!(resolved.targets.is_empty());
        let text = "1 endpoint(s) left out whose node is not known; they name none";
        assert_eq!(resolved.notes.iter().map(ToString::to_string).collect::<Vec<_>>(), [text]);
    }

    #[test]
    fn when_all_are_terminating_their_nodes_count() {
        let endpoints = vec![terminating("10.1.0.1", "b"), unready("10.1.0.2", "a")];
        let resolved = resolve(&NodeResolver, &cluster(three_nodes(), endpoints), &on_hosts()).unwrap();
        assert_eq!(texts(&resolved.targets), ["10.0.0.2:30080"]);
        assert_eq!(resolved.notes, [Reason::AllTerminating]);
    }

    #[test]
    fn a_node_that_comes_and_goes() {
        let service = on_hosts();
        let mut cluster = cluster(Vec::new(), vec![ready("10.1.0.1", "a")]);
        assert!(resolve(&NodeResolver, &cluster, &service).unwrap().targets.is_empty());
        cluster.apply(Change::Node(node("a", &["10.0.0.1"])));
        assert_eq!(targets(&NodeResolver, &cluster, &service), ["10.0.0.1:30080"]);
        cluster.apply(Change::NodeGone("a".into()));
        assert!(resolve(&NodeResolver, &cluster, &service).unwrap().targets.is_empty());
    }

    #[test]
    fn it_depends_on_the_endpoints_and_their_nodes() {
        let expected = Inputs { endpoints: true, nodes: NodeInputs::OfEndpoints };
        assert_eq!(NodeResolver.inputs(&parsed(&on_hosts())), expected);
    }
}

mod all {
    use super::*;

    #[test]
    fn every_available_node_whatever_the_endpoints() {
        for endpoints in [Vec::new(), on_a_and_b()] {
            let cluster = cluster(three_nodes(), endpoints);
            let expected = ["10.0.0.1:30080", "10.0.0.2:30080", "10.0.0.3:30080"];
            assert_eq!(targets(&NodeResolver, &cluster, &on_all()), expected);
        }
    }

    #[test]
    fn not_one_that_is_leaving_excluded_or_not_ready() {
        for change in
            [|n: &mut Node| n.leaving = true, |n: &mut Node| n.excluded = true, |n: &mut Node| n.ready = false]
        {
            let cluster = cluster(nodes_with("b", change), Vec::new());
            assert_eq!(targets(&NodeResolver, &cluster, &on_all()), ["10.0.0.1:30080", "10.0.0.3:30080"]);
        }
    }

    #[test]
    fn where_no_node_is_ready_all_available_ones_count_loudly() {
        let mut nodes = nodes_with("b", |n| n.leaving = true);
        for node in &mut nodes {
            node.ready = false;
        }
        let resolved = resolve(&NodeResolver, &cluster(nodes, Vec::new()), &on_all()).unwrap();
        assert_eq!(texts(&resolved.targets), ["10.0.0.1:30080", "10.0.0.3:30080"]);
        assert_eq!(resolved.notes, [Reason::NoNodeReady { count: 2 }]);
    }

    /// A control plane that is cut off from its workers still finds its own node Ready.
    #[test]
    fn a_ready_node_that_is_not_available_does_not_change_that() {
        let mut nodes = nodes_with("a", |n| n.excluded = true);
        nodes.iter_mut().filter(|n| !n.excluded).for_each(|n| n.ready = false);
        let resolved = resolve(&NodeResolver, &cluster(nodes, Vec::new()), &on_all()).unwrap();
        assert_eq!(texts(&resolved.targets), ["10.0.0.2:30080", "10.0.0.3:30080"]);
        assert_eq!(resolved.notes, [Reason::NoNodeReady { count: 2 }]);
    }

    #[test]
    fn that_none_is_left_is_told() {
        let mut nodes = three_nodes();
        for node in &mut nodes {
            node.excluded = true;
        }
        let resolved = resolve(&NodeResolver, &cluster(nodes, Vec::new()), &on_all()).unwrap();
        assert_eq!(resolved, Resolved { targets: Vec::new(), notes: vec![Reason::NoNodeAvailable { count: 3 }] });
        assert!(targets(&NodeResolver, &Snapshot::default(), &on_all()).is_empty());
    }

    #[test]
    fn external_traffic_policy_local_means_host() {
        let local = Service { local_traffic_only: true, ..on_all() };
        let cluster = cluster(three_nodes(), on_a_and_b());
        assert_eq!(targets(&NodeResolver, &cluster, &local), ["10.0.0.1:30080", "10.0.0.2:30080"]);
    }

    #[test]
    fn it_depends_on_all_nodes_and_on_no_endpoints() {
        let expected = Inputs { endpoints: false, nodes: NodeInputs::All };
        assert_eq!(NodeResolver.inputs(&parsed(&on_all())), expected);
    }
}

mod addresses {
    use super::*;

    #[test]
    fn one_of_each_family_of_the_service() {
        let twice = vec![node("a", &["fd00::1", "10.0.0.1", "fd00::2", "10.0.0.2"])];
        let cluster = cluster(twice, vec![ready("10.1.0.1", "a")]);
        let got = |ips: &[&str]| targets(&NodeResolver, &cluster, &with_cluster_ips(&[], ips));
        assert_eq!(got(&[IPV4[0], IPV6[0]]), ["10.0.0.1:30080", "[fd00::1]:30080"], "dual stack, the first of each");
        assert_eq!(got(&IPV4), ["10.0.0.1:30080"]);
        assert_eq!(got(&IPV6), ["[fd00::1]:30080"]);
        assert_eq!(got(&[]), ["10.0.0.1:30080", "[fd00::1]:30080"], "ClusterIPs are not known");
    }

    #[test]
    fn of_the_wanted_type() {
        let mut both = node("a", &["10.0.0.1"]);
        both.addresses.push((NodeAddressType::External, ip("192.0.2.1")));
        both.addresses.push((NodeAddressType::External, ip("2001:db8::1")));
        let cluster = cluster(vec![both], vec![ready("10.1.0.1", "a")]);
        let external = service(&[("node-address-type", "external")]);
        assert_eq!(targets(&NodeResolver, &cluster, &external), ["192.0.2.1:30080", "[2001:db8::1]:30080"]);
        let internal = service(&[("node-address-type", "internal")]);
        assert_eq!(targets(&NodeResolver, &cluster, &internal), ["10.0.0.1:30080"]);
    }

    #[test]
    fn a_node_without_one_is_left_out_and_told() {
        let nodes = vec![node("c", &[]), node("b", &["fd00::2"]), node("a", &["10.0.0.1"]), node("d", &["0.0.0.0"])];
        for annotations in [&[][..], &[("node-set", "all")]] {
            let endpoints = ["a", "b", "c", "d"].map(|n| ready("10.1.0.1", n)).to_vec();
            let cluster = cluster(nodes.clone(), endpoints);
            let resolved = resolve(&NodeResolver, &cluster, &with_cluster_ips(annotations, &IPV4)).unwrap();
            assert_eq!(texts(&resolved.targets), ["10.0.0.1:30080"]);
            let note = Reason::NodeWithoutAddress { count: 3, example: "b".into(), wanted: "internal IPv4" };
            assert_eq!(resolved.notes, [note]);
        }
    }

    #[test]
    fn the_note_says_what_was_wanted() {
        let cluster = cluster(vec![node("a", &[])], vec![ready("10.1.0.1", "a")]);
        for (address_type, ips, wanted) in [
            ("internal", &[IPV4[0], IPV6[0]][..], "no internal IP address, a among"),
            ("internal", &IPV4, "no internal IPv4 address, a among"),
            ("internal", &IPV6, "no internal IPv6 address, a among"),
            ("external", &[], "no external IP address, a among"),
            ("external", &IPV4, "no external IPv4 address, a among"),
            ("external", &IPV6, "no external IPv6 address, a among"),
        ] {
            let service = with_cluster_ips(&[("node-address-type", address_type)], ips);
            let note = resolve(&NodeResolver, &cluster, &service).unwrap().notes.remove(0).to_string();
            assert!(note.contains(wanted), "{note}");
        }
    }

    #[test]
    fn a_node_that_is_not_available_lacks_nothing() {
        let mut leaving = node("b", &[]);
        leaving.leaving = true;
        let cluster =
            cluster(vec![node("a", &["10.0.0.1"]), leaving], vec![ready("10.1.0.1", "a"), ready("10.1.0.2", "b")]);
        assert_eq!(targets(&NodeResolver, &cluster, &on_hosts()), ["10.0.0.1:30080"]);
    }

    #[test]
    fn two_nodes_of_one_address_are_one_target() {
        let nodes = vec![node("a", &["10.0.0.1"]), node("b", &["10.0.0.1"])];
        assert_eq!(targets(&NodeResolver, &cluster(nodes, on_a_and_b()), &on_hosts()), ["10.0.0.1:30080"]);
    }
}

#[test]
fn a_port_without_a_node_port_is_not_served_whatever_the_cluster() {
    for node_port in [None, Some(0)] {
        let ports = vec![ServicePort { node_port, ..port("http") }];
        let service = Service { kind: ServiceType::ClusterIp, ports, ..on_hosts() };
        for cluster in [Snapshot::default(), cluster(three_nodes(), on_a_and_b())] {
            assert_eq!(resolve(&NodeResolver, &cluster, &service), Err(Reason::NoNodePort));
        }
    }
}

#[test]
fn endpoints_of_the_older_api_count_the_same() {
    let subsets: Vec<EndpointSubset> = vec![
        subset(&[("http", 8080)], vec![ready("10.1.0.1", "a")]),
        subset(&[("http", 9090)], vec![ready("10.1.0.2", "b"), unready("10.1.0.3", "c")]),
    ];
    let mut list = slice("web", EndpointSubset::default());
    list.key.api = lbex_core::model::EndpointsApi::Endpoints;
    list.subsets = subsets.into();
    let mut cluster = cluster_of_slices(three_nodes(), Vec::new());
    cluster.apply(Change::Endpoints(list));
    assert_eq!(targets(&NodeResolver, &cluster, &on_hosts()), ["10.0.0.1:30080", "10.0.0.2:30080"]);
}

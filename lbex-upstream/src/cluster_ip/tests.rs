use super::*;
use crate::testing::{ip, parsed, port, resolve, service, targets};

fn by_cluster_ip(ips: &[&str]) -> Service {
    Service { cluster_ips: ips.iter().map(|a| ip(a)).collect(), ..service(&[("upstream-type", "cluster-ip")]) }
}

#[test]
fn the_cluster_ips_and_the_service_port() {
    let nothing = Snapshot::default();
    let got = |ips: &[&str]| targets(&ClusterIpResolver, &nothing, &by_cluster_ip(ips));
    assert_eq!(got(&["10.96.0.1"]), ["10.96.0.1:80"]);
    assert_eq!(got(&["fd00:96::1"]), ["[fd00:96::1]:80"]);
    assert_eq!(got(&["fd00:96::1", "10.96.0.1"]), ["10.96.0.1:80", "[fd00:96::1]:80"]);
}

#[test]
fn it_depends_on_nothing_but_the_service() {
    let inputs = ClusterIpResolver.inputs(&parsed(&by_cluster_ip(&["10.96.0.1"])));
    assert_eq!(inputs, Inputs { endpoints: false, nodes: NodeInputs::None });
}

#[test]
fn without_a_cluster_ip_it_is_not_served() {
    for ips in [&[][..], &["0.0.0.0"], &["ff02::1"]] {
        let resolved = resolve(&ClusterIpResolver, &Snapshot::default(), &by_cluster_ip(ips));
        assert_eq!(resolved, Err(Reason::NoClusterIp), "{ips:?}");
    }
}

#[test]
fn a_node_port_is_not_needed() {
    let mut service = by_cluster_ip(&["10.96.0.1"]);
    service.ports = vec![ServicePort { node_port: None, ..port("http") }];
    assert_eq!(targets(&ClusterIpResolver, &Snapshot::default(), &service), ["10.96.0.1:80"]);
}

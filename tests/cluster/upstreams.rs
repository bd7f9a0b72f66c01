//! Where traffic goes: contract section 5, upstream types `pod` and `cluster-ip`, and what both and `node` have in common.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};
use lbex_test_harness::backends::{Echo, tcp_ask_from};
use lbex_test_harness::netns::Netns;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::{EndpointSlice, Service, endpoint, endpoints, node, service, slice};
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually};
use serde_json::json;

use crate::common::{Cluster, ELSEWHERE, at_is, local, spread_is, tcp_is, udp_is};

/// Lets changes through faster than the default of one reload a second.
const FAST: &str = "--reload-interval=100ms";

fn pods(name: &str) -> Service {
    service(name).ask().lbex("upstream-type", "pod").cluster_ip()
}

/// Pods with several ports, whose numbers differ between Pods, in several EndpointSlices.
async fn pods_with_ports_of_their_own(nginx: Nginx) -> Result<()> {
    let cluster = Cluster::new().await?;
    let netns = Netns::new()?;
    let pod = |name, n| Echo::new(name).ip(netns.v4(n)).inside(&netns).start();
    let (web, admin, newer, dns) = (pod("web", 1)?, pod("admin", 1)?, pod("newer", 2)?, pod("dns", 3)?);
    let (http, metrics, domain) = (free_port()?, free_port()?, free_port()?);
    let ports = |entry: &str, port: u16, target: &str| json!({"name": entry, "port": port, "targetPort": target});
    let many = pods("many").port(ports("http", 80, "web")).port(ports("metrics", 9100, "admin"));
    cluster.objects.create(&many.listen("http", http).listen("metrics", metrics)).await?;
    let both = |slice: &str, http: &Echo, metrics: u16, n: u8| {
        let slice = lbex_test_harness::objects::slice(slice, "many").tcp("http", http.port()).tcp("metrics", metrics);
        slice.ready(netns.v4(n), cluster.node())
    };
    cluster.objects.create(&both("many-1", &web, admin.port(), 1)).await?;
    cluster.objects.create(&both("many-2", &newer, newer.port(), 2)).await?;
    // TCP and UDP on one port, and a Service port without a name.
    let name = |text: &str, protocol: &str| json!({"name": text, "port": 53, "protocol": protocol});
    let two = pods("dns").port(name("udp", "UDP")).port(name("tcp", "TCP"));
    cluster.objects.create(&two.listen("udp", domain).listen("tcp", domain)).await?;
    let endpoints = slice("dns-1", "dns").tcp("tcp", dns.port()).udp("udp", dns.port());
    cluster.objects.create(&endpoints.ready(netns.v4(3), cluster.node())).await?;
    let nameless = free_port()?;
    cluster.objects.create(&pods("nameless").tcp("", 80, 0).listen("unnamed", nameless)).await?;
    let endpoints = slice("nameless-1", "nameless").tcp("", web.port()).endpoint(endpoint(netns.v4(1)));
    cluster.objects.create(&endpoints).await?;

    let lbex = cluster.lbex().nginx(nginx).start().await?;
    lbex.wait_healthy().await?;
    spread_is(http, &["web", "newer"]).await?;
    spread_is(metrics, &["admin", "newer"]).await?;
    tcp_is(domain, "dns").await?;
    udp_is(domain, "dns").await?;
    tcp_is(nameless, "web").await
}
on_each_nginx!(pods_with_ports_of_their_own);

/// None, three, none; then some that end, and some that only end.
async fn endpoints_come_and_go(nginx: Nginx) -> Result<()> {
    let cluster = Cluster::new().await?;
    let netns = Netns::new()?;
    let pod = |name, n| Echo::new(name).ip(netns.v4(n)).port(8080).inside(&netns).start();
    let _pods = [pod("a", 1)?, pod("b", 2)?, pod("c", 3)?];
    let port = free_port()?;
    let web = pods("web").port(json!({"name": "tcp", "port": 80})).udp("udp", 80, 0).headless();
    cluster.objects.create(&web.listen("tcp", port).listen("udp", port)).await?;
    let lbex = cluster.lbex().arg(FAST).nginx(nginx).start().await?;
    lbex.wait_healthy().await?;
    tcp_is(port, "closed").await?;
    udp_is(port, "silent").await?;

    let empty = || slice("web-1", "web").tcp("tcp", 8080).udp("udp", 8080);
    let at = |n: u8| endpoint(netns.v4(n)).node(cluster.node());
    cluster.objects.put(&empty().endpoint(at(1)).endpoint(at(2)).endpoint(at(3))).await?;
    spread_is(port, &["a", "b", "c"]).await?;
    cluster
        .objects
        .put(&empty().endpoint(at(1)).endpoint(at(2).not_ready()).endpoint(at(3).conditions(json!({}))))
        .await?;
    spread_is(port, &["a", "c"]).await?;
    // Those that end take no new clients while others are ready.
    cluster.objects.put(&empty().endpoint(at(1).terminating()).endpoint(at(2).terminating()).endpoint(at(3))).await?;
    spread_is(port, &["c"]).await?;
    udp_is(port, "c").await?;
    cluster.objects.put(&empty().endpoint(at(1).terminating()).endpoint(at(2).terminating())).await?;
    spread_is(port, &["a", "b"]).await?;
    cluster.told(&lbex, "web", "AllTerminating").await?;
    cluster.objects.put(&empty()).await?;
    tcp_is(port, "closed").await?;
    udp_is(port, "silent").await?;
    cluster.objects.put(&empty().endpoint(at(2))).await?;
    tcp_is(port, "b").await?;
    cluster.objects.delete("EndpointSlice", "web-1").await?;
    tcp_is(port, "closed").await
}
on_each_nginx!(endpoints_come_and_go);

#[tokio::test]
async fn cluster_ips_of_either_family() -> Result<()> {
    let cluster = Cluster::new().await?;
    let netns = Netns::new()?;
    let cases: [(&str, &[&str], &[&str]); 3] =
        [("four", &["IPv4"], &["v4"]), ("six", &["IPv6"], &["v6"]), ("dual", &["IPv6", "IPv4"], &["v4", "v6"])];
    let mut backends = Vec::new();
    let mut listen = Vec::new();
    for (name, families, _) in cases {
        let port = free_port()?;
        let made = service(name).ask().lbex("upstream-type", "cluster-ip").cluster_ip().families(families);
        let made = cluster.objects.create(&made.tcp("http", 80, 0).listen("http", port)).await?;
        for ip in made["spec"]["clusterIPs"].as_array().context("no ClusterIPs")? {
            let ip: IpAddr = ip.as_str().unwrap_or_default().parse()?;
            netns.add_address(ip)?;
            let name = if ip.is_ipv4() { "v4" } else { "v6" };
            backends.push(Echo::new(name).ip(ip).port(80).inside(&netns).start()?);
        }
        listen.push(port);
    }
    let _lbex = cluster.start(&[]).await?;
    for ((_, _, expected), port) in cases.iter().zip(listen) {
        spread_is(port, expected).await?;
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        if expected.len() == 1 {
            at_is(v6, expected[0]).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn nodes_and_pods_of_either_family() -> Result<()> {
    let cluster = Cluster::new().await?;
    let netns = Netns::new()?;
    let both = cluster.name("both");
    cluster.objects.create(&node(&both).internal("127.0.0.5").internal(Ipv6Addr::LOCALHOST)).await?;
    let families: [(&str, &[&str], &[&str]); 3] =
        [("four", &["IPv4"], &["n4"]), ("six", &["IPv6"], &["n6"]), ("dual", &["IPv4", "IPv6"], &["n4", "n6"])];
    let mut kept = Vec::new();
    let mut listen = Vec::new();
    for (name, families, _) in families {
        let pair = Echo::on_one_port([("n4", [127, 0, 0, 5].into()), ("n6", Ipv6Addr::LOCALHOST.into())])?;
        let port = free_port()?;
        let made = service(name).ask().families(families).tcp("http", 80, pair[0].port()).listen("http", port);
        cluster.objects.create(&made).await?;
        cluster.objects.create(&slice(name, name).tcp("http", 80).ready(ELSEWHERE, &both)).await?;
        kept.extend(pair);
        listen.push(port);
    }
    let pods_port = free_port()?;
    let four = Echo::new("p4").ip(netns.v4(1)).inside(&netns).start()?;
    let six = Echo::new("p6").ip(netns.v6(1)).inside(&netns).start()?;
    let made = pods("pods").families(&["IPv4", "IPv6"]).tcp("http", 80, 0).listen("http", pods_port);
    cluster.objects.create(&made).await?;
    cluster.objects.create(&slice("pods-4", "pods").tcp("http", four.port()).ready(netns.v4(1), &both)).await?;
    cluster.objects.create(&slice("pods-6", "pods").ipv6().tcp("http", six.port()).ready(netns.v6(1), &both)).await?;

    let _lbex = cluster.start(&[]).await?;
    for ((_, _, expected), port) in families.iter().zip(listen) {
        spread_is(port, expected).await?;
    }
    spread_is(pods_port, &["p4", "p6"]).await
}

#[tokio::test]
async fn the_endpoints_api_instead_of_slices() -> Result<()> {
    let cluster = Cluster::new().await?;
    let netns = Netns::new()?;
    let pod = |name, n| Echo::new(name).ip(netns.v4(n)).port(8080).inside(&netns).start();
    let _pods = [pod("old", 1)?, pod("old-too", 2)?, pod("new", 3)?];
    let port = free_port()?;
    cluster.objects.create(&pods("web").tcp("http", 80, 0).listen("http", port)).await?;
    let [first, second] = [1, 2].map(|n| netns.v4(n).to_string());
    let [first, second] = [(first.as_str(), cluster.node()), (second.as_str(), cluster.node())];
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    cluster.objects.create(&endpoints("web").subset(&[first], &[second], &ports)).await?;
    cluster.objects.create(&slice("web-1", "web").tcp("http", 8080).ready(netns.v4(3), cluster.node())).await?;
    {
        let lbex = cluster.start(&["--endpoints-api=endpoints", FAST]).await?;
        lbex.wait_log("endpoints from endpoints", SOON).await?;
        spread_is(port, &["old"]).await?;
        cluster.objects.put(&endpoints("web").subset(&[first, second], &[], &ports)).await?;
        spread_is(port, &["old", "old-too"]).await?;
        cluster.objects.put(&endpoints("web")).await?;
        tcp_is(port, "closed").await?;
    }
    for api in ["auto", "endpointslices"] {
        let lbex = cluster.start(&["--endpoints-api", api]).await?;
        lbex.wait_log("endpoints from endpointslices", SOON).await?;
        spread_is(port, &["new"]).await?;
    }
    Ok(())
}

async fn affinity_and_source_ranges(nginx: Nginx) -> Result<()> {
    let cluster = Cluster::new().await?;
    let netns = Netns::new()?;
    let pod = |name, n| Echo::new(name).ip(netns.v4(n)).port(8080).inside(&netns).start();
    let _pods = [pod("a", 1)?, pod("b", 2)?, pod("c", 3)?];
    let (sticky, fenced) = (free_port()?, free_port()?);
    let affinity = json!({"sessionAffinity": "ClientIP"});
    let made = pods("sticky").tcp("http", 80, 0).listen("http", sticky).spec(affinity).lbex("algorithm", "least_conn");
    cluster.objects.create(&made).await?;
    // An API server takes source ranges of Services of type LoadBalancer only.
    let ranges = json!({"loadBalancerSourceRanges": ["127.0.9.0/24"]});
    let made = service("fenced").tcp("http", fenced, 0).ask_by_class().spec(ranges).lbex("upstream-type", "pod");
    cluster.objects.create(&made).await?;
    for name in ["sticky", "fenced"] {
        let three = [1, 2, 3].map(|n| endpoint(netns.v4(n)));
        let all = three.into_iter().fold(slice(name, name).tcp("http", 8080), EndpointSlice::endpoint);
        cluster.objects.create(&all).await?;
    }
    let lbex = cluster.lbex().nginx(nginx).start().await?;
    lbex.wait_healthy().await?;
    cluster.told(&lbex, "sticky", "AffinityOverAlgorithm").await?;
    let mut met = std::collections::BTreeSet::new();
    for client in 1..=20 {
        let source = IpAddr::from([127, 0, 9, client]);
        let first = tcp_ask_from(source, local(sticky)).await?;
        for _ in 0..3 {
            assert_eq!(tcp_ask_from(source, local(sticky)).await?, first, "client {source}");
        }
        met.insert(first);
        tcp_ask_from(source, local(fenced)).await?;
    }
    assert!(met.len() > 1, "20 clients are all on {met:?}");
    tcp_is(fenced, "closed").await?;
    // Without the fence, everybody is let in.
    cluster.objects.patch("Service", "fenced", &json!({"spec": {"loadBalancerSourceRanges": null}})).await?;
    spread_is(fenced, &["a", "b", "c"]).await
}
on_each_nginx!(affinity_and_source_ranges);

#[tokio::test]
async fn what_cannot_be_served_has_a_reason() -> Result<()> {
    let cluster = Cluster::new().await?;
    let port = free_port()?;
    let cases = [
        ("no-node-port", service("no-node-port").cluster_ip().tcp("http", 80, 0), "NoNodePort"),
        ("headless", service("headless").headless().tcp("http", 80, 0), "Headless"),
        (
            "headless-ip",
            service("headless-ip").headless().lbex("upstream-type", "cluster-ip").tcp("http", 80, 0),
            "Headless",
        ),
        ("sctp", service("sctp").port(json!({"name": "http", "port": 80, "protocol": "SCTP"})), "UnsupportedProtocol"),
    ];
    for (_, made, _) in &cases {
        cluster.objects.create(&made.clone().ask().listen("http", port)).await?;
    }
    let served = cluster.serve("served", |service| service).await?;
    let unknown = cluster.serve("unknown", |service| service).await?;
    cluster.objects.put(&slice("unknown-1", "unknown").tcp("http", 80).ready(ELSEWHERE, "no-such-node")).await?;
    let lbex = cluster.start(&[FAST]).await?;
    tcp_is(served.port, "served").await?;
    for (name, _, reason) in &cases {
        let line = cluster.told(&lbex, name, reason).await?;
        assert!(line.contains("not served: "), "{line}");
    }
    tcp_is(port, "refused").await?;
    tcp_is(unknown.port, "closed").await?;
    cluster.told(&lbex, "unknown", "NodeUnknown").await?;
    // What is put right is served.
    let right = json!({"metadata": {"annotations": {"loadbalancer.lbex/upstream-type": "pod"}}});
    cluster.objects.patch("Service", "headless", &right).await?;
    tcp_is(port, "closed").await?;
    eventually("the reason is gone", SOON, || async {
        let left = lbex.metric("lbex_rejections", &[("reason", "Headless")]).await?;
        anyhow::ensure!(left == Some(1.0), "{left:?}");
        Ok(())
    })
    .await
}

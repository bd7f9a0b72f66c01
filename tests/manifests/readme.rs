//! The examples of the original LBEX's README, by their text and on their ports.
//!
//! The ports are below 1024 and the only ones of their kind on a host, so each test has a network namespace
//! of its own, which needs root: LBEX, its NGINX and the nodes are inside, clients outside.

use anyhow::Result;
use lbex_test_harness::backends::Echo;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::netns::Netns;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::{Object, node, slice};
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::wait::SOON;

use crate::support::{Manifests, lbex_on, tcp_reaches, tcp_refused, udp_reaches, udp_silent};

const NTP: &str = include_str!("readme/ntp.yaml");
const NTP_SHORT: &str = include_str!("readme/ntp-short.yaml");
const MY_NGINX: &str = include_str!("readme/my-nginx.yaml");

/// A host of a cluster with three nodes, on two of which the Pods run.
struct Host {
    lbex: Lbex,
    manifests: Manifests,
    netns: Netns,
    _servers: Vec<Echo>,
}

impl Host {
    async fn start(nginx: Nginx, service: &str, node_ports: &[u16]) -> Result<Self> {
        let netns = Netns::new()?;
        let mut servers = Vec::new();
        let mut nodes: Vec<Box<dyn Object>> = Vec::new();
        for n in 2..=4 {
            nodes.push(Box::new(node(&format!("node{n}")).internal(netns.v4(n))));
            for port in node_ports {
                let server = Echo::new(&format!("node{n}:{port}")).ip(netns.v4(n)).port(*port).inside(&netns);
                servers.push(server.start()?);
            }
        }
        // What Kubernetes makes of the Pods that the selectors find: those of node4 are not ready yet.
        let ntp = slice("ntp-x1", "ntp").udp("ntp", 123).udp("", 123);
        let web = slice("my-nginx-x1", "my-nginx").tcp("http", 80).tcp("https", 443);
        for slice in [ntp, web] {
            nodes.push(Box::new(slice.ready("10.1.0.2", "node2").ready("10.1.0.3", "node3")));
        }
        let manifests = Manifests::new()?;
        manifests.put("cluster.json", nodes.iter().map(AsRef::as_ref))?;
        manifests.write("service.yaml", service)?;
        let inside = ["/usr/bin/nsenter", &format!("--net={}", netns.path().display())];
        let lbex = lbex_on(&manifests, nginx).under(inside).start().await?;
        Ok(Self { lbex, manifests, netns, _servers: servers })
    }

    fn at(&self, port: u16) -> std::net::SocketAddr {
        (self.netns.v4(1), port).into()
    }
}

/// The verbose NTP Service, then the short form in its place.
async fn ntp(nginx: Nginx) -> Result<()> {
    let host = Host::start(nginx, NTP, &[30123]).await?;
    udp_reaches(host.at(123), &["node2:30123", "node3:30123"]).await?;

    host.manifests.remove("service.yaml")?;
    udp_silent(host.at(123)).await?;
    let mark = host.lbex.log_mark();
    host.manifests.write("service.yaml", NTP_SHORT)?;
    udp_reaches(host.at(123), &["node2:30123", "node3:30123"]).await?;
    let hint = host.lbex.wait_log_since(mark, "not quoted", SOON).await?;
    assert!(hint.contains("default/ntp") && hint.contains("loadbalancer.lbex/port"), "{hint}");
    Ok(())
}

/// Two named ports: `http` on 80, which is 8080 in the cluster, and `https` on 443.
async fn my_nginx(nginx: Nginx) -> Result<()> {
    let host = Host::start(nginx, MY_NGINX, &[30080, 30443]).await?;
    tcp_reaches(host.at(80), &["node2:30080", "node3:30080"]).await?;
    tcp_reaches(host.at(443), &["node2:30443", "node3:30443"]).await?;
    tcp_refused(host.at(8080)).await?;
    udp_silent(host.at(80)).await
}

on_each_nginx!(ntp, my_nginx);

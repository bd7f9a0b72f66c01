//! Traffic by way of nodes, and by way of the ClusterIP.

use anyhow::Result;
use lbex_test_harness::backends::Echo;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::{Node, Service, node, service, slice};
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::{free_port, free_ports};
use lbex_test_harness::wait::SOON;
use serde_json::json;

use crate::support::{World, at, local, tcp_closes, tcp_reaches, tcp_refused, udp_reaches};

/// A node port on three nodes: the internal addresses answer `in1` to `in3`, the external ones `ex1` to `ex3`.
struct Cluster {
    servers: Vec<Echo>,
}

const NAMES: [&str; 6] = ["in1", "in2", "in3", "ex1", "ex2", "ex3"];

impl Cluster {
    fn new() -> Result<Self> {
        Ok(Self { servers: Echo::on_one_port(NAMES.into_iter().zip(1..).map(|(name, n)| (name, local(12, n))))? })
    }

    /// The node `n`, from 1.
    fn node(&self, n: usize) -> Node {
        let address = |index: usize| self.servers[index].address().ip();
        node(&format!("n{n}")).internal(address(n - 1)).external(address(n + 2))
    }

    fn service(&self, name: &str, listener: u16) -> Service {
        let port = self.servers[0].port();
        let both = service(name).ask().tcp("tcp", 80, port).udp("udp", 80, port);
        both.listen("tcp", listener).listen("udp", listener)
    }
}

/// `host`: nodes with a ready endpoint; `all`: every available node; each by its internal or external address.
async fn sets_and_addresses(nginx: Nginx) -> Result<()> {
    let (cluster, ports) = (Cluster::new()?, free_ports(5)?);
    let slice = |name: &str| {
        let ports = slice(&format!("{name}-1"), name).tcp("tcp", 8080).udp("udp", 8080);
        ports.ready("10.1.0.1", "n1").ready("10.1.0.2", "n1").ready("10.1.0.3", "n3")
    };
    let all = |name, port| cluster.service(name, port).lbex("node-set", "all");
    let local_all = all("local-all", ports[4]).spec(json!({"externalTrafficPolicy": "Local"}));
    let world = World::start(
        nginx,
        [
            &cluster.node(1) as _,
            &cluster.node(2) as _,
            &cluster.node(3) as _,
            &cluster.service("host", ports[0]) as _,
            &slice("host") as _,
            &cluster.service("host-external", ports[1]).lbex("node-address-type", "external") as _,
            &slice("host-external") as _,
            &all("all", ports[2]) as _,
            &slice("all") as _,
            &all("all-external", ports[3]).lbex("node-address-type", "external") as _,
            &slice("all-external") as _,
            &local_all as _,
            &slice("local-all") as _,
        ],
    )
    .await?;
    let expected: [&[&str]; 5] =
        [&["in1", "in3"], &["ex1", "ex3"], &["in1", "in2", "in3"], &["ex1", "ex2", "ex3"], &["in1", "in3"]];
    for (port, names) in ports.iter().zip(expected) {
        tcp_reaches(at(*port), names).await?;
        udp_reaches(at(*port), names).await?;
    }
    let line = world.lbex.wait_log("externalTrafficPolicy Local", SOON).await?;
    assert!(line.contains("default/local-all"), "{line}");
    Ok(())
}

/// What takes a node out, and what brings it back.
async fn availability(nginx: Nginx) -> Result<()> {
    let (cluster, port) = (Cluster::new()?, free_port()?);
    let web = cluster.service("web", port).lbex("node-set", "all");
    let nodes = [cluster.node(1), cluster.node(2), cluster.node(3)];
    let world = World::start(nginx, [&web as _, &nodes[0] as _, &nodes[1] as _, &nodes[2] as _]).await?;
    tcp_reaches(at(port), &["in1", "in2", "in3"]).await?;

    let excluded = cluster.node(3).label("node.kubernetes.io/exclude-from-external-load-balancers", "");
    world.put([&web as _, &cluster.node(1).not_ready() as _, &nodes[1] as _, &excluded as _])?;
    tcp_reaches(at(port), &["in2"]).await?;

    // None Ready: the control plane is cut off from them, not they from clients.
    let tainted = cluster.node(3).taint("ToBeDeletedByClusterAutoscaler", "NoSchedule").not_ready();
    world.put([&web as _, &cluster.node(1).not_ready() as _, &cluster.node(2).not_ready() as _, &tainted as _])?;
    tcp_reaches(at(port), &["in1", "in2"]).await?;
    world.lbex.wait_log("no node is Ready", SOON).await?;

    // A node of which only the name is left, and one that is gone.
    world.put([&web as _, &node("n1") as _, &nodes[1] as _])?;
    tcp_reaches(at(port), &["in2"]).await?;
    world.lbex.wait_log("no internal", SOON).await?;
    world.put([&web as _])?;
    tcp_closes(at(port)).await
}

/// The ClusterIP and the Service's port; a Service without a node port is not served by way of nodes.
async fn cluster_ip(nginx: Nginx) -> Result<()> {
    let (server, ports) = (Echo::new("vip").ip(local(13, 1)).start()?, free_ports(2)?);
    let ip = server.address().ip().to_string();
    let inside = |name: &str, listener| {
        let ports = service(name).ask().cluster_ip().tcp("tcp", server.port(), 0).udp("udp", server.port(), 0);
        let ports = ports.listen("tcp", listener).listen("udp", listener);
        ports.spec(json!({"clusterIP": ip, "clusterIPs": [ip]}))
    };
    let served = inside("vip", ports[0]).lbex("upstream-type", "cluster-ip");
    let world = World::start(nginx, [&served as _, &inside("by-node", ports[1]) as _]).await?;
    tcp_reaches(at(ports[0]), &["vip"]).await?;
    udp_reaches(at(ports[0]), &["vip"]).await?;
    tcp_refused(at(ports[1])).await?;
    let line = world.lbex.wait_log("no nodePort", SOON).await?;
    assert!(line.contains("default/by-node"), "{line}");
    Ok(())
}

on_each_nginx!(sets_and_addresses, availability, cluster_ip);

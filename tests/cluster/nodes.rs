//! Nodes that come, go, and are left out: contract section 5, upstream type `node`.
//!
//! `node-set: all` is about every Node there is, so these tests have an API server of their own.

use std::net::IpAddr;

use anyhow::Result;
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::backends::Echo;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::objects::{Node, endpoint, node, service, slice};
use lbex_test_harness::ports::free_port;
use serde_json::json;

use crate::common::{Cluster, spread_is, tcp_is};

const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Nodes `a` and `b` with an endpoint of each Service, and `c` without.
struct Nodes {
    cluster: Cluster,
    /// Ports: of `node-set: host`, of `all`, and of `all` with `externalTrafficPolicy: Local`.
    ports: [u16; 3],
    _backends: Vec<Echo>,
}

fn plain(name: &str) -> Node {
    let last = name.as_bytes()[0] - b'a' + 1;
    node(name).internal(IpAddr::from([127, 0, 7, last]))
}

impl Nodes {
    async fn new(server: &ApiServer) -> Result<Self> {
        let cluster = Cluster::on(server).await?;
        cluster.objects.delete("Node", cluster.node()).await?;
        for name in ["a", "b", "c"] {
            cluster.objects.create(&plain(name)).await?;
        }
        let mut backends = Vec::new();
        let ports = [free_port()?, free_port()?, free_port()?];
        for (name, port) in ["host", "all", "local"].into_iter().zip(ports) {
            let ip = |last| IpAddr::from([127, 0, 7, last]);
            let three = Echo::on_one_port([("a", ip(1)), ("b", ip(2)), ("c", ip(3))])?;
            let made = service(name).ask().tcp("http", 80, three[0].port()).listen("http", port);
            let made = match name {
                "host" => made,
                "all" => made.lbex("node-set", "all"),
                _ => made.lbex("node-set", "all").spec(json!({"externalTrafficPolicy": "Local"})),
            };
            cluster.objects.create(&made).await?;
            let two = slice(name, name).tcp("http", 80).endpoint(endpoint("198.51.100.1").node("a"));
            cluster.objects.create(&two.endpoint(endpoint("198.51.100.2").node("b"))).await?;
            backends.extend(three);
        }
        Ok(Self { cluster, ports, _backends: backends })
    }

    /// Waits until `node-set: host` goes to the first nodes, and `all` to the second.
    async fn are(&self, host: &[&str], all: &[&str]) -> Result<()> {
        for (port, names) in self.ports.into_iter().zip([host, all, host]) {
            if names.is_empty() { tcp_is(port, "closed").await? } else { spread_is(port, names).await? }
        }
        Ok(())
    }

    async fn put(&self, node: Node) -> Result<()> {
        self.cluster.objects.put(&node).await
    }

    async fn told(&self, lbex: &Lbex, service: &str, reason: &str) -> Result<()> {
        self.cluster.told(lbex, service, reason).await.map(drop)
    }
}

#[tokio::test]
async fn nodes_come_go_and_are_left_out() -> Result<()> {
    let server = ApiServer::start().await?;
    let nodes = Nodes::new(&server).await?;
    let lbex = nodes.cluster.start(&["--reload-interval=100ms"]).await?;
    nodes.are(&["a", "b"], &["a", "b", "c"]).await?;
    nodes.told(&lbex, "local", "LocalMeansHost").await?;

    // NotReady: a node that runs an endpoint still counts for `host`, as the endpoint's own readiness is what tells.
    nodes.put(plain("a").not_ready()).await?;
    nodes.are(&["a", "b"], &["b", "c"]).await?;
    nodes.put(plain("b").not_ready()).await?;
    nodes.put(plain("c").not_ready()).await?;
    nodes.are(&["a", "b"], &["a", "b", "c"]).await?;
    nodes.told(&lbex, "all", "NoNodeReady").await?;
    for name in ["a", "b", "c"] {
        nodes.put(plain(name)).await?;
    }

    // Left out by label or taint, and back without.
    nodes.put(plain("a").label(EXCLUDE, "")).await?;
    nodes.are(&["b"], &["b", "c"]).await?;
    nodes.put(plain("a").taint("example.com/other", "NoSchedule")).await?;
    nodes.are(&["a", "b"], &["a", "b", "c"]).await?;
    nodes.put(plain("b").taint("ToBeDeletedByClusterAutoscaler", "NoSchedule")).await?;
    nodes.are(&["a"], &["a", "c"]).await?;
    nodes.put(plain("a").label(EXCLUDE, "true")).await?;
    nodes.are(&[], &["c"]).await?;
    nodes.told(&lbex, "host", "NoNodeAvailable").await?;
    nodes.put(plain("a")).await?;
    nodes.put(plain("b")).await?;
    nodes.are(&["a", "b"], &["a", "b", "c"]).await?;

    // Being deleted (a finalizer holds it), and gone.
    let finalizer = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    nodes.cluster.objects.patch("Node", "b", &finalizer).await?;
    nodes.cluster.objects.delete("Node", "b").await?;
    nodes.are(&["a"], &["a", "c"]).await?;
    nodes.cluster.objects.patch("Node", "b", &json!({"metadata": {"finalizers": null}})).await?;
    nodes.told(&lbex, "host", "NodeUnknown").await?;
    nodes.cluster.objects.delete("Node", "c").await?;
    nodes.are(&["a"], &["a"]).await?;

    // One that comes back, and one without an address of the wanted type.
    nodes.put(plain("b")).await?;
    nodes.are(&["a", "b"], &["a", "b"]).await?;
    nodes.put(node("b").address("Hostname", "b.example").external("127.0.7.2")).await?;
    nodes.are(&["a"], &["a"]).await?;
    nodes.told(&lbex, "host", "NodeWithoutAddress").await
}

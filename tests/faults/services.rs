//! The Services of a world, and the servers behind them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;
use lbex_test_harness::backends::Echo;
use lbex_test_harness::netns::Netns;
use lbex_test_harness::objects::{EndpointSlice, Service, endpoint, node, service, slice};
use lbex_test_harness::ports::free_port;

use crate::cluster::Cluster;

/// What happens to a Service while a world lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Nobody changes it or its endpoints.
    Quiet,
    /// Its first endpoint stays, the others come and go.
    Changing,
    /// It is created and deleted.
    Moving,
}

/// How many Services of each kind there are: enough that a list that lacks most of them is not believed at once.
const COUNTS: [(&str, Life, u8); 4] = [
    ("quiet", Life::Quiet, 4),
    ("changing", Life::Changing, 4),
    ("nodes", Life::Quiet, 2),
    ("moving", Life::Moving, 4),
];

/// How many servers a Service has that may change.
pub(crate) const SERVERS: usize = 3;

/// A Service with its servers, which call themselves `NAME.NUMBER`, and live as long as the world.
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) life: Life,
    /// LBEX's port for it, TCP and UDP.
    pub(crate) port: u16,
    pub(crate) servers: Vec<Echo>,
    /// The names of the nodes that its servers stand for, where traffic goes to nodes.
    nodes: Vec<String>,
}

impl Served {
    /// Where LBEX serves it.
    pub(crate) fn at(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Whether each client must be answered at all times.
    pub(crate) fn is_steady(&self) -> bool {
        self.life != Life::Moving
    }

    /// The Service as it is written.
    pub(crate) fn service(&self) -> Service {
        let server_port = if self.nodes.is_empty() { 0 } else { self.servers[0].port() };
        let base = service(&self.name).ask().listen("tcp", self.port).listen("udp", self.port);
        let base = if self.nodes.is_empty() { base.lbex("upstream-type", "pod").cluster_ip() } else { base };
        base.tcp("tcp", 1000, server_port).udp("udp", 1000, server_port)
    }

    /// Its EndpointSlice: those of `ready` (by number) are ready, the others are there and not ready.
    pub(crate) fn slice(&self, ready: &[usize]) -> EndpointSlice {
        let port = self.servers[0].port();
        let base = slice(&format!("{}-1", self.name), &self.name).tcp("tcp", port).udp("udp", port);
        self.servers.iter().enumerate().fold(base, |slice, (number, server)| {
            let one = endpoint(server.address().ip());
            let one = match self.nodes.get(number) {
                Some(node) => one.node(node),
                None => one,
            };
            slice.endpoint(if ready.contains(&number) { one } else { one.not_ready() })
        })
    }

    /// With every endpoint ready.
    pub(crate) fn whole(&self) -> EndpointSlice {
        self.slice(&(0..SERVERS).collect::<Vec<_>>())
    }
}

/// Starts the servers of all Services. Traffic comes to them at addresses of `netns`.
pub(crate) fn services(netns: &Netns, cluster: &Cluster) -> Result<Vec<Served>> {
    let mut all = Vec::new();
    for (kind, life, count) in COUNTS {
        for number in 0..count {
            let name = format!("{kind}{number}");
            let count = if life == Life::Moving { 1 } else { SERVERS };
            let names: Vec<String> = (0..count).map(|server| format!("{name}.{server}")).collect();
            let addresses = (1..).map(|n| IpAddr::from(netns.v4(n)));
            let servers = Echo::on_one_port(names.iter().map(String::as_str).zip(addresses))?;
            let nodes = if kind == "nodes" { node_names(cluster) } else { Vec::new() };
            all.push(Served { name, life, port: free_port()?, servers, nodes });
        }
    }
    Ok(all)
}

fn node_names(cluster: &Cluster) -> Vec<String> {
    (0..SERVERS).map(|number| cluster.name(&format!("node{number}"))).collect()
}

/// Writes the nodes that the first servers stand for; ready, or not.
pub(crate) async fn put_nodes(netns: &Netns, cluster: &Cluster, ready: bool) -> Result<()> {
    for (name, n) in node_names(cluster).iter().zip(1..) {
        let one = node(name).internal(netns.v4(n));
        cluster.put(&if ready { one } else { one.not_ready() }).await?;
    }
    Ok(())
}

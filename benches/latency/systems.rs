//! What is measured: LBEX on manifest files, LBEX on a real API server, and NGINX alone.
//!
//! Each serves the same number of Services, one of which moves between two endpoints that say who they are.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use lbex_test_harness::Scratch;
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::backends::Echo;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::objects::{Object, Objects, node};
use lbex_test_harness::ports::{free_port, free_ports};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::common::cluster::{node_service, replace_manifest, slice_on, write_manifests};
use crate::common::proxy::{Bare, answered, local};

/// The Service that changes.
const MOVING: &str = "moving";

/// The two nodes, each with an endpoint that answers with the node's name.
pub(crate) const NODES: [(&str, &str); 2] = [("node-a", "127.0.0.2"), ("node-b", "127.0.0.3")];

/// Far less than the pause between two changes, so that no reload ever waits for its turn.
const RELOAD_INTERVAL: &str = "--reload-interval=100ms";

/// How many objects are written to the API server at a time.
const WRITERS: usize = 8;

/// Starts the endpoints of the Service that changes, one on each node, all on one port.
pub(crate) fn endpoints() -> Result<Vec<Echo>> {
    let address = |(name, address): (&'static str, &str)| anyhow::Ok((name, address.parse::<IpAddr>()?));
    Echo::on_one_port(NODES.into_iter().map(address).collect::<Result<Vec<_>>>()?)
}

/// A load balancer whose configuration can be changed.
pub(crate) struct System {
    pub(crate) name: &'static str,
    /// Where the Service that changes is served.
    pub(crate) listener: SocketAddr,
    change: Change,
    // The LBEX that serves, or whose NGINX does.
    lbex: Lbex,
    _scratch: Scratch,
}

/// How its configuration is changed.
enum Change {
    Manifests(PathBuf),
    Api(Objects),
    Hand { master: Pid, file: PathBuf, text: String },
}

impl System {
    /// LBEX on manifest files.
    pub(crate) async fn manifests(services: usize, node_port: u16) -> Result<Self> {
        let scratch = Scratch::new("bench-latency")?;
        let folder = scratch.join("manifests");
        let listener = free_port()?;
        write_manifests(&folder, &cluster(services, listener, node_port)?)?;
        replace_manifest(&folder, "moving.yaml", &slice_on(MOVING, NODES[0].0))?;
        let lbex = start(["--manifests", path(&folder)?]).await?;
        let change = Change::Manifests(folder);
        Self { name: "LBEX, manifest file", listener: local(listener), change, lbex, _scratch: scratch }.serving().await
    }

    /// LBEX on a real API server, by a namespace of its own in which it is alone.
    pub(crate) async fn api(server: &ApiServer, services: usize, node_port: u16) -> Result<Self> {
        let scratch = Scratch::new("bench-latency")?;
        let objects = Objects::new(server.client().await?, server.namespace().await?);
        let listener = free_port()?;
        let mut all = cluster(services, listener, node_port)?;
        all.push(Box::new(slice_on(MOVING, NODES[0].0)));
        let (nodes, rest) = all.split_at(NODES.len());
        for node in nodes {
            // It may be there from another round.
            objects.put(node.as_ref()).await?;
        }
        let rest = stream::iter(rest).map(|object| objects.create(object.as_ref()));
        rest.buffer_unordered(WRITERS).try_for_each(async |_| Ok(())).await?;
        let kubeconfig = path(server.kubeconfig_admin())?;
        let lbex = start(["--kubeconfig", kubeconfig, "--namespace", objects.namespace()]).await?;
        let change = Change::Api(objects);
        Self { name: "LBEX, Kubernetes API", listener: local(listener), change, lbex, _scratch: scratch }
            .serving()
            .await
    }

    /// NGINX with a configuration that LBEX wrote before it was stopped, to be edited by hand.
    pub(crate) async fn by_hand(services: usize, node_port: u16) -> Result<Self> {
        let mut this = Self::manifests(services, node_port).await?;
        this.lbex.terminate().await?;
        let master = Bare::new(this.lbex.prefix()).master()?;
        let file = service_file(this.lbex.prefix())?;
        let text = std::fs::read_to_string(&file)?;
        this.name = "NGINX alone, by hand";
        this.change = Change::Hand { master, file, text };
        Ok(this)
    }

    async fn serving(self) -> Result<Self> {
        answered(self.listener, Some(NODES[0].0)).await.with_context(|| self.lbex.log_tail())?;
        Ok(self)
    }

    /// Moves the Service to the endpoint on that node.
    pub(crate) async fn move_to(&self, node: usize) -> Result<()> {
        let slice = slice_on(MOVING, NODES[node].0);
        match &self.change {
            Change::Manifests(folder) => Ok(replace_manifest(folder, "moving.yaml", &slice)?),
            Change::Api(objects) => {
                let endpoints = json!({"endpoints": slice.json()["endpoints"]});
                objects.patch("EndpointSlice", &format!("{MOVING}-1"), &endpoints).await
            }
            Change::Hand { master, file, text } => {
                std::fs::write(file, text.replace(NODES[0].1, NODES[node].1))?;
                Ok(kill(*master, Signal::SIGHUP)?)
            }
        }
    }

    /// What LBEX has logged, for error messages.
    pub(crate) fn log_tail(&self) -> String {
        self.lbex.log_tail()
    }
}

/// Two Nodes, the Service that changes, and as many others that it takes to come to `services`, with their endpoints: all but the
/// EndpointSlice of the first.
fn cluster(services: usize, listener: u16, node_port: u16) -> Result<Vec<Box<dyn Object>>> {
    let mut all: Vec<Box<dyn Object>> = Vec::new();
    for (name, address) in NODES {
        all.push(Box::new(node(name).internal(address)));
    }
    all.push(Box::new(node_service(MOVING, listener, node_port)));
    for (number, port) in free_ports(services - 1)?.into_iter().enumerate() {
        let name = format!("service-{number}");
        let service = node_service(&name, port, 0).cluster_ip().lbex("upstream-type", "pod");
        all.push(Box::new(service));
        all.push(Box::new(slice_on(&name, NODES[0].0)));
    }
    Ok(all)
}

async fn start(source: impl IntoIterator<Item = &str>) -> Result<Lbex> {
    let builder = Lbex::builder(crate::common::lbex()).args(source);
    builder.args(["--listen-address=127.0.0.1", "--endpoint-updates=reload", RELOAD_INTERVAL]).start().await
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}

/// The one file of the Service that changes.
fn service_file(prefix: &Path) -> Result<PathBuf> {
    for entry in std::fs::read_dir(prefix.join("services"))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().contains(&format!(".{MOVING}."))) {
            return Ok(path);
        }
    }
    bail!("LBEX wrote no file for {MOVING} in {}", prefix.display())
}

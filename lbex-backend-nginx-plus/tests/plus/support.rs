//! Desired states, stand-ins, and backends that are told about both.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex_backend_nginx_plus::api::{AccessFiles, ApiUrl};
use lbex_backend_nginx_plus::{Pace, RemoteBackend, RemoteOptions};
use lbex_core::backend::{ApplyReport, BackendError, ProxyBackend};
use lbex_core::desired::{Algorithm, Delta, DesiredState, Listener, Servers, ServiceConfig, Upstream};
use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;
use lbex_plus_standin::StandIn;
use lbex_test_harness::wait::{SOON, eventually};

/// Fast, so that tests wait for what happens and not for clocks.
pub(crate) const PACE: Pace =
    Pace { look: Duration::from_millis(200), thorough: Duration::from_secs(300), drain: None, idle_looks: true };

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub(crate) fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = texts.iter().map(|text| address(text)).collect();
    all.sort_unstable();
    all
}

pub(crate) fn key(name: &str) -> ServiceKey {
    ServiceKey::new("default", name).expect("a name")
}

/// The name of the upstream of a Service's TCP listener.
pub(crate) fn upstream(name: &str, port: u16) -> String {
    format!("{port}.tcp.default.{name}")
}

pub(crate) fn listener(port: u16, servers: &[SocketAddr]) -> Listener {
    Listener {
        protocol: Protocol::Tcp,
        port,
        addresses: [IpAddr::V4(Ipv4Addr::LOCALHOST)].into(),
        allow: [].into(),
        connect_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(60),
        upstream: Upstream { algorithm: Algorithm::RoundRobin, servers: Servers::Addresses(servers.into()) },
    }
}

/// A desired state that follows itself.
#[derive(Debug, Default)]
pub(crate) struct Wanted(pub(crate) DesiredState);

impl Wanted {
    /// A Service with one TCP listener is to have these servers. What changed.
    pub(crate) fn set(&mut self, name: &str, port: u16, servers: &[&str]) -> Delta {
        self.put(name, vec![listener(port, &addresses(servers))])
    }

    pub(crate) fn put(&mut self, name: &str, listeners: Vec<Listener>) -> Delta {
        let config = ServiceConfig { service: key(name), created: None, listeners };
        self.change(|state| drop(state.services.insert(key(name), Arc::new(config))))
    }

    pub(crate) fn remove(&mut self, name: &str) -> Delta {
        self.change(|state| drop(state.services.remove(&key(name))))
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut DesiredState)) -> Delta {
        let before = self.0.clone();
        change(&mut self.0);
        self.0.generation += 1;
        Delta { from: before.generation, to: self.0.generation, changes: before.changes_to(&self.0) }
    }

    /// Everything, as in the first call of an LBEX.
    pub(crate) async fn apply_all(&self, backend: &dyn ProxyBackend) -> Result<ApplyReport, BackendError> {
        let nothing = DesiredState::default();
        let delta = Delta { from: 0, to: self.0.generation, changes: nothing.changes_to(&self.0) };
        backend.apply(&self.0, &delta).await
    }
}

/// Pushes a change as the engine does, and waits until it is taken.
pub(crate) async fn push(backend: &dyn ProxyBackend, delta: &Delta) -> Result<()> {
    let push = backend.push(delta);
    ensure!(push.services.len() == delta.changes.len(), "not all is pushed: {:?}", push.services);
    let late = push.taken.await;
    ensure!(late.is_empty(), "not taken: {late:?}");
    Ok(())
}

pub(crate) fn url(plus: &StandIn) -> ApiUrl {
    format!("http://{}", plus.address()).parse().expect("a URL")
}

pub(crate) async fn remote(folder: &Path, pace: Pace, instances: &[&StandIn]) -> Result<RemoteBackend> {
    let apis = instances.iter().map(|plus| url(plus)).collect();
    let options = RemoteOptions { apis, files: AccessFiles::default(), pace, prefix: folder.join("prefix") };
    RemoteBackend::open(options).await.context("no backend")
}

/// Waits until an upstream has exactly these servers, all of them up.
pub(crate) async fn has(plus: &StandIn, upstream: &str, servers: &[&str]) -> Result<()> {
    eventually("the servers are there", SOON, || async {
        let (all, up) = (plus.state().upstreams.get(upstream).map(|of| of.servers.len()), plus.up(upstream));
        ensure!(up == addresses(servers) && all == Some(up.len()), "{upstream} has {all:?} servers, {up:?} are up");
        Ok(())
    })
    .await
}

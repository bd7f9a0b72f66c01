//! What the tests of this crate share: desired states by a few words, and the NGINXes of this host.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lbex_backend_nginx::binary::NginxChoice;
use lbex_core::desired::{Algorithm, Delta, DesiredState, Listener, Servers, ServiceChange, ServiceConfig, Upstream};
use lbex_core::model::Protocol;
use lbex_core::names::{DnsName, ServiceKey};

/// The NGINXes that tests run on: the one that LBEX carries, where the crate was built with it, and the system's.
pub(crate) fn nginxes() -> Vec<NginxChoice> {
    let mut choices = Vec::new();
    if cfg!(feature = "embedded") {
        choices.push(NginxChoice::Embedded);
    }
    let folders = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"];
    if folders.iter().any(|folder| std::path::Path::new(folder).join("nginx").exists()) {
        choices.push(NginxChoice::System);
    }
    assert!(!choices.is_empty(), "no NGINX: build with --features embedded, or install nginx and libnginx-mod-stream");
    choices
}

pub(crate) fn key(name: &str) -> ServiceKey {
    ServiceKey::new("default", name).expect("a name")
}

pub(crate) fn addresses(texts: &[&str]) -> Arc<[IpAddr]> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

pub(crate) fn sockets(texts: &[&str]) -> Arc<[SocketAddr]> {
    texts.iter().map(|text| text.parse().expect("an address and port")).collect()
}

/// A listener on 127.0.0.1 with these servers, and the defaults of the command line.
pub(crate) fn listener(protocol: Protocol, port: u16, servers: &[&str]) -> Listener {
    let idle = if protocol == Protocol::Tcp { 3600 } else { 60 };
    Listener {
        protocol,
        port,
        addresses: addresses(&["127.0.0.1"]),
        allow: Arc::from([]),
        connect_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(idle),
        upstream: Upstream { algorithm: Algorithm::RoundRobin, servers: Servers::Addresses(sockets(servers)) },
    }
}

pub(crate) fn tcp(port: u16, servers: &[&str]) -> Listener {
    listener(Protocol::Tcp, port, servers)
}

pub(crate) fn udp(port: u16, servers: &[&str]) -> Listener {
    listener(Protocol::Udp, port, servers)
}

pub(crate) fn on(listener: Listener, texts: &[&str]) -> Listener {
    Listener { addresses: addresses(texts), ..listener }
}

pub(crate) fn by(mut listener: Listener, algorithm: Algorithm) -> Listener {
    listener.upstream.algorithm = algorithm;
    listener
}

pub(crate) fn dns(mut listener: Listener, name: &str, port: u16, resolvers: &[&str]) -> Listener {
    let name = DnsName::new(name).expect("a name");
    listener.upstream.servers = Servers::Dns { name, port, resolvers: sockets(resolvers) };
    listener
}

pub(crate) fn service(name: &str, listeners: Vec<Listener>) -> Arc<ServiceConfig> {
    Arc::new(ServiceConfig { service: key(name), created: Some(1_700_000_000), listeners })
}

/// A desired state of these Services.
pub(crate) fn desired(services: &[Arc<ServiceConfig>]) -> DesiredState {
    let services = services.iter().map(|service| (service.service.clone(), service.clone())).collect();
    DesiredState { generation: 1, services }
}

/// The state with these Services instead, one generation on, and what changes.
pub(crate) fn change(from: &DesiredState, services: &[Arc<ServiceConfig>]) -> (DesiredState, Delta) {
    let mut to = desired(services);
    to.generation = from.generation + 1;
    let keys = from.services.keys().chain(to.services.keys());
    let changes = keys
        .filter_map(|key| {
            let change = ServiceChange::between(from.services.get(key).cloned(), to.services.get(key).cloned())?;
            Some((key.clone(), change))
        })
        .collect();
    (to.clone(), Delta { from: from.generation, to: to.generation, changes })
}

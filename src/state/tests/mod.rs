//! The file under every kind of damage, what is fitted, and when is written.

mod damage;
mod fitting;
mod keeping;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lbex_core::desired::{
    Algorithm, Delta, DesiredState, Listener, Method, Servers, ServiceChange, ServiceConfig, Until, Upstream,
};
use lbex_core::hold::Inventory;
use lbex_core::model::Protocol;
use lbex_core::names::{DnsName, ServiceKey};

use super::*;
use crate::publish::{BuildInfo, Metrics};

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(&BuildInfo { version: String::new(), commit: String::new(), backend: String::new() }))
}

/// The value of a series, as written.
fn value(metrics: &Metrics, series: &str) -> f64 {
    let text = metrics.encode().unwrap();
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok()).unwrap()
}

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("default", name).unwrap()
}

fn listener(protocol: Protocol, port: u16, servers: Servers) -> Listener {
    Listener {
        protocol,
        port,
        addresses: ["0.0.0.0", "::"].map(|address| address.parse::<IpAddr>().unwrap()).into(),
        allow: ["10.0.0.0/8".parse().unwrap()].into(),
        connect_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(3600),
        upstream: Upstream { algorithm: Algorithm::RoundRobin, servers },
    }
}

fn addresses(servers: &[&str]) -> Servers {
    Servers::Addresses(servers.iter().map(|s| s.parse::<SocketAddr>().unwrap()).collect())
}

fn service(name: &str, listeners: Vec<Listener>) -> Arc<ServiceConfig> {
    Arc::new(ServiceConfig { service: key(name), created: Some(1_700_000_000), listeners })
}

/// One Service with everything that there is.
fn state() -> DesiredState {
    let least_time = Algorithm::LeastTime(Method { until: Until::FirstByte, inflight: true });
    let mut tcp = listener(Protocol::Tcp, 443, addresses(&["10.0.0.1:30443", "[fd00::1]:30443"]));
    tcp.upstream.algorithm = least_time;
    let name = DnsName::new("db.example.com").unwrap();
    let dns = Servers::Dns { name, port: 5432, resolvers: ["10.0.0.53:53".parse().unwrap()].into() };
    let web = service("web", vec![tcp, listener(Protocol::Udp, 443, addresses(&[]))]);
    let database = service("database", vec![listener(Protocol::Tcp, 5432, dns)]);
    let services = [web, database].map(|config| (config.service.clone(), config)).into();
    DesiredState { generation: 7, services }
}

fn inventory() -> Inventory {
    Inventory { services: [key("web"), key("database")].into(), nodes: ["n1".into()].into(), endpoints: 3 }
}

fn saved(desired: DesiredState) -> SavedState {
    SavedState {
        lbex: "1.2.3".into(),
        saved: 1_800_000_000,
        cluster: Some("uid".into()),
        inventory: Some(inventory()),
        scope: Scope::default(),
        desired,
    }
}

/// A file that holds [`state`].
fn written() -> (tempfile::TempDir, StateFile) {
    let prefix = tempfile::tempdir().unwrap();
    let file = StateFile::below(prefix.path());
    file.save(&saved(state())).unwrap();
    (prefix, file)
}

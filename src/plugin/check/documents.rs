//! Made-up Services.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use lbex_plugin_abi::documents::{Algorithm, Listener, Protocol, Server, Service};

/// Services by name.
pub(super) type Services = BTreeMap<String, Arc<Service>>;

/// The first of `count` ports in a row that nobody listens on at the loopback address, as far as can be told.
pub(super) fn free_ports(count: u16) -> Option<u16> {
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    // Below those that systems give to clients. From anywhere on, so that two checks at a time are not in each other's way.
    let mut starts: Vec<u16> = (10_000..32_000 - count).step_by(usize::from(count)).collect();
    let any = fastrand::usize(..starts.len());
    starts.rotate_left(any);
    starts.into_iter().find(|first| (*first..first + count).all(free))
}

/// A Service with one listener and `servers` servers, of which nobody need be there.
pub(super) fn service(protocol: Protocol, port: u16, servers: u8) -> Arc<Service> {
    let server = |number| Server { address: Ipv4Addr::new(127, 0, 0, number).into(), port: 9 };
    let listener = Listener {
        protocol,
        port,
        addresses: vec![Ipv4Addr::LOCALHOST.into()].into(),
        allow: Vec::new().into(),
        connect_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(60),
        algorithm: Algorithm::RoundRobin,
        method: None,
        servers: (1..=servers).map(server).collect(),
        dns: None,
    };
    Arc::new(Service { created: Some(1_700_000_000), listeners: vec![listener] })
}

/// The name of Service `number`.
pub(super) fn name(number: u16) -> String {
    format!("lbex-check/service-{number}")
}

/// `count` Services, from port `first` on.
pub(super) fn services(protocol: Protocol, first: u16, count: u16) -> Services {
    (0..count).map(|number| (name(number), service(protocol, first + number, 2))).collect()
}

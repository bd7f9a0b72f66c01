//! One Service's file: its upstreams and servers.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lbex_core::desired::{Algorithm, Listener, Method, Servers, ServiceConfig};
use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;
use serde::Serialize;

use super::{Dialect, RenderError, SERVICE, Templates};
use crate::push::{ServerGroup, ServerName};

/// `listen` of TCP. The kernel cuts the backlog to `net.core.somaxconn`. Clients that vanished are noticed after 10 minutes and
/// five probes, long before the idle timeout; the system's own keepalive begins after two hours.
const TCP_OPTIONS: &str = " backlog=4096 so_keepalive=10m:30s:5";

/// `listen` of UDP. With a socket per worker the kernel keeps one client's datagrams with one worker, and so in one session.
const UDP_OPTIONS: &str = " udp reuseport";

/// One server is never taken for dead: there is no other.
const ONE_SERVER: &str = "max_fails=0";

/// Of several, one that failed is left alone for two seconds. Measured at 100 clients a second, 12 s, one of three servers
/// silent: 98 clients waited for `proxy_connect_timeout` (92 of them before the first attempt had timed out); with NGINX's own 10
/// seconds 92, without passive checks 384. And servers that had all refused a connection were used again 2.6 s after they came
/// back, with 10 seconds 10.2 s.
const SEVERAL_SERVERS: &str = "max_fails=1 fail_timeout=2s";

/// Ports that the servers of one listener may have, where they are names: one name for each.
const MOST_GROUPS: usize = 16;

/// Servers that one name may have: 64 KiB, the longest answer by TCP, hold 2,338 IPv6 addresses.
const MOST_SERVERS: usize = 2000;

/// How servers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// As addresses: each change is a reload.
    Addresses,
    /// As names whose addresses LBEX tells NGINX, where the dialect and the algorithm allow that.
    Names,
    /// As both: for an NGINX that has not asked for the names yet, and must serve at once.
    Both,
}

/// The form of a Service's file.
#[derive(Debug, Clone, Copy)]
pub struct Form<'a> {
    /// How servers are written.
    pub write: Write,
    /// Groups of servers that NGINX asks for already. They are kept although they have no servers now, so that those may come
    /// back without a reload.
    pub known: &'a BTreeSet<ServerGroup>,
    /// For NGINX Plus: the folder where it keeps the servers of each upstream, which it gets through its API. `None`: servers are
    /// written as `write` says.
    pub states: Option<&'a Path>,
}

#[derive(Serialize)]
struct ServiceView {
    service: String,
    listeners: Vec<ListenerView>,
}

#[derive(Serialize)]
struct ListenerView {
    name: String,
    udp: bool,
    addresses: Vec<SocketAddr>,
    listen_options: &'static str,
    allow: Vec<String>,
    connect_timeout: String,
    idle_timeout: String,
    algorithm: Option<String>,
    servers: Vec<SocketAddr>,
    names: Vec<String>,
    /// Where NGINX Plus keeps the servers.
    state: Option<String>,
    /// Whether NGINX Plus counts what it serves.
    status_zone: bool,
    passive_checks: &'static str,
    dns: Option<DnsView>,
}

#[derive(Serialize)]
struct DnsView {
    variable: String,
    target: String,
    resolvers: String,
}

/// The text of a Service's file, as a dialect has it.
pub fn render_service(templates: &Templates, service: &ServiceConfig, dialect: Dialect) -> Result<String, RenderError> {
    render_service_as(templates, service, dialect, Form { write: Write::Names, known: &BTreeSet::new(), states: None })
}

/// The text of a Service's file, in a form.
pub fn render_service_as(
    templates: &Templates,
    service: &ServiceConfig,
    dialect: Dialect,
    form: Form<'_>,
) -> Result<String, RenderError> {
    let key = &service.service;
    let view = ServiceView {
        service: key.to_string(),
        listeners: service.listeners.iter().map(|listener| view(service, listener, dialect, form)).collect(),
    };
    templates.render(SERVICE, &format!("the Service {key}"), &view)
}

/// The name of a listener's upstream: `PORT.PROTOCOL.NAMESPACE.SERVICE`.
pub fn upstream_name(service: &ServiceKey, listener: &Listener) -> String {
    // What differs comes first: NGINX compares each name with all others of the same length, at every check, start and
    // reload. With 10,000 upstreams that takes a quarter of the time that names with a common beginning take.
    format!("{}.{}.{}.{}", listener.port, listener.protocol.as_str(), service.namespace, service.name)
}

/// Whether a listener's servers are few enough for names.
pub fn fits_names(listener: &Listener) -> bool {
    match &listener.upstream.servers {
        Servers::Addresses(servers) => servers.len() <= MOST_SERVERS,
        Servers::Dns { .. } => true,
    }
}

/// The groups whose names are written for a listener; none: its servers are addresses.
fn named(listener: &Listener, servers: &[SocketAddr], dialect: Dialect, form: Form<'_>) -> BTreeSet<ServerGroup> {
    let can =
        dialect.push.is_some_and(|push| listener.upstream.algorithm != Algorithm::ClientIp || push.hash_by_address);
    if form.write == Write::Addresses || !can || !fits_names(listener) {
        return BTreeSet::new();
    }
    let (protocol, port) = (listener.protocol, listener.port);
    let now = servers.iter().map(|server| ServerGroup { protocol, listener: port, port: server.port() });
    let now: BTreeSet<ServerGroup> = now.collect();
    let of_listener = |group: &&ServerGroup| (group.protocol, group.listener) == (protocol, port);
    let with_known: BTreeSet<ServerGroup> = form.known.iter().filter(of_listener).chain(&now).copied().collect();
    [with_known, now].into_iter().find(|groups| groups.len() <= MOST_GROUPS).unwrap_or_default()
}

fn view(service: &ServiceConfig, listener: &Listener, dialect: Dialect, form: Form<'_>) -> ListenerView {
    let protocol = listener.protocol.as_str();
    let udp = listener.protocol == Protocol::Udp;
    let name = upstream_name(&service.service, listener);
    let file = |folder: &Path| folder.join(format!("{name}.conf")).display().to_string();
    let is_dns = matches!(listener.upstream.servers, Servers::Dns { .. });
    let state = form.states.filter(|_| !is_dns).map(file);
    let (servers, names, dns) = match &listener.upstream.servers {
        Servers::Addresses(_) if state.is_some() => (Vec::new(), Vec::new(), None),
        Servers::Addresses(servers) => {
            let groups = named(listener, servers, dialect, form);
            let beside = groups.is_empty() || form.write == Write::Both;
            let name = |group: ServerGroup| {
                let name = ServerName { service: service.service.clone(), group };
                format!("{name}:{}", group.port)
            };
            (if beside { servers.to_vec() } else { Vec::new() }, groups.into_iter().map(name).collect(), None)
        }
        Servers::Dns { name, port, resolvers } => {
            let resolvers: Vec<String> = resolvers.iter().map(ToString::to_string).collect();
            let dns = DnsView {
                // Unique: the desired state has each protocol and port once.
                variable: format!("$lbex_{protocol}_{}", listener.port),
                target: format!("{name}:{port}"),
                resolvers: resolvers.join(" "),
            };
            (Vec::new(), Vec::new(), Some(dns))
        }
    };
    ListenerView {
        name,
        udp,
        addresses: listener.addresses.iter().map(|&ip| SocketAddr::new(ip, listener.port)).collect(),
        listen_options: if udp { UDP_OPTIONS } else { TCP_OPTIONS },
        allow: listener.allow.iter().map(|network| network.trunc().to_string()).collect(),
        connect_timeout: time(listener.connect_timeout),
        idle_timeout: time(listener.idle_timeout),
        algorithm: algorithm(listener.upstream.algorithm, dialect),
        // A name may have any number of addresses; NGINX itself never takes the only one for dead.
        passive_checks: if servers.len() == 1 && names.is_empty() { ONE_SERVER } else { SEVERAL_SERVERS },
        servers,
        names,
        state,
        status_zone: form.states.is_some(),
        dns,
    }
}

/// The directive of an algorithm; none for NGINX's default. Planning offers `least_time` only where NGINX has it.
fn algorithm(algorithm: Algorithm, dialect: Dialect) -> Option<String> {
    match algorithm {
        Algorithm::LeastConn => Some("least_conn".to_owned()),
        Algorithm::ClientIp => Some("hash $remote_addr consistent".to_owned()),
        Algorithm::LeastTime(Method { until, inflight }) if dialect.least_time => {
            Some(format!("least_time {}{}", until.as_str(), if inflight { " inflight" } else { "" }))
        }
        Algorithm::RoundRobin | Algorithm::LeastTime(_) => None,
    }
}

/// A duration as people write it for NGINX. Zero would end every connection as it begins: it becomes a millisecond.
pub(super) fn time(duration: Duration) -> String {
    let millis = duration.as_millis().max(1);
    match millis {
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

//! Desired state to HAProxy's configuration. Pure, and the same bytes for the same state.
//!
//! A listener becomes one `listen` section. Nothing but numbers, addresses and names that were looked at gets into the text.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use lbex_plugin_sdk::{Algorithm, Listener, ListenerName, Protocol, Refusal, Service};
use sha2::{Digest, Sha256};

use crate::servers::{id, server_name};

/// What HAProxy's `description` begins with.
pub const DESCRIPTION: &str = "lbex ";

/// A line takes 64 words.
const NETWORKS_PER_LINE: usize = 32;

/// What concerns HAProxy as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// The socket for commands.
    pub socket: PathBuf,
    /// User and group of the workers; `None`: as they were started.
    pub owner: Option<(u32, u32)>,
    /// `nbthread`.
    pub threads: Option<u8>,
    /// Connections of clients.
    pub max_connections: u32,
    /// `retries`.
    pub retries: u8,
    /// For how long old workers finish their connections; `None`: for ever.
    pub shutdown_timeout: Option<Duration>,
}

/// A listener as HAProxy has it: one section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// The section's name: `NAMESPACE:SERVICE:PORT`.
    pub name: String,
    /// The listener's port.
    pub port: u16,
    /// What it binds.
    pub binds: Vec<SocketAddr>,
    /// The section without its servers.
    pub layout: String,
    /// Where traffic goes, sorted.
    pub servers: Vec<SocketAddr>,
    /// The weight of each. Of 256 places on the ring of a consistent hash each server has 16 times that many.
    pub weight: u16,
}

/// The sections of a Service; an error: it cannot be served.
pub fn proxies(name: &str, service: &Service) -> Result<Vec<Proxy>, Refusal> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let parts = name.split_once('/').filter(|(namespace, name)| {
        [namespace, name].iter().all(|part| (1..=253).contains(&part.len()) && part.chars().all(allowed))
    });
    let Some((namespace, service_name)) = parts else {
        return Err(refusal(
            None,
            "NameUnsupported",
            "its name has characters that no name of a Service has".to_owned(),
        ));
    };
    let proxy = |listener: &Listener| {
        if listener.protocol == Protocol::Udp {
            let message = format!("HAProxy carries no UDP (port {})", listener.port);
            return Err(refusal(None, "ProtocolUnsupported", message));
        }
        Ok(proxy(format!("{namespace}:{service_name}:{}", listener.port), listener))
    };
    service.listeners.iter().map(proxy).collect()
}

/// A refusal that stands until the Service changes.
pub(crate) fn refusal(port: Option<u16>, code: &str, message: String) -> Refusal {
    let listener = port.map(|port| ListenerName { protocol: Protocol::Tcp, port });
    Refusal { listener, code: code.to_owned(), message, instead: lbex_plugin_sdk::Instead::LeftOut, retry: false }
}

fn proxy(name: String, listener: &Listener) -> Proxy {
    let binds: Vec<SocketAddr> = listener.addresses.iter().map(|ip| SocketAddr::new(*ip, listener.port)).collect();
    let mut layout = format!("\nlisten {name}\n");
    for bind in &binds {
        line(&mut layout, format_args!("bind {}{}", written(*bind), if bind.is_ipv6() { " v6only" } else { "" }));
    }
    for networks in listener.allow.chunks(NETWORKS_PER_LINE) {
        let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
        line(&mut layout, format_args!("acl allowed src {}", networks.join(" ")));
    }
    if !listener.allow.is_empty() {
        line(&mut layout, format_args!("tcp-request connection reject unless allowed"));
    }
    let idle = millis(listener.idle_timeout);
    line(&mut layout, format_args!("timeout connect {}", millis(listener.connect_timeout)));
    line(&mut layout, format_args!("timeout client {idle}"));
    line(&mut layout, format_args!("timeout server {idle}"));
    let weight = match listener.algorithm {
        Algorithm::ClientIp => {
            line(&mut layout, format_args!("balance source"));
            line(&mut layout, format_args!("hash-type consistent sdbm avalanche"));
            16
        }
        Algorithm::LeastConn => {
            line(&mut layout, format_args!("balance leastconn"));
            1
        }
        // LBEX sends no other: the capabilities do not name it.
        Algorithm::RoundRobin | Algorithm::LeastTime => {
            line(&mut layout, format_args!("balance roundrobin"));
            1
        }
    };
    let servers = listener.servers.iter().map(|server| SocketAddr::from(*server)).collect();
    Proxy { name, port: listener.port, binds, layout, servers, weight }
}

fn line(text: &mut String, line: std::fmt::Arguments) {
    text.push_str("    ");
    text.write_fmt(line)
        .and_then(|()| text.write_char('\n'))
        .unwrap_or_else(|_| unreachable!("a String takes all text"));
}

/// HAProxy takes 0 for 'no limit'.
fn millis(duration: Duration) -> u128 {
    duration.as_millis().max(1)
}

/// An address as HAProxy reads it.
pub(crate) fn written(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => format!("ipv4@{ip}:{}", address.port()),
        IpAddr::V6(ip) => format!("ipv6@[{ip}]:{}", address.port()),
    }
}

impl Proxy {
    /// The section with its servers.
    fn text(&self) -> String {
        let mut text = self.layout.clone();
        let mut taken = std::collections::BTreeSet::new();
        for server in &self.servers {
            let id = id(*server, &taken);
            taken.insert(id);
            line(
                &mut text,
                format_args!("server {} {} id {id} weight {}", server_name(*server), written(*server), self.weight),
            );
        }
        text
    }
}

/// A configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File<'a> {
    /// The whole text.
    pub text: String,
    /// What its layout is called: the same for the same text but for servers.
    pub layout: String,
    /// Which lines are whose, counted from 1.
    pub lines: Vec<(Range<usize>, &'a str)>,
}

impl File<'_> {
    /// Whose line it is.
    pub fn owner(&self, line: usize) -> Option<&str> {
        self.lines.iter().find(|(range, _)| range.contains(&line)).map(|(_, name)| *name)
    }
}

/// The configuration with these sections, each with the Service that it belongs to.
pub fn file<'a>(global: &Global, proxies: impl Iterator<Item = (&'a str, &'a Proxy)> + Clone) -> File<'a> {
    let binds: usize = proxies.clone().map(|(_, proxy)| proxy.binds.len()).sum();
    let (head, tail) = head(global, binds);
    let mut hash = Sha256::new_with_prefix(head.as_bytes());
    hash.update(tail.as_bytes());
    proxies.clone().for_each(|(_, proxy)| hash.update(proxy.layout.as_bytes()));
    let mut layout = format!("{:x}", hash.finalize());
    layout.truncate(24);

    let mut text = format!("{head}    description {DESCRIPTION}{layout}\n{tail}");
    let mut at = 1 + text.lines().count();
    let mut lines = Vec::new();
    for (name, proxy) in proxies {
        let section = proxy.text();
        let count = section.lines().count();
        lines.push((at..at + count, name));
        at += count;
        text.push_str(&section);
    }
    File { text, layout, lines }
}

/// What comes before and after the line with the description.
fn head(global: &Global, binds: usize) -> (String, String) {
    let mut head = "# Written by LBEX. Changes are lost.\nglobal\n".to_owned();
    let mut tail = String::new();
    let sockets = 2 * u64::from(global.max_connections) + binds as u64 + 1000;
    // In steps, so that it is the same for a while.
    line(&mut tail, format_args!("fd-hard-limit {}", sockets.next_multiple_of(10_000)));
    line(&mut tail, format_args!("stats socket {} mode 600 level admin expose-fd listeners", global.socket.display()));
    // Nobody else is to share a port with HAProxy; old and new workers hand over the sockets themselves.
    line(&mut tail, format_args!("noreuseport"));
    // Workers that finish their connections are not to be ended because there were many reloads.
    line(&mut tail, format_args!("mworker-max-reloads {}", i32::MAX));
    if let Some(timeout) = global.shutdown_timeout {
        line(&mut tail, format_args!("hard-stop-after {}", millis(timeout)));
    }
    if let Some((user, group)) = global.owner {
        line(&mut head, format_args!("uid {user}"));
        line(&mut head, format_args!("gid {group}"));
    }
    if let Some(threads) = global.threads {
        line(&mut head, format_args!("nbthread {threads}"));
    }
    tail.push_str("\ndefaults\n");
    line(&mut tail, format_args!("mode tcp"));
    line(&mut tail, format_args!("retries {}", global.retries));
    line(&mut tail, format_args!("option redispatch 1"));
    (head, tail)
}

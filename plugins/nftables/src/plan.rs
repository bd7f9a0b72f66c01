//! What each listener becomes, and why not. Pure: what the host is like comes with it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use lbex_plugin_sdk::{Algorithm, Listener, ListenerName, Protocol, Refusal, Service};
use serde::{Deserialize, Serialize};

/// IPv4 or IPv6. Each listener is served in each by itself: nftables does not translate between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// As nftables calls it.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// A listener in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Protocol.
    pub protocol: Protocol,
    /// Port.
    pub port: u16,
    /// Family.
    pub family: Family,
}

/// What becomes of its clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The Service, `namespace/name`.
    pub service: String,
    /// Where clients come to; none: all addresses of this host.
    pub addresses: Vec<IpAddr>,
    /// Who is let in.
    pub allow: Allow,
    /// Where they go; none: they are refused.
    pub servers: Vec<SocketAddr>,
    /// Whether the same client always gets the same server.
    pub sticky: bool,
    /// Whether clients that come to a loopback address are left out: their packets could not leave this host.
    pub no_loopback: bool,
}

/// Who is let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Allow {
    /// All clients.
    All,
    /// Those of these networks, which do not overlap; there may be none.
    Some(Vec<IpNet>),
}

/// All listeners.
pub type Ruleset = BTreeMap<Key, Part>;

/// What matters of this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it forwards IPv4.
    pub forwards_v4: bool,
    /// Whether it forwards IPv6.
    pub forwards_v6: bool,
    /// Whether packets of 127.0.0.0/8 may leave it: `net.ipv4.conf.all.route_localnet`.
    pub route_localnet: bool,
}

impl Facts {
    /// Whether an address is this host's own.
    pub fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }

    fn forwards(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.forwards_v4,
            Family::V6 => self.forwards_v6,
        }
    }
}

/// The listeners of a Service, and what of it is not served.
pub fn plan(name: &str, service: &Service, facts: &Facts) -> (Ruleset, Vec<Refusal>) {
    let (mut ruleset, mut refused) = (Ruleset::new(), Vec::new());
    for listener in &service.listeners {
        refused.extend(strangers(listener));
        for family in [Family::V4, Family::V6] {
            let Some(part) = part(name, listener, family, facts) else { continue };
            match obstacle(listener, family, &part, facts) {
                Some(refusal) => refused.push(refusal),
                None => {
                    ruleset.insert(Key { protocol: listener.protocol, port: listener.port, family }, part);
                }
            }
        }
    }
    (ruleset, refused)
}

/// `None`: the listener has no address in this family.
fn part(name: &str, listener: &Listener, family: Family, facts: &Facts) -> Option<Part> {
    let here: Vec<IpAddr> = of_family(&listener.addresses, family, |address| *address);
    if here.is_empty() {
        return None;
    }
    let addresses = if here.iter().any(IpAddr::is_unspecified) { Vec::new() } else { here };
    let allow = if listener.allow.is_empty() {
        Allow::All
    } else {
        let nets = IpNet::aggregate(&of_family(&listener.allow, family, IpNet::addr));
        if nets.iter().any(|net| net.prefix_len() == 0) { Allow::All } else { Allow::Some(nets) }
    };
    let servers = of_family(&listener.servers, family, |server| server.address);
    let servers: Vec<SocketAddr> = servers.into_iter().map(SocketAddr::from).collect();
    let remote = servers.iter().any(|server| !facts.is_local(server.ip()));
    let no_loopback = remote && (family == Family::V6 || !facts.route_localnet);
    let sticky = listener.algorithm == Algorithm::ClientIp && servers.len() > 1;
    Some(Part { service: name.to_owned(), addresses, allow, servers, sticky, no_loopback })
}

fn of_family<T: Copy>(all: &[T], family: Family, address: impl Fn(&T) -> IpAddr) -> Vec<T> {
    all.iter().filter(|one| Family::of(address(one)) == family).copied().collect()
}

/// A refusal where no client can reach a server because they have no family in common.
fn strangers(listener: &Listener) -> Option<Refusal> {
    let servers = listener.servers.first().map(|server| Family::of(server.address))?;
    let families = || listener.addresses.iter().copied().map(Family::of);
    let in_common = listener.servers.iter().any(|server| families().any(|family| family == Family::of(server.address)));
    (!in_common).then(|| {
        let clients = families().next().map_or("no address family", Family::words);
        let servers = servers.words();
        let message = format!(
            "its servers have {servers} addresses and this host is to listen for {clients} only; nftables does not translate between them"
        );
        refusal(listener, "NoCommonFamily", message)
    })
}

/// What of this host keeps the servers from being reached.
fn obstacle(listener: &Listener, family: Family, part: &Part, facts: &Facts) -> Option<Refusal> {
    let remote = part.servers.iter().find(|server| !facts.is_local(server.ip()))?.ip();
    let loopback_only = !part.addresses.is_empty() && part.addresses.iter().all(IpAddr::is_loopback);
    let (code, why) = if loopback_only && part.no_loopback {
        let why = match family {
            Family::V4 => "net.ipv4.conf.all.route_localnet is 0: set it to 1, or listen on other addresses too",
            Family::V6 => "IPv6 lets no packet of ::1 leave a host: listen on other addresses too",
        };
        ("LoopbackOnly", format!("it listens on loopback addresses only, its server {remote} is elsewhere, and {why}"))
    } else if !loopback_only && !facts.forwards(family) {
        let (words, name) = (family.words(), forwarding(family));
        (
            "ForwardingOff",
            format!("its server {remote} is elsewhere and this host does not forward {words}: set {name} to 1"),
        )
    } else {
        return None;
    };
    Some(Refusal { retry: true, ..refusal(listener, code, why) })
}

/// The kernel's setting.
fn forwarding(family: Family) -> &'static str {
    match family {
        Family::V4 => "net.ipv4.ip_forward",
        Family::V6 => "net.ipv6.conf.all.forwarding",
    }
}

/// A refusal of one listener.
pub fn refusal(listener: &Listener, code: &str, message: String) -> Refusal {
    Refusal {
        listener: Some(ListenerName { protocol: listener.protocol, port: listener.port }),
        code: code.to_owned(),
        message,
        instead: lbex_plugin_sdk::Instead::LeftOut,
        retry: false,
    }
}

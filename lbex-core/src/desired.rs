//! What the proxy should be: [`DesiredState`], and what changed of it: [`Delta`].
//!
//! A desired state is the fold of the deltas that led to it, so whoever holds one (the planner, the task that drives the
//! backend) keeps it up to date at a cost in proportion to the change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::addresses::HostAddresses;
use crate::model::Protocol;
use crate::names::{DnsName, ServiceKey};

/// Everything that the proxy should serve.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredState {
    /// Grows by one with each non-empty [`Delta`]; 0 is the empty state before the first. Starts again with the process.
    pub generation: u64,
    /// Services with at least one listener.
    pub services: BTreeMap<ServiceKey, Arc<ServiceConfig>>,
}

/// What the proxy should do for one Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceConfig {
    /// Which Service.
    pub service: ServiceKey,
    /// When it was created, seconds since the epoch: where not all can be served, the older go first.
    pub created: Option<i64>,
    /// Its listeners, at least one, in the order of its ports; protocol and port are unique in the whole desired state.
    pub listeners: Vec<Listener>,
}

/// A listener and its upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Protocol.
    pub protocol: Protocol,
    /// Port.
    pub port: u16,
    /// Addresses it binds, none covering another. An unspecified IPv6 address means IPv6 only.
    pub addresses: Arc<[IpAddr]>,
    /// Clients that are let in; empty means all.
    pub allow: Arc<[IpNet]>,
    /// How long a connection attempt to a server may take.
    pub connect_timeout: Duration,
    /// After how much silence in both directions a connection or UDP session ends.
    pub idle_timeout: Duration,
    /// Where its traffic goes.
    pub upstream: Upstream,
}

/// Where a listener's traffic goes, and how it is spread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// How connections are spread.
    pub algorithm: Algorithm,
    /// The servers.
    pub servers: Servers,
}

/// An upstream's servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Servers {
    /// Addresses, sorted, each once. Empty: TCP clients are accepted and closed at once, UDP is silent.
    Addresses(Arc<[SocketAddr]>),
    /// A DNS name that the proxy resolves itself (ExternalName).
    Dns {
        /// The name.
        name: DnsName,
        /// The port at every address of the name.
        port: u16,
        /// DNS servers to ask, at least one.
        resolvers: Arc<[SocketAddr]>,
    },
}

impl Servers {
    /// The servers that are on this host.
    pub(crate) fn on_host(&self, host: &HostAddresses) -> Vec<SocketAddr> {
        match self {
            Self::Addresses(all) => all.iter().copied().filter(|server| host.contains(server.ip())).collect(),
            Self::Dns { .. } => Vec::new(),
        }
    }
}

/// How connections are spread over servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// In turn.
    RoundRobin,
    /// To the server with the fewest connections.
    LeastConn,
    /// To the server with the least time and the fewest connections.
    LeastTime(Method),
    /// By consistent hashing of the client's address (`sessionAffinity: ClientIP`).
    ClientIp,
}

impl Algorithm {
    /// The annotation's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastConn => "least_conn",
            Self::LeastTime(_) => "least_time",
            Self::ClientIp => "client_ip",
        }
    }
}

/// What `least_time` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Method {
    /// Until when.
    pub until: Until,
    /// Whether connections that are not complete count too.
    pub inflight: bool,
}

/// Until when `least_time` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// The connection to the server.
    Connect,
    /// The first byte from it.
    FirstByte,
    /// The last byte from it.
    LastByte,
}

impl Until {
    /// The annotation's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::FirstByte => "first_byte",
            Self::LastByte => "last_byte",
        }
    }
}

/// What happens to one Service between two desired states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceChange {
    /// It was not there.
    Added(Arc<ServiceConfig>),
    /// It was otherwise.
    Changed {
        /// What it was.
        before: Arc<ServiceConfig>,
        /// What it becomes.
        after: Arc<ServiceConfig>,
    },
    /// It is no longer there.
    Removed(Arc<ServiceConfig>),
}

impl ServiceChange {
    /// The change from `before` to `after`; `None` where there is none.
    pub fn between(before: Option<Arc<ServiceConfig>>, after: Option<Arc<ServiceConfig>>) -> Option<Self> {
        match (before, after) {
            (None, Some(after)) => Some(Self::Added(after)),
            (Some(before), None) => Some(Self::Removed(before)),
            (Some(before), Some(after)) if before != after => Some(Self::Changed { before, after }),
            _ => None,
        }
    }

    /// What the Service was before.
    pub fn before(&self) -> Option<&Arc<ServiceConfig>> {
        match self {
            Self::Added(_) => None,
            Self::Changed { before, .. } | Self::Removed(before) => Some(before),
        }
    }

    /// What the Service is after.
    pub fn after(&self) -> Option<&Arc<ServiceConfig>> {
        match self {
            Self::Added(after) | Self::Changed { after, .. } => Some(after),
            Self::Removed(_) => None,
        }
    }

    /// Whether nothing but addresses of upstream servers differs: a backend with live endpoint changes needs no reload
    /// for it.
    pub fn servers_only(&self) -> bool {
        let Self::Changed { before, after } = self else { return false };
        let same_but_servers = |(a, b): (&Listener, &Listener)| {
            let both_addresses =
                matches!((&a.upstream.servers, &b.upstream.servers), (Servers::Addresses(_), Servers::Addresses(_)));
            let servers_alike = both_addresses || a.upstream.servers == b.upstream.servers;
            servers_alike
                && a.protocol == b.protocol
                && a.port == b.port
                && a.addresses == b.addresses
                && a.allow == b.allow
                && a.connect_timeout == b.connect_timeout
                && a.idle_timeout == b.idle_timeout
                && a.upstream.algorithm == b.upstream.algorithm
        };
        before.listeners.len() == after.listeners.len()
            && before.listeners.iter().zip(&after.listeners).all(same_but_servers)
    }
}

/// What changed from one desired state to a later one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Delta {
    /// The generation that it changes.
    pub from: u64,
    /// The generation that it leads to.
    pub to: u64,
    /// The Services that differ.
    pub changes: BTreeMap<ServiceKey, ServiceChange>,
}

impl Delta {
    /// Whether no Service differs.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether only addresses of upstream servers differ (see [`ServiceChange::servers_only`]).
    pub fn servers_only(&self) -> bool {
        self.changes.values().all(ServiceChange::servers_only)
    }

    /// Takes the changes of `done` out of this delta and answers them, in a delta of their own. Those that `earlier` has as well
    /// stay: they are to be done from where that begins.
    #[must_use]
    pub fn take_out(&mut self, done: &BTreeSet<ServiceKey>, earlier: Option<&Delta>) -> Delta {
        let stays =
            |key: &ServiceKey| !done.contains(key) || earlier.is_some_and(|earlier| earlier.changes.contains_key(key));
        let (stay, taken) = std::mem::take(&mut self.changes).into_iter().partition(|(key, _)| stays(key));
        self.changes = stay;
        Delta { from: self.from, to: self.to, changes: taken }
    }

    /// Brings each change of this delta to what its Service is in `desired`, the state of generation `self.to`: some of it may have
    /// been taken out meanwhile ([`Delta::take_out`]). What is then as it was before is dropped.
    pub fn bring_up_to(&mut self, desired: &DesiredState) {
        debug_assert_eq!(self.to, desired.generation, "a delta leads to its own generation");
        let changes = std::mem::take(&mut self.changes).into_iter();
        let newest = |(key, change): (ServiceKey, ServiceChange)| {
            let now = ServiceChange::between(change.before().cloned(), desired.services.get(&key).cloned())?;
            Some((key, now))
        };
        self.changes = changes.filter_map(newest).collect();
    }

    /// Joins a delta that follows this one (`later.from == self.to`). What cancels out is dropped.
    pub fn merge(&mut self, later: Delta) {
        debug_assert_eq!(self.to, later.from, "deltas must follow each other");
        self.to = later.to;
        for (key, change) in later.changes {
            let joined = match self.changes.remove(&key) {
                None => Some(change),
                Some(earlier) => ServiceChange::between(earlier.before().cloned(), change.after().cloned()),
            };
            if let Some(joined) = joined {
                self.changes.insert(key, joined);
            }
        }
    }
}

impl DesiredState {
    /// Brings this state to what `delta` leads to. Costs as much as the delta is large.
    pub fn advance(&mut self, delta: &Delta) {
        debug_assert_eq!(self.generation, delta.from, "a delta applies to the state it was made from");
        self.generation = delta.to;
        for (key, change) in &delta.changes {
            match change.after() {
                Some(after) => self.services.insert(key.clone(), after.clone()),
                None => self.services.remove(key),
            };
        }
    }

    /// What happens to each Service that differs in `later`. Costs as much as both states are large.
    pub fn changes_to(&self, later: &Self) -> BTreeMap<ServiceKey, ServiceChange> {
        let keys = self.services.keys().chain(later.services.keys().filter(|key| !self.services.contains_key(*key)));
        let change = |key: &ServiceKey| {
            ServiceChange::between(self.services.get(key).cloned(), later.services.get(key).cloned())
        };
        keys.filter_map(|key| Some((key.clone(), change(key)?))).collect()
    }

    /// All listeners with the Service that each belongs to.
    pub fn listeners(&self) -> impl Iterator<Item = (&ServiceKey, &Listener)> {
        self.services.iter().flat_map(|(key, config)| config.listeners.iter().map(move |l| (key, l)))
    }
}

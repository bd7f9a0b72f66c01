//! What the proxy should be: `desired`, and what changed of it: `delta`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::schema_id::{Document, SchemaId, millis};

/// Everything that the proxy should serve.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Desired {
    /// The schema id.
    pub schema: SchemaId<Self>,
    /// What this state is called. The plugin has this revision when it has answered 'done', or 'done in part'.
    pub revision: String,
    /// The Services, by `namespace/name`.
    pub services: BTreeMap<String, Arc<Service>>,
}

impl Document for Desired {
    const SCHEMA: &'static str = "lbex.desired/1";
}

/// What changed from one revision to another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Delta {
    /// The schema id.
    pub schema: SchemaId<Self>,
    /// The revision that this is a change of. A plugin that has another answers 'resync', and gets the whole.
    pub from: String,
    /// The revision that it leads to.
    pub revision: String,
    /// Only servers differ, and they are to be changed without a reload, at once. A plugin that cannot do so answers 'unsupported' and
    /// keeps the revision that it has: the change comes again, with the next delta that is not live. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub live: bool,
    /// The Services that differ, by `namespace/name`: what each becomes, or null where it is gone. One that is as the plugin
    /// has it already, or is gone and was never there, is no error.
    pub services: BTreeMap<String, Option<Arc<Service>>>,
}

impl Document for Delta {
    const SCHEMA: &'static str = "lbex.delta/1";
}

/// What the proxy should do for one Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Service {
    /// When it was created, seconds since 1970: where not all can be served, the older go first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<i64>,
    /// Its listeners, at least one. Protocol and port together are unique in the whole desired state.
    pub listeners: Vec<Listener>,
}

/// A listener, and where its traffic goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Listener {
    /// Protocol.
    pub protocol: Protocol,
    /// Port.
    pub port: u16,
    /// Addresses to bind, none covering another. `::` means IPv6 only.
    pub addresses: Arc<[IpAddr]>,
    /// Networks whose clients are let in, such as `10.0.0.0/8`; none: all clients.
    #[serde(default, skip_serializing_if = "<[IpNet]>::is_empty")]
    #[cfg_attr(feature = "schemas", schemars(with = "Vec<String>"))]
    pub allow: Arc<[IpNet]>,
    /// How long a connection attempt to a server may take, milliseconds.
    #[serde(rename = "connect_timeout_ms", with = "millis")]
    #[cfg_attr(feature = "schemas", schemars(with = "u64"))]
    pub connect_timeout: Duration,
    /// After how much silence in both directions a connection or UDP session ends, milliseconds.
    #[serde(rename = "idle_timeout_ms", with = "millis")]
    #[cfg_attr(feature = "schemas", schemars(with = "u64"))]
    pub idle_timeout: Duration,
    /// How connections are spread over servers.
    pub algorithm: Algorithm,
    /// What `least_time` measures; with that algorithm only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// Where traffic goes: sorted, each once. None, and no `dns`: TCP clients are accepted and closed at once, UDP is silent.
    pub servers: Arc<[Server]>,
    /// In place of servers: a name that the proxy resolves itself. Only where the plugin's capabilities say `dns_servers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// How connections are spread over servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// In turn.
    RoundRobin,
    /// To the server with the fewest connections.
    LeastConn,
    /// To the server with the least time and the fewest connections.
    LeastTime,
    /// By consistent hashing of the client's address.
    ClientIp,
}

/// What `least_time` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Method {
    /// Until when.
    pub until: Until,
    /// Whether connections that are not complete count too. Default false.
    #[serde(default)]
    pub inflight: bool,
}

/// Until when `least_time` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// The connection to the server.
    Connect,
    /// The first byte from it.
    FirstByte,
    /// The last byte from it.
    LastByte,
}

/// A server: an address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Server {
    /// The address, IPv4 or IPv6, without brackets.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        Self { address: address.ip(), port: address.port() }
    }
}

impl From<Server> for SocketAddr {
    fn from(server: Server) -> Self {
        Self::new(server.address, server.port)
    }
}

/// A DNS name that the proxy resolves itself (Services of type ExternalName).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Dns {
    /// The name: labels of letters, digits, `-` and `_` joined by dots, 253 characters at the most, no IP address.
    pub name: String,
    /// The port at every address of the name.
    pub port: u16,
    /// DNS servers to ask, at least one.
    pub resolvers: Arc<[Server]>,
}

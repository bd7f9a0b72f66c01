//! What both sides tell each other at the beginning: `capabilities` and `settings`.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::{Algorithm, Protocol};
use crate::schema_id::{Document, SchemaId, known_words, maybe_millis};

/// What a plugin can do. Fixed while a backend is open. LBEX asks a plugin for nothing beyond it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[allow(clippy::struct_excessive_bools)]
pub struct Capabilities {
    /// The schema id.
    pub schema: SchemaId<Self>,
    /// The proxy in words, for messages: `HAProxy 2.6.12`.
    pub description: String,
    /// The protocols that it carries. Listeners of others are refused before the plugin hears of them. Default: TCP and UDP.
    #[serde(default = "both", deserialize_with = "known_words")]
    pub protocols: Vec<Protocol>,
    /// The algorithms that it has. Instead of others the plugin gets `round_robin`, which every plugin has to do. Default: that one.
    #[serde(default = "round_robin", deserialize_with = "known_words")]
    pub algorithms: Vec<Algorithm>,
    /// Whether it resolves the DNS names of servers itself. Default false.
    #[serde(default)]
    pub dns_servers: bool,
    /// Whether it takes live deltas: changes of servers without a reload. Default false.
    #[serde(default)]
    pub live_servers: bool,
    /// Whether servers that are taken out keep the connections they have. Default false.
    #[serde(default)]
    pub drains: bool,
    /// Whether it observes a listener's `connect_timeout_ms` and `idle_timeout_ms`. Where not, LBEX tells a Service that asks for one. Default
    /// true.
    #[serde(default = "yes")]
    pub timeouts: bool,
    /// Ports of this host that the proxy or the plugin itself listens on, and that no Service can have. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved: Vec<ReservedPort>,
}

impl Document for Capabilities {
    const SCHEMA: &'static str = "lbex.capabilities/1";
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            schema: SchemaId::new(),
            description: String::new(),
            protocols: both(),
            algorithms: round_robin(),
            dns_servers: false,
            live_servers: false,
            drains: false,
            timeouts: true,
            reserved: Vec::new(),
        }
    }
}

fn yes() -> bool {
    true
}

fn both() -> Vec<Protocol> {
    vec![Protocol::Tcp, Protocol::Udp]
}

fn round_robin() -> Vec<Algorithm> {
    vec![Algorithm::RoundRobin]
}

/// A port that no Service can have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct ReservedPort {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its address; `0.0.0.0` and `::` stand for all of their family.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// What it is for, in one to three words: `statistics`.
    pub what: String,
}

/// What LBEX tells a plugin when it opens it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Settings {
    /// The schema id.
    pub schema: SchemaId<Self>,
    /// LBEX's version, for messages.
    pub lbex_version: String,
    /// A folder that is the plugin's own: it exists, nobody else can write to it, and it is the same after a restart of LBEX. An absolute path.
    pub state_dir: String,
    /// The path of the file that the operator gave with `--backend-config`; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_file: Option<String>,
    /// What that file held when LBEX opened the plugin. What it means is the plugin's matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// `--worker-shutdown-timeout`, milliseconds: after a reload, connections may stay on old processes for so long; absent: for ever.
    #[serde(rename = "shutdown_timeout_ms", default, skip_serializing_if = "Option::is_none", with = "maybe_millis")]
    #[cfg_attr(feature = "schemas", schemars(with = "Option<u64>"))]
    pub shutdown_timeout: Option<Duration>,
}

impl Document for Settings {
    const SCHEMA: &'static str = "lbex.settings/1";
}

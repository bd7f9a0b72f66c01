//! What a plugin answers: `report` after an apply, `observation` after a look.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::state::Protocol;
use crate::schema_id::{Document, SchemaId};

/// What a plugin did with a `desired` or `delta` document. What [`Report::refused`] does not name is served as desired, confirmed by
/// the data plane.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Report {
    /// The schema id.
    pub schema: SchemaId<Self>,
    /// The document's revision, which the plugin has from now on.
    pub revision: String,
    /// How it was put into effect.
    pub action: Action,
    /// Every reload since the last report, with its reason; also those of calls that failed. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reloads: Vec<ReloadReason>,
    /// All Services that are not served as desired, by `namespace/name`, with at least one refusal each; also those that were refused
    /// before and did not change since. After a live delta: those of that delta only. Default none; some: the code is 'done in part'.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, Vec<Refusal>>,
}

impl Document for Report {
    const SCHEMA: &'static str = "lbex.report/1";
}

/// How a desired state was put into effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The proxy already served exactly this.
    #[default]
    Unchanged,
    /// Without a reload.
    Live,
    /// By a reload.
    Reloaded,
    /// By starting the proxy.
    Started,
    /// By upgrading the running proxy to another binary.
    Upgraded,
    /// In a way that this version does not know.
    #[serde(other)]
    #[cfg_attr(feature = "schemas", schemars(skip))]
    Other,
}

/// Why a proxy was reloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReloadReason {
    /// After a start.
    Start,
    /// After an upgrade to another binary.
    Upgrade,
    /// It served something else than was last confirmed, or nobody knows what.
    Repair,
    /// A listener is new, gone, or listens elsewhere.
    Listeners,
    /// Other options of a listener or of how its traffic is spread.
    Options,
    /// Servers have a port that none had before.
    Ports,
    /// The proxy did not take servers in time that it was given without a reload.
    Late,
    /// The memory for servers became too small, or far too large.
    Zone,
    /// Servers came or went.
    Endpoints,
    /// What concerns the proxy as a whole; also any reason that this version does not know.
    #[serde(other)]
    Global,
}

/// Why a plugin does not serve a Service, or one listener of it, as desired. The rest goes ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Refusal {
    /// The listener that it concerns. Default: the whole Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<ListenerName>,
    /// A CamelCase word of letters and digits, 64 at the most, that stays the same: `PortInUse`, `PermissionDenied`,
    /// `ConfigurationRefused`, `ProtocolUnsupported`. It becomes the reason of an Event.
    pub code: String,
    /// Why, in words for the Service's author; one line, without a full stop. LBEX cuts it after 1,000 characters.
    pub message: String,
    /// What happens instead. Default: it is not served.
    #[serde(default)]
    pub instead: Instead,
    /// Whether the same again may succeed (a port that another process holds). LBEX then tries, with growing pauses. Default false.
    #[serde(default)]
    pub retry: bool,
}

/// A listener of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct ListenerName {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its port.
    pub port: u16,
}

/// What becomes of what is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Instead {
    /// It is served as it last was.
    LastGood,
    /// It is not served.
    #[default]
    LeftOut,
}

/// What a plugin sees of its proxy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Observation {
    /// The schema id.
    pub schema: SchemaId<Self>,
    /// Whether the proxy runs and answers with a configuration that this plugin gave it.
    pub healthy: bool,
    /// One line: what runs, or why it is not healthy.
    pub detail: String,
    /// Whether the proxy serves what was last applied. If not, LBEX sends the whole desired state again. Default: as `healthy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_step: Option<bool>,
    /// The revision that the plugin has; absent before the first apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Processes of the proxy that only finish the connections they have. Default 0.
    #[serde(default)]
    pub draining: u32,
    /// The connections that those hold; absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining_connections: Option<u64>,
    /// The plugin's own measures, shown as metrics: names of `a-z`, `0-9` and `_`, 64 characters at the most; LBEX takes 100 of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}

impl Document for Observation {
    const SCHEMA: &'static str = "lbex.observation/1";
}

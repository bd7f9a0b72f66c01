//! What is saved.

use std::collections::BTreeSet;
use std::time::Duration;

use lbex_core::desired::{DesiredState, Listener, Servers, ServiceConfig};
use lbex_core::duration::LONGEST;
use lbex_core::hold::Inventory;
use lbex_core::names::ServiceKey;
use serde::{Deserialize, Serialize};

use super::Scope;

/// What is remembered of the cluster over a restart, so that the first lists after it are not believed blindly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The UID of its namespace `kube-system`, where that is known.
    pub cluster: Option<String>,
    /// What there was.
    pub inventory: Option<Inventory>,
}

/// What LBEX last knew to be good. Fields may be added as long as they are optional: an older LBEX ignores them, and a newer one
/// reads a state without them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedState {
    /// The version of the LBEX that saved it.
    pub lbex: String,
    /// When, in seconds since the epoch.
    pub saved: u64,
    /// Which cluster it is of: the UID of the namespace `kube-system`, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// What there was in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Inventory>,
    /// The settings that it belongs to.
    pub scope: Scope,
    /// What the proxy should be. Its generation means nothing to another process.
    pub desired: DesiredState,
}

impl SavedState {
    /// When it was saved, as people read it.
    pub fn saved_at(&self) -> String {
        let seconds = i64::try_from(self.saved).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(seconds).map_or_else(|_| "an unknown time".to_owned(), |time| time.to_string())
    }

    /// What the types do not say: an error names what is not as LBEX would have written it. A file with a right checksum can still
    /// be somebody else's.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut ports = BTreeSet::new();
        for (key, config) in &self.desired.services {
            check_service(key, config)?;
            for listener in &config.listeners {
                if !ports.insert((listener.protocol, listener.port)) {
                    return Err(format!("{key}: {} port {} is there twice", listener.protocol, listener.port));
                }
            }
        }
        Ok(())
    }
}

fn check_service(key: &ServiceKey, config: &ServiceConfig) -> Result<(), String> {
    if config.service != *key {
        return Err(format!("{key} is called {} inside", config.service));
    }
    if config.listeners.is_empty() {
        return Err(format!("{key} has no listener"));
    }
    config.listeners.iter().try_for_each(|listener| check_listener(listener).map_err(|why| format!("{key}: {why}")))
}

fn check_listener(listener: &Listener) -> Result<(), &'static str> {
    let timeout = |time: Duration| (Duration::from_millis(1)..=LONGEST).contains(&time);
    let servers_have_ports = match &listener.upstream.servers {
        Servers::Addresses(addresses) => addresses.iter().all(|address| address.port() != 0),
        Servers::Dns { port, resolvers, .. } => {
            *port != 0 && !resolvers.is_empty() && resolvers.iter().all(|address| address.port() != 0)
        }
    };
    match listener {
        Listener { port: 0, .. } => Err("a listener has port 0"),
        Listener { addresses, .. } if addresses.is_empty() => Err("a listener has no address"),
        Listener { connect_timeout, idle_timeout, .. } if !(timeout(*connect_timeout) && timeout(*idle_timeout)) => {
            Err("a listener has a timeout that no setting allows")
        }
        _ if !servers_have_ports => Err("a server has no port"),
        _ => Ok(()),
    }
}

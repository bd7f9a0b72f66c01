//! Fits a saved state to the instance as it runs now, until planning decides.

use std::net::IpAddr;
use std::sync::Arc;

use lbex_core::desired::{Algorithm, DesiredState, Listener, Servers, ServiceConfig};
use lbex_core::settings::PlanSettings;

/// A listener of a saved state that is not served, and why not, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Service, protocol and port: `web/shop TCP 443`.
    pub listener: String,
    /// Why.
    pub why: &'static str,
}

/// What of a saved state may be served with the settings of now, before there is a list to plan from: listeners bind where this
/// instance listens; without the ports that LBEX itself uses or that `--allowed-ports` no longer has, and what the proxy cannot do.
pub fn fit(saved: &DesiredState, settings: &PlanSettings) -> (DesiredState, Vec<LeftOut>) {
    let mut left_out = Vec::new();
    let mut state = DesiredState::default();
    for (key, config) in &saved.services {
        let mut listeners = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            match obstacle(listener, settings) {
                None => listeners.push(fitted(listener, settings)),
                Some(why) => {
                    let listener = format!("{key} {} {}", listener.protocol, listener.port);
                    left_out.push(LeftOut { listener, why });
                }
            }
        }
        if !listeners.is_empty() {
            let config = ServiceConfig { service: key.clone(), created: config.created, listeners };
            state.services.insert(key.clone(), Arc::new(config));
        }
    }
    (state, left_out)
}

fn obstacle(listener: &Listener, settings: &PlanSettings) -> Option<&'static str> {
    let own = |address: &IpAddr| settings.reserved.iter().any(|r| r.covers(listener.protocol, *address, listener.port));
    let dns = matches!(listener.upstream.servers, Servers::Dns { .. });
    if settings.listen.iter().any(own) {
        Some("LBEX itself uses the port now")
    } else if !settings.allowed_ports.contains(listener.port) {
        Some("--allowed-ports does not have the port")
    } else if dns && !(settings.allow_external_name && settings.capabilities.dns_servers) {
        Some("ExternalName Services are not served now")
    } else {
        None
    }
}

fn fitted(listener: &Listener, settings: &PlanSettings) -> Listener {
    let mut fitted = Listener { addresses: settings.listen.clone(), ..listener.clone() };
    if matches!(fitted.upstream.algorithm, Algorithm::LeastTime(_)) && !settings.capabilities.least_time {
        fitted.upstream.algorithm = Algorithm::RoundRobin;
    }
    fitted
}

//! The backend `relay`: a small TCP proxy in LBEX's own process.
//!
//! It shows what a backend has to do. It is no proxy for production: it ends with LBEX, and leaves idle timeouts out.

mod serve;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lbex::registry::{Given, LinkedBackend, OpenError};
use lbex_core::backend::{Action, ApplyReport, BackendError, Capabilities, Instead, Observed, ProxyBackend, Refusal};
use lbex_core::desired::{Delta, DesiredState, Listener};
use lbex_core::names::ServiceKey;
use tokio::sync::Mutex;

use self::serve::Serving;

/// What LBEX can choose.
pub(crate) struct InProcess;

#[async_trait]
impl LinkedBackend for InProcess {
    fn name(&self) -> &'static str {
        "relay"
    }

    fn about(&self) -> &'static str {
        "a TCP proxy inside LBEX"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            description: "the relay".to_owned(),
            udp: false,
            least_conn: false,
            client_ip: false,
            dns_servers: false,
            timeouts: false,
            ..Capabilities::default()
        }
    }

    async fn open(&self, _: Given) -> Result<Arc<dyn ProxyBackend>, OpenError> {
        Ok(Arc::new(Relay::default()))
    }
}

/// What it serves; nothing before the first [`apply`](ProxyBackend::apply). Calls that overlap wait for each other here.
#[derive(Default)]
struct Relay(Mutex<Option<Serves>>);

struct Serves {
    generation: u64,
    listeners: BTreeMap<SocketAddr, Serving>,
}

#[async_trait]
impl ProxyBackend for Relay {
    fn capabilities(&self) -> Capabilities {
        InProcess.capabilities()
    }

    async fn apply(&self, desired: &DesiredState, _: &Delta) -> Result<ApplyReport, BackendError> {
        let mut now = self.0.lock().await;
        let mut running = now.take().map(|serves| serves.listeners).unwrap_or_default();
        let wanted = wanted(desired);
        let before = running.len();
        running.retain(|address, serving| wanted.contains_key(address) && serving.is_alive());
        let (mut listeners, mut refused) = (BTreeMap::new(), BTreeMap::new());
        let mut changed = running.len() < before;
        for (address, (service, listener)) in wanted {
            let serving = if let Some(serving) = running.remove(&address) {
                changed |= serving.becomes(listener);
                Ok(serving)
            } else {
                changed = true;
                Serving::start(address, listener)
            };
            match serving {
                Ok(serving) => drop(listeners.insert(address, serving)),
                Err(error) => refused.entry(service.clone()).or_insert_with(Vec::new).push(Refusal {
                    code: "PortInUse",
                    message: format!("failed to listen on {address}: {error}"),
                    instead: Instead::LeftOut,
                    retry: true,
                }),
            }
        }
        *now = Some(Serves { generation: desired.generation, listeners });
        let action = if changed { Action::Live } else { Action::Unchanged };
        Ok(ApplyReport { generation: desired.generation, action, reloads: Vec::new(), refused })
    }

    async fn observe(&self) -> Result<Observed, BackendError> {
        let now = self.0.lock().await;
        let Some(Serves { generation, listeners }) = now.as_ref() else {
            return Ok(Observed { detail: "the relay serves nothing yet".to_owned(), ..Observed::default() });
        };
        Ok(Observed {
            healthy: true,
            detail: format!("the relay has {} listeners", listeners.len()),
            in_step: listeners.values().all(Serving::is_alive),
            serving: Some(generation.to_string()),
            ..Observed::default()
        })
    }

    /// What connections are left ends with the process.
    async fn stop(&self, _: Duration) -> Result<(), BackendError> {
        self.0.lock().await.take();
        Ok(())
    }
}

/// Every address to listen on.
fn wanted(desired: &DesiredState) -> BTreeMap<SocketAddr, (&ServiceKey, &Listener)> {
    let mut wanted = BTreeMap::new();
    for (service, config) in &desired.services {
        for listener in &config.listeners {
            let addresses = listener.addresses.iter().map(|ip| SocketAddr::new(*ip, listener.port));
            wanted.extend(addresses.map(|address| (address, (service, listener))));
        }
    }
    wanted
}

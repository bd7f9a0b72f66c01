//! A backend for tests of the loop and of the driver.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lbex_core::backend::{Action, ApplyReport, BackendError, Capabilities, Observed, ProxyBackend, Refusal};
use lbex_core::desired::{Delta, DesiredState};
use lbex_core::names::ServiceKey;
use tokio::time::Instant;

use crate::publish::{BuildInfo, Metrics};

pub(super) fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(&BuildInfo { version: String::new(), commit: String::new(), backend: String::new() }))
}

/// What a call of `apply` got, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) after: Duration,
    pub(super) generation: u64,
    pub(super) from: u64,
    pub(super) changed: usize,
}

/// What an apply answers: refusals, or an error.
pub(super) type Answer = Result<BTreeMap<ServiceKey, Vec<Refusal>>, BackendError>;

/// A backend that keeps what it is called with and answers from a script, then with success.
pub(super) struct Scripted {
    pub(super) begin: Instant,
    pub(super) live_servers: bool,
    pub(super) takes: Duration,
    pub(super) script: Mutex<Vec<Answer>>,
    pub(super) observed: Mutex<Observed>,
    pub(super) calls: Mutex<Vec<Call>>,
    pub(super) desired: Mutex<DesiredState>,
}

impl Scripted {
    pub(super) fn new() -> Self {
        Self {
            begin: Instant::now(),
            live_servers: false,
            takes: Duration::ZERO,
            script: Mutex::default(),
            observed: Mutex::new(Observed { healthy: true, in_step: true, ..Observed::default() }),
            calls: Mutex::default(),
            desired: Mutex::default(),
        }
    }

    /// What it was last told to serve.
    pub(super) fn desired(&self) -> DesiredState {
        self.desired.lock().unwrap().clone()
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

#[async_trait]
impl ProxyBackend for Scripted {
    fn capabilities(&self) -> Capabilities {
        Capabilities { live_servers: self.live_servers, ..Capabilities::default() }
    }

    async fn apply(&self, desired: &DesiredState, delta: &Delta) -> Result<ApplyReport, BackendError> {
        let (generation, from, changed) = (desired.generation, delta.from, delta.changes.len());
        self.calls.lock().unwrap().push(Call { after: self.begin.elapsed(), generation, from, changed });
        self.desired.lock().unwrap().clone_from(desired);
        tokio::time::sleep(self.takes).await;
        let next = { self.script.lock().unwrap().pop() };
        let refused = next.unwrap_or_else(|| Ok(BTreeMap::new()))?;
        Ok(ApplyReport { generation, action: Action::Reloaded, refused })
    }

    async fn observe(&self) -> Result<Observed, BackendError> {
        Ok(self.observed.lock().unwrap().clone())
    }

    async fn stop(&self, _: Duration) -> Result<(), BackendError> {
        Ok(())
    }
}

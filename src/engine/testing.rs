//! A backend for tests of the loop and of the driver.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lbex_core::backend::{Action, ApplyReport, BackendError, Capabilities, Observed, ProxyBackend, Push, Refusal};
use lbex_core::desired::{Delta, DesiredState};
use lbex_core::names::ServiceKey;
use tokio::time::Instant;

use crate::publish::{BuildInfo, Metrics};

pub(in crate::engine) fn metrics() -> Arc<Metrics> {
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
    /// Looks get no answer.
    pub(super) silent: AtomicBool,
    pub(super) calls: Mutex<Vec<Call>>,
    pub(super) desired: Mutex<DesiredState>,
    /// When each push came, and the generation that it led to.
    pub(super) pushes: Mutex<Vec<(Duration, u64)>>,
    /// How long the data plane takes to take a push, and whether it does.
    pub(super) push_takes: Duration,
    pub(super) push_is_late: Mutex<bool>,
}

impl Scripted {
    pub(super) fn new() -> Self {
        Self {
            begin: Instant::now(),
            live_servers: false,
            takes: Duration::ZERO,
            script: Mutex::default(),
            observed: Mutex::new(Observed { healthy: true, in_step: true, ..Observed::default() }),
            silent: AtomicBool::new(false),
            calls: Mutex::default(),
            desired: Mutex::default(),
            pushes: Mutex::default(),
            push_takes: Duration::ZERO,
            push_is_late: Mutex::default(),
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

    fn push(&self, delta: &Delta) -> Push {
        let changes = delta.changes.iter().filter(|(_, change)| self.live_servers && change.servers_only());
        let services: BTreeSet<ServiceKey> = changes.map(|(key, _)| key.clone()).collect();
        if services.is_empty() {
            return Push::nothing();
        }
        self.pushes.lock().unwrap().push((self.begin.elapsed(), delta.to));
        let late = if *self.push_is_late.lock().unwrap() { services.clone() } else { BTreeSet::new() };
        let takes = self.push_takes;
        let taken = Box::pin(async move {
            tokio::time::sleep(takes).await;
            late
        });
        Push { services, taken }
    }

    async fn apply(&self, desired: &DesiredState, delta: &Delta) -> Result<ApplyReport, BackendError> {
        let newest = delta.changes.iter().all(|(key, change)| change.after() == desired.services.get(key));
        assert!(newest, "{delta:?} does not lead to {desired:?}");
        let (generation, from, changed) = (desired.generation, delta.from, delta.changes.len());
        self.calls.lock().unwrap().push(Call { after: self.begin.elapsed(), generation, from, changed });
        self.desired.lock().unwrap().clone_from(desired);
        tokio::time::sleep(self.takes).await;
        let next = { self.script.lock().unwrap().pop() };
        let refused = next.unwrap_or_else(|| Ok(BTreeMap::new()))?;
        Ok(ApplyReport { generation, action: Action::Reloaded, reloads: Vec::new(), refused })
    }

    async fn observe(&self) -> Result<Observed, BackendError> {
        if self.silent.load(Ordering::Relaxed) {
            return Err(BackendError::Retry("it does not answer".to_owned()));
        }
        Ok(self.observed.lock().unwrap().clone())
    }

    async fn stop(&self, _: Duration) -> Result<(), BackendError> {
        Ok(())
    }
}

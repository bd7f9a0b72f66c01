//! NGINX Plus elsewhere: upstreams that exist there by name are kept in step through the API, and nothing else is touched.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lbex_backend_nginx::prefix::{Prefix, PrefixError};
use lbex_core::backend::{
    Action, ApplyReport, BackendError, Capabilities, Instead, Observed, ProxyBackend, Push, Refusal,
};
use lbex_core::desired::{Delta, DesiredState, ServiceConfig};
use lbex_core::names::ServiceKey;

use crate::api::{AccessError, AccessFiles, ApiUrl, Client};
use crate::fleet::{Fleet, targets, why};
use crate::instance::{Pace, Target};

/// What the operator decides about NGINX Plus elsewhere (contract section 2).
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// `--nginx-plus-api`: at least one.
    pub apis: Vec<ApiUrl>,
    /// What all of them are shown.
    pub files: AccessFiles,
    /// How they are kept in step.
    pub pace: Pace,
    /// `--nginx-prefix`: LBEX's own state; nothing of NGINX's is in it.
    pub prefix: PathBuf,
}

/// Why there is no backend: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The prefix cannot be used, or another LBEX does.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// A file with credentials or certificates.
    #[error("--nginx-plus-api {url}: {error}")]
    Access {
        /// Which API.
        url: String,
        /// What is wrong.
        error: AccessError,
    },
}

/// NGINX Plus elsewhere. LBEX starts no NGINX and needs none.
#[derive(Debug)]
pub struct RemoteBackend {
    fleet: Arc<Fleet>,
    /// Upstreams that an LBEX before this one kept in step, until something is applied.
    remembered: Mutex<BTreeMap<Arc<str>, ServiceKey>>,
    // Held as long as this LBEX lives.
    _prefix: Prefix,
}

impl RemoteBackend {
    /// Locks the prefix and reads the files. Nobody is asked anything that changes something before
    /// [`apply`](ProxyBackend::apply).
    pub async fn open(options: RemoteOptions) -> Result<Self, RemoteError> {
        let RemoteOptions { apis, files, pace, prefix } = options;
        let opened = tokio::task::spawn_blocking(move || {
            let prefix = Prefix::open(&prefix)?;
            let clients: Vec<Client> = apis.into_iter().map(|url| Client::new(url, files.clone())).collect();
            for client in &clients {
                let wrong = |error| RemoteError::Access { url: client.url().to_string(), error };
                client.check_files().map_err(wrong)?;
            }
            Ok::<_, RemoteError>((prefix, clients))
        });
        let (prefix, clients) = match opened.await {
            Ok(opened) => opened?,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        for warning in prefix.warnings() {
            tracing::warn!("{warning}");
        }
        for client in &clients {
            tracing::info!("upstreams of NGINX Plus at {} are kept in step where they exist by name", client.url());
        }
        let fleet = Arc::new(Fleet::start(clients, pace));
        Ok(Self { fleet, remembered: Mutex::default(), _prefix: prefix })
    }
}

/// What a Service's upstreams are to be. Whom NGINX lets in is not LBEX's to say here: a Service that restricts its clients gets
/// no servers.
fn wanted(config: &ServiceConfig) -> Vec<Target> {
    let mut targets = targets(config);
    if restricts(config) {
        targets.iter_mut().for_each(|target| target.servers = Arc::default());
    }
    targets
}

fn restricts(config: &ServiceConfig) -> bool {
    config.listeners.iter().any(|listener| !listener.allow.is_empty())
}

fn restricted() -> Refusal {
    Refusal {
        code: "SourceRangesNotEnforced",
        message: "loadBalancerSourceRanges cannot be enforced on an NGINX Plus whose configuration is not LBEX's, so the Service's \
                  upstreams there get no servers"
            .to_owned(),
        instead: Instead::LeftOut,
        retry: false,
    }
}

#[async_trait]
impl ProxyBackend for RemoteBackend {
    fn capabilities(&self) -> Capabilities {
        let urls: Vec<String> = self.fleet.instances().iter().map(crate::instance::Instance::url).collect();
        let description = format!("NGINX Plus through its API ({})", urls.join(", "));
        Capabilities { description, ..crate::capabilities(true) }
    }

    fn remember(&self, last_good: &DesiredState) {
        let targets = last_good.services.values().flat_map(|config| targets(config));
        let names = targets.map(|target| (target.name, target.service)).collect();
        *self.remembered.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    fn push(&self, delta: &Delta) -> Push {
        self.fleet.push(delta, wanted, false)
    }

    async fn apply(&self, desired: &DesiredState, delta: &Delta) -> Result<ApplyReport, BackendError> {
        let generation = desired.generation;
        let awaited = self.fleet.tell(desired, delta, wanted, |instance, service, name| {
            instance.empty(generation, service, name);
        });
        let remembered = std::mem::take(&mut *self.remembered.lock().unwrap_or_else(PoisonError::into_inner));
        for (name, service) in &remembered {
            // Those that are wanted still are known by now.
            for instance in self.fleet.instances().iter().filter(|instance| !instance.knows(name)) {
                instance.empty(generation, service, name);
            }
        }
        self.fleet.applied(&awaited).await;
        if !self.fleet.any_has(&awaited) {
            return Err(self.fleet.why_none());
        }
        let mut refused = self.fleet.refusals();
        self.fleet.reported(generation, refused.keys().cloned().collect());
        for (key, _) in desired.services.iter().filter(|(_, config)| restricts(config)) {
            refused.insert(key.clone(), vec![restricted()]);
        }
        let action = if delta.is_empty() { Action::Unchanged } else { Action::Live };
        Ok(ApplyReport { generation, action, reloads: Vec::new(), refused })
    }

    /// Healthy while at least one instance is: a dead one makes no other's servers wrong.
    async fn observe(&self) -> Result<Observed, BackendError> {
        let instances = self.fleet.instances();
        let bad: Vec<String> = instances.iter().filter(|instance| !instance.answers()).map(why).collect();
        let good = instances.len() - bad.len();
        let mut detail = format!("{good} of {} NGINX Plus kept in step", instances.len());
        for why in &bad {
            detail = format!("{detail}; {why}");
        }
        let apis = instances.iter().map(crate::instance::Instance::stands).collect();
        Ok(Observed { healthy: good > 0, detail, in_step: !self.fleet.has_news(), apis, ..Observed::default() })
    }

    /// They are not LBEX's: they go on.
    async fn stop(&self, _: Duration) -> Result<(), BackendError> {
        tracing::info!("NGINX Plus elsewhere goes on serving what it was told last");
        Ok(())
    }
}

//! NGINX Plus on this host, in a prefix of LBEX's own. Configuration, process, check and confirmation are the `nginx` backend's; servers
//! come through the API.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lbex_backend_nginx::{NginxBackend, NginxOptions, OpenError};
use lbex_core::backend::{
    Action, ApplyReport, BackendError, Capabilities, Instead, Observed, ProxyBackend, Push, Refusal,
};
use lbex_core::desired::{Delta, DesiredState, ServiceConfig};
use lbex_core::names::ServiceKey;

use crate::api::{AccessFiles, ApiUrl, Client, Problem};
use crate::fleet::{Fleet, targets, why};
use crate::instance::{Instance, Pace, Target};

/// How often NGINX may be reloaded within one apply because of what its API says.
const MOST_REPAIRS: usize = 2;

/// LBEX's own NGINX Plus.
#[derive(Debug)]
pub struct LocalBackend {
    nginx: NginxBackend,
    /// Of one.
    fleet: Arc<Fleet>,
}

impl LocalBackend {
    /// Finds NGINX Plus, locks the prefix. Nothing is started or touched before [`apply`](ProxyBackend::apply).
    pub async fn open(options: NginxOptions, pace: Pace) -> Result<Self, OpenError> {
        let nginx = NginxBackend::open_plus(options).await?;
        let client = Client::new(ApiUrl::unix(nginx.layout().api_socket()), AccessFiles::default());
        // Before anything is applied there may be no NGINX to look at.
        let pace = Pace { idle_looks: false, ..pace };
        tracing::info!("endpoint changes reach NGINX Plus through its API ({}), without a reload", client.url());
        Ok(Self { nginx, fleet: Arc::new(Fleet::start(vec![client], pace)) })
    }

    fn instance(&self) -> &Instance {
        &self.fleet.instances()[0]
    }

    /// What a Service's upstreams are to be, given what NGINX refuses of it.
    fn wanted(&self, config: &ServiceConfig, refused: &BTreeMap<ServiceKey, Vec<Refusal>>) -> Vec<Target> {
        let mut targets = targets(config);
        if let Some(refusals) = refused.get(&config.service) {
            let served = refusals.iter().all(|refusal| refusal.instead == Instead::LastGood);
            targets.retain(|target| served && self.instance().knows(&target.name));
        }
        targets
    }

    /// Removes what NGINX Plus keeps of upstreams that are no more, so that one of the same name begins with nothing.
    async fn sweep(&self, desired: &DesiredState) {
        let Some(folder) = self.nginx.states().map(std::path::Path::to_owned) else { return };
        let live = desired.services.values().flat_map(|config| targets(config)).map(|target| target.name);
        let known = self.instance().names().into_iter().map(|(name, _)| name);
        let names: BTreeSet<Arc<str>> = live.chain(known).collect();
        let swept = tokio::task::spawn_blocking(move || {
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".conf"));
                // Others are NGINX's own, on their way to one of these.
                if name.is_some_and(|name| !names.contains(name)) {
                    std::fs::remove_file(&path)?;
                }
            }
            std::io::Result::Ok(())
        });
        match swept.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "what NGINX Plus keeps of old upstreams remains"),
            Err(error) => tracing::warn!(%error, "what NGINX Plus keeps of old upstreams remains"),
        }
    }

    /// Looks again at an NGINX that was reloaded or is another one: whether it has what the one before had, nobody knows.
    async fn after(&self, action: Action) {
        match action {
            Action::Unchanged | Action::Live => {}
            Action::Reloaded => self.instance().try_now(),
            Action::Started | Action::Upgraded => {
                self.instance().try_now();
                let names: Vec<_> = self.instance().names().into_iter().map(|(name, _)| name).collect();
                let tickets = self.instance().again(&names);
                self.fleet.applied_one(&tickets).await;
            }
        }
    }

    /// Does what helps against what the API refuses, as far as something does: a reload where NGINX does not have an upstream that
    /// its configuration has, a larger zone where that is full. Answers the upstreams that are worth another try.
    async fn repair(&self, desired: &DesiredState, report: &mut ApplyReport) -> Result<Vec<Arc<str>>, BackendError> {
        let of = |problem: &Problem| {
            let all = self.instance().refusals().into_iter();
            let names = all.filter(|(_, _, error)| error.problem == *problem).map(|(_, name, _)| name);
            names.collect::<Vec<_>>()
        };
        let full = of(&Problem::UpstreamOutOfMemory);
        let missing = of(&Problem::UpstreamNotFound);
        if !full.is_empty() {
            tracing::warn!(
                upstreams = full.len(),
                "the zone of NGINX Plus is full: it gets a larger one, with a reload"
            );
            self.nginx.enlarge_zone().await;
        } else if !missing.is_empty() {
            tracing::warn!(upstreams = missing.len(), "NGINX Plus lacks upstreams of its configuration: reloading it");
            self.nginx.reload_again().await?;
        } else {
            return Ok(Vec::new());
        }
        let nothing = Delta { from: desired.generation, to: desired.generation, ..Delta::default() };
        let again = self.nginx.apply(desired, &nothing).await?;
        report.reloads.extend(again.reloads);
        report.refused = again.refused;
        report.action = report.action.max(Action::Reloaded);
        Ok(full.into_iter().chain(missing).collect())
    }
}

#[async_trait]
impl ProxyBackend for LocalBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities { least_time: true, live_servers: true, drains: true, ..self.nginx.capabilities() }
    }

    fn push(&self, delta: &Delta) -> Push {
        self.fleet.push(delta, targets, true)
    }

    /// The configuration first: an upstream has to be there to get servers.
    async fn apply(&self, desired: &DesiredState, delta: &Delta) -> Result<ApplyReport, BackendError> {
        let mut report = self.nginx.apply(desired, delta).await?;
        let wanted = |config: &ServiceConfig| self.wanted(config, &report.refused);
        let awaited = self.fleet.tell_all(desired, wanted, |instance, _, name| instance.forget(name));
        let before = self.instance().stands().changes;
        self.after(report.action).await;
        self.fleet.applied(&awaited).await;
        for _ in 0..MOST_REPAIRS {
            let names = self.repair(desired, &mut report).await?;
            if names.is_empty() {
                break;
            }
            self.instance().try_now();
            let tickets = self.instance().again(&names);
            self.fleet.applied_one(&tickets).await;
        }
        if !self.fleet.any_has(&awaited) {
            return Err(self.fleet.why_none());
        }
        if report.action != Action::Unchanged {
            self.sweep(desired).await;
        } else if self.instance().stands().changes > before {
            report.action = Action::Live;
        }
        let refused = self.fleet.refusals();
        self.fleet.reported(desired.generation, refused.keys().cloned().collect());
        for (key, refusals) in refused {
            report.refused.entry(key).or_default().extend(refusals);
        }
        Ok(report)
    }

    async fn observe(&self) -> Result<Observed, BackendError> {
        let seen = self.nginx.observe().await?;
        let instance = self.instance();
        let detail = match instance.trouble() {
            // It serves what it was told last.
            Some(_) => format!("{}; {}", seen.detail, why(instance)),
            None => seen.detail,
        };
        let in_step = seen.in_step && !self.fleet.has_news();
        Ok(Observed { detail, in_step, apis: vec![instance.stands()], ..seen })
    }

    async fn stop(&self, drain: Duration) -> Result<(), BackendError> {
        self.nginx.stop(drain).await
    }
}

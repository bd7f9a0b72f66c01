//! The open-source NGINX as a [`ProxyBackend`].
//!
//! [`apply`](NginxBackend::apply) is the whole of it on one screen; the steps are in the modules below.

mod choose;
mod draining;
mod live;
mod observe;
mod options;
mod patience;
mod plus;
mod put;
mod reason;
mod refuse;
mod remembered;
mod running;
mod state;
mod touched;
mod trial;
mod warm;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex as SyncMutex};
use std::time::Duration;

use async_trait::async_trait;
use lbex_core::backend::{Action, ApplyReport, BackendError, Capabilities, Observed, ProxyBackend, Push};
use lbex_core::desired::{Delta, DesiredState};
use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;
use lbex_core::settings::Reserved;
use tokio::sync::Mutex;

use crate::binary::{Candidate, NginxBinary, NginxChoice, Origin, find};
use crate::check::Checker;
use crate::files::ConfigFiles;
use crate::prefix::Prefix;
use crate::process::{Nginx, proc};
use crate::render::{MainInput, Templates};

pub use options::{
    EndpointUpdates, NginxOptions, OpenError, Render, RenderOptions, find_plus, render_only, render_plus,
};

use draining::Draining;
use live::Pusher;
use observe::Seen;
use plus::Plus;
use put::Outcome;
use state::State;
use trial::Trial;

/// LBEX's own NGINX, embedded or the system's, in a prefix of its own.
#[derive(Debug)]
pub struct NginxBackend {
    binary: NginxBinary,
    nginx: Nginx,
    files: ConfigFiles,
    checker: Checker,
    /// Tells NGINX its servers without reloads, where it can be told.
    pusher: Option<Arc<Pusher>>,
    /// For NGINX Plus.
    plus: Option<Plus>,
    templates: Arc<Templates>,
    input: MainInput,
    cpus: u32,
    state: Mutex<State>,
    seen: SyncMutex<Seen>,
    draining: Draining,
    /// What was last good, until something is applied.
    last_good: SyncMutex<Option<DesiredState>>,
    #[cfg(test)]
    edit: SyncMutex<Option<state::Edit>>,
    // Held as long as this LBEX lives.
    prefix: Arc<Prefix>,
    choice: NginxChoice,
}

/// How often NGINX may refuse to take over a configuration within one call, each time because of another Service.
const MOST_REFUSALS: usize = 8;

#[async_trait]
impl ProxyBackend for NginxBackend {
    fn capabilities(&self) -> Capabilities {
        let capabilities = crate::capabilities(&Candidate::System(self.binary.clone()));
        Capabilities { live_servers: self.pusher.is_some(), ..capabilities }
    }

    fn reserved(&self) -> Vec<Reserved> {
        let address = self.pusher.iter().map(|pusher| pusher.address());
        let both = address.flat_map(|address| [(Protocol::Udp, address), (Protocol::Tcp, address)]);
        both.map(|(protocol, address)| Reserved { protocol, address, what: "endpoint answers" }).collect()
    }

    fn push(&self, delta: &Delta) -> Push {
        self.pusher.as_ref().map_or_else(Push::nothing, |pusher| pusher.push(delta))
    }

    fn remember(&self, last_good: &DesiredState) {
        self.keep_in_mind(last_good);
    }

    async fn apply(&self, desired: &DesiredState, delta: &Delta) -> Result<ApplyReport, BackendError> {
        let mut state = self.state.lock().await;
        self.forget_last_good();
        self.restore(&mut state).await?;
        self.mend_files(&mut state).await;
        let changed = self.render(&mut state, desired, delta).await?;
        let report = self.serve(&mut state, desired).await?;
        let late = self.await_servers(&mut state, &changed, report.action).await;
        if late.is_empty() {
            return Ok(report);
        }
        state.write_addresses(&late);
        self.render_some(&mut state, desired, &late).await?;
        let ApplyReport { reloads, .. } = report;
        state.reloads.splice(0..0, reloads);
        self.serve(&mut state, desired).await
    }

    async fn observe(&self) -> Result<Observed, BackendError> {
        self.trim_log();
        let seen = self.look_at_nginx().await?;
        if seen.healthy {
            self.tell_a_stranger().await;
        }
        let push = self.pusher.as_ref().map(|pusher| pusher.observed());
        // What was not taken wants another apply, and so do files that somebody removed.
        let is_late = self.pusher.as_ref().is_some_and(|pusher| pusher.is_late());
        let in_step = seen.in_step && !is_late && !self.is_touched().await;
        Ok(Observed { in_step, push, ..seen })
    }

    async fn stop(&self, drain: Duration) -> Result<(), BackendError> {
        let _one_at_a_time = self.state.lock().await;
        let stopped = self.nginx.stop(drain).await.map_err(|error| BackendError::Retry(error.to_string()))?;
        tracing::info!(?stopped, "NGINX stopped");
        Ok(())
    }
}

impl NginxBackend {
    /// Puts back what somebody removed of the prefix. All files are written again then.
    async fn restore(&self, state: &mut State) -> Result<(), BackendError> {
        let prefix = self.prefix.clone();
        if proc::blocking(move || prefix.restore()).await.map_err(refuse::retry)? {
            let root = self.layout().root().display();
            tracing::warn!("{root} was removed, or part of it, while LBEX used it; it is written again");
            state.applied = None;
        }
        self.checker.make_folders().map_err(refuse::retry)?;
        if self.binary.origin == Origin::Embedded && !self.binary.path.exists() {
            let candidate = find(&self.choice).await.map_err(refuse::retry)?;
            candidate.install(self.layout()).await.map_err(refuse::retry)?;
        }
        Ok(())
    }

    /// Makes NGINX serve what is wanted, without those Services that it refuses.
    async fn serve(&self, state: &mut State, desired: &DesiredState) -> Result<ApplyReport, BackendError> {
        let running = self.look(state).await?;
        let host = self.host(state, running.as_ref());
        let mut trial = Trial::new();
        let mut refusals = 0;
        let (choice, main, action) = loop {
            let choice = state.choose(&trial, &host);
            let main = self.main_file(state, &choice, &host)?;
            self.aim_at(&[&main]);
            if running.as_ref().is_some_and(|running| running.serves(&main)) {
                break (choice, main, Action::Unchanged);
            }
            if self.probe(&choice, running.as_ref(), &mut trial).await
                || self.check(state, &choice, &main, &host, &mut trial).await?
            {
                continue;
            }
            match self.put(state, &choice, &main, running.as_ref(), &host).await? {
                Outcome::Served(action) => break (choice, main, action),
                Outcome::Refused(complaints) if refusals < MOST_REFUSALS => {
                    refusals += 1;
                    trial::blame(&choice, &complaints, &mut trial)?;
                }
                Outcome::Refused(complaints) => return Err(refuse::given_up(&complaints)),
            }
        };
        self.keep(state, &choice, &main, desired.generation).await?;
        self.know_master().await;
        let reloads = std::mem::take(&mut state.reloads);
        Ok(ApplyReport { generation: desired.generation, action, reloads, refused: choice.refused })
    }

    /// Waits until NGINX has the servers of the Services that changed; of all, where it began anew. Answers those whose it has not.
    async fn await_servers(
        &self,
        state: &mut State,
        changed: &BTreeSet<ServiceKey>,
        action: Action,
    ) -> BTreeSet<ServiceKey> {
        let Some(pusher) = &self.pusher else { return BTreeSet::new() };
        let all = matches!(action, Action::Started | Action::Upgraded);
        let parts = state.good.iter().filter(|(key, _)| all || changed.contains(*key));
        let late = pusher.applied(parts, action == Action::Unchanged).await;
        if let Some(begin) = state.new_workers.take() {
            pusher.retire_before(begin);
        }
        pusher.settle().await;
        if !late.is_empty() {
            tracing::warn!(
                services = late.len(),
                "NGINX did not take endpoints without a reload; it gets them with one"
            );
        }
        late
    }
}

#[cfg(test)]
mod tests;

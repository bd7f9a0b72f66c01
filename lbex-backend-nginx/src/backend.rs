//! The open-source NGINX as a [`ProxyBackend`].
//!
//! [`apply`](NginxBackend::apply) is the whole of it on one screen; the steps are in the modules below.

mod choose;
mod observe;
mod options;
mod patience;
mod put;
mod refuse;
mod state;
mod trial;

use std::sync::{Arc, Mutex as SyncMutex};
use std::time::Duration;

use async_trait::async_trait;
use lbex_core::backend::{Action, ApplyReport, BackendError, Capabilities, Observed, ProxyBackend};
use lbex_core::desired::{Delta, DesiredState};
#[cfg(test)]
use lbex_core::names::ServiceKey;
use tokio::sync::Mutex;

use crate::binary::{Candidate, NginxBinary};
use crate::check::Checker;
use crate::files::ConfigFiles;
use crate::prefix::Prefix;
use crate::process::Nginx;
use crate::render::{MainInput, Templates};

pub use options::{NginxOptions, OpenError, RenderOptions, render_only};

use observe::Seen;
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
    templates: Arc<Templates>,
    input: MainInput,
    cpus: u32,
    state: Mutex<State>,
    seen: SyncMutex<Seen>,
    #[cfg(test)]
    edit: SyncMutex<Option<state::Edit>>,
    // Held as long as this LBEX lives.
    _prefix: Prefix,
}

/// How often NGINX may refuse to take over a configuration within one call, each time because of another Service.
const MOST_REFUSALS: usize = 8;

#[async_trait]
impl ProxyBackend for NginxBackend {
    fn capabilities(&self) -> Capabilities {
        crate::capabilities(&Candidate::System(self.binary.clone()))
    }

    async fn apply(&self, desired: &DesiredState, delta: &Delta) -> Result<ApplyReport, BackendError> {
        let mut state = self.state.lock().await;
        self.render(&mut state, desired, delta).await?;
        let running = self.look(&mut state).await?;
        let host = self.host(&state, running.as_ref());

        let mut trial = Trial::new();
        let mut refusals = 0;
        let (choice, main, action) = loop {
            let choice = state.choose(&trial, &host);
            let main = self.main_file(&choice, &host)?;
            self.aim_at(&main);
            if running.as_ref().is_some_and(|running| running.serves(&main)) {
                break (choice, main, Action::Unchanged);
            }
            if self.probe(&choice, running.as_ref(), &mut trial).await
                || self.check(&mut state, &choice, &main, &host, &mut trial).await?
            {
                continue;
            }
            match self.put(&mut state, &choice, &main, running.as_ref(), &host).await? {
                Outcome::Served(action) => break (choice, main, action),
                Outcome::Refused(complaints) if refusals < MOST_REFUSALS => {
                    refusals += 1;
                    trial::blame(&choice, &complaints, &mut trial)?;
                }
                Outcome::Refused(complaints) => return Err(refuse::given_up(&complaints)),
            }
        };
        self.keep(&mut state, &choice, &main, desired.generation).await?;
        Ok(ApplyReport { generation: desired.generation, action, refused: choice.refused })
    }

    async fn observe(&self) -> Result<Observed, BackendError> {
        self.trim_log();
        self.look_at_nginx().await
    }

    async fn stop(&self, drain: Duration) -> Result<(), BackendError> {
        let _one_at_a_time = self.state.lock().await;
        let stopped = self.nginx.stop(drain).await.map_err(|error| BackendError::Retry(error.to_string()))?;
        tracing::info!(?stopped, "NGINX stopped");
        Ok(())
    }
}

#[cfg(test)]
mod tests;

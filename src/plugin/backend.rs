//! A plugin as a [`ProxyBackend`].

mod calls;
mod open;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lbex_core::backend::{ApplyReport, BackendError, Capabilities, Observed, ProxyBackend, Push};
use lbex_core::desired::{Delta, DesiredState};
use lbex_core::names::ServiceKey;
use lbex_core::settings::Reserved;

use super::deadlines::Deadlines;
use super::library::PluginInfo;
use super::revisions::Known;
use super::thread::PluginThread;
use crate::prefix::Prefix;

pub(super) use calls::{MOST_MEASURES, is_measure};
pub use open::{OpenError, PluginOptions};

/// A plugin that is open. Opened anew by itself where it breaks.
#[derive(Debug)]
pub struct PluginBackend {
    inner: Arc<Inner>,
    capabilities: Capabilities,
    reserved: Vec<Reserved>,
}

#[derive(Debug)]
struct Inner {
    info: PluginInfo,
    thread: PluginThread,
    deadlines: Deadlines,
    /// What the plugin is opened with.
    settings: Vec<u8>,
    /// Held during a call. Calls wait for it in the order in which they come.
    turn: tokio::sync::Mutex<Turn>,
    known: Mutex<Known>,
    seen: Mutex<Option<(Instant, Observed)>>,
    /// What it measured when it was last looked at.
    measures: Mutex<BTreeMap<String, f64>>,
    // Held as long as this LBEX lives.
    _prefix: Prefix,
}

/// How things stand with the plugin, for whoever has the turn.
#[derive(Debug, Default)]
struct Turn {
    /// What was wrong with it last; `None`: it is open and works.
    fault: Option<String>,
    /// How often it broke in a row.
    failures: u32,
    /// When it may be opened again.
    reopen_at: Option<Instant>,
}

/// For how long what was seen last stands in while the plugin is opened anew.
const STANDS_IN: Duration = Duration::from_secs(5);

/// The longest pause before a plugin is opened again; the first is half a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[async_trait]
impl ProxyBackend for PluginBackend {
    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    fn reserved(&self) -> Vec<Reserved> {
        self.reserved.clone()
    }

    fn push(&self, delta: &Delta) -> Push {
        let services = self.inner.known().changed(delta, self.capabilities.live_servers);
        if services.is_empty() {
            return Push::nothing();
        }
        let (inner, pushed, generation) = (self.inner.clone(), services.clone(), delta.to);
        Push { services, taken: Box::pin(async move { inner.push(&pushed, generation).await }) }
    }

    async fn apply(&self, desired: &DesiredState, delta: &Delta) -> Result<ApplyReport, BackendError> {
        self.inner.apply(desired, delta).await
    }

    async fn observe(&self) -> Result<Observed, BackendError> {
        self.inner.observe().await
    }

    fn measures(&self) -> BTreeMap<String, f64> {
        self.inner.measures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn woken(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.inner.thread.context().woken())
    }

    async fn stop(&self, drain: Duration) -> Result<(), BackendError> {
        self.inner.stop(drain).await
    }
}

impl Inner {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // What a panicking thread left of it is as good as any: the plugin asks for the whole where it does not fit.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Observed)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn apply(&self, desired: &DesiredState, delta: &Delta) -> Result<ApplyReport, BackendError> {
        let mut turn = self.turn.lock().await;
        self.ensure_open(&mut turn).await?;
        let document = self.known().for_apply(desired, delta).map_err(|error| self.permanent(error))?;
        let was_whole = document.whole;
        match self.send(&mut turn, document, desired).await? {
            Some(report) => Ok(report),
            None if was_whole => Err(self.broke(&mut turn, super::Fault::Insatiable).await),
            None => {
                tracing::debug!(plugin = self.info.name, "the plugin asks for the whole desired state");
                let document = self.known().for_apply(desired, delta).map_err(|error| self.permanent(error))?;
                match self.send(&mut turn, document, desired).await? {
                    Some(report) => Ok(report),
                    None => Err(self.broke(&mut turn, super::Fault::Insatiable).await),
                }
            }
        }
    }

    /// Sends what is on its way to the plugin, unless another has done so meanwhile. Answers those of `services` that it did not take.
    async fn push(&self, services: &BTreeSet<ServiceKey>, generation: u64) -> BTreeSet<ServiceKey> {
        let mut turn = self.turn.lock().await;
        if self.is_back().is_ok() && self.thread.is_open() {
            let document = self.known().for_push();
            match document {
                Ok(Some(document)) => self.send_live(&mut turn, document).await,
                Ok(None) => {}
                Err(error) => tracing::warn!(plugin = self.info.name, "changes of servers cannot be written: {error}"),
            }
        }
        self.known().late(services, generation)
    }

    async fn observe(&self) -> Result<Observed, BackendError> {
        let Ok(mut turn) = self.turn.try_lock() else {
            // A call is in progress, which has its deadline.
            let seen = self.seen().as_ref().map(|(_, observed)| observed.clone());
            return seen.ok_or_else(|| self.retry("it is at its first call"));
        };
        self.is_back()?;
        if !self.thread.is_open() {
            return Ok(self.while_closed(&turn));
        }
        let observed = self.look(&mut turn).await?;
        *self.seen() = Some((Instant::now(), observed.clone()));
        Ok(observed)
    }

    /// Whether the plugin has returned from all calls, for who has the turn: nobody waits for one that it is still in.
    fn is_back(&self) -> Result<(), BackendError> {
        match self.thread.is_in() {
            Some((call, since)) => {
                Err(self.retry(format_args!("it has not returned from {call}, for {since:?} by now")))
            }
            None => Ok(()),
        }
    }

    /// What is told while there is no backend to ask: the proxy is probably as it was.
    fn while_closed(&self, turn: &Turn) -> Observed {
        let why = turn.fault.clone().unwrap_or_else(|| "it is closed".to_owned());
        let detail = format!("the plugin {} is to be opened again: {why}", self.info.name);
        let seen = self.seen();
        let recent = seen.as_ref().filter(|(at, _)| at.elapsed() < STANDS_IN);
        Observed { detail, in_step: false, ..recent.map(|(_, observed)| observed.clone()).unwrap_or_default() }
    }

    fn retry(&self, why: impl std::fmt::Display) -> BackendError {
        BackendError::Retry(format!("the plugin {}: {why}", self.info.name))
    }

    fn permanent(&self, why: impl std::fmt::Display) -> BackendError {
        BackendError::Permanent(format!("the plugin {}: {why}", self.info.name))
    }
}

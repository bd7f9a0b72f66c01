//! What a stand-in's handle and its connections share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use crate::access::Credentials;
use crate::api::{Answer, Request, State, answer};
use crate::calls::Call;
use crate::faults::{Fault, Rule};
use crate::traffic::Traffic;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) in_progress: AtomicUsize,
    /// Whether a test may say over the API's socket what is to go wrong.
    pub(crate) control: bool,
    inner: Mutex<Inner>,
    credentials: Option<Credentials>,
    /// How often the state has changed.
    changes: AtomicU64,
    traffic: Option<tokio::sync::Mutex<Carried>>,
}

/// What carries traffic, and how many changes it knows.
#[derive(Debug)]
struct Carried {
    traffic: Box<dyn Traffic>,
    changes: u64,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) state: State,
    pub(crate) rules: Vec<Rule>,
    pub(crate) calls: Vec<Call>,
}

impl Shared {
    pub(crate) fn new(
        state: State,
        credentials: Option<Credentials>,
        traffic: Option<Box<dyn Traffic>>,
        control: bool,
    ) -> Self {
        let carried = |traffic| tokio::sync::Mutex::new(Carried { traffic, changes: 0 });
        Self {
            in_progress: AtomicUsize::new(0),
            control,
            inner: Mutex::new(Inner { state, rules: Vec::new(), calls: Vec::new() }),
            credentials,
            changes: AtomicU64::new(0),
            traffic: traffic.map(carried),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lets_in(&self, authorization: Option<&str>) -> bool {
        self.credentials.as_ref().is_none_or(|credentials| credentials.are(authorization))
    }

    /// Notes a call; its number, and what is to go wrong with it.
    pub(crate) fn came(&self, mut call: Call) -> (usize, Option<Fault>) {
        let mut inner = self.lock();
        let rule = inner.rules.iter_mut().find_map(|rule| {
            let takes = rule.takes(&call.method, &call.path);
            takes.then(|| rule.fault.clone())
        });
        call.fault.clone_from(&rule);
        inner.calls.push(call);
        (inner.calls.len() - 1, rule)
    }

    pub(crate) fn answered(&self, number: usize, status: u16) {
        if let Some(call) = self.lock().calls.get_mut(number) {
            call.status = Some(status);
        }
    }

    /// Answers a call. Where traffic is carried, the answer comes when it goes as the state says.
    pub(crate) async fn answer(&self, request: &Request<'_>, id: &str) -> Answer {
        let answer = answer(&mut self.lock().state, request, id);
        if request.method == "GET" || answer.status >= 300 {
            return answer;
        }
        match self.changed().await {
            Ok(()) => answer,
            Err(error) => {
                let text = format!("the stand-in failed to carry traffic: {error:#}");
                eprintln!("{text}");
                Answer { status: 500, json: Some(serde_json::json!({"error": {"status": 500, "text": text}})) }
            }
        }
    }

    /// The state has changed: waits until traffic goes as it says. Changes that wait for one another are carried together.
    pub(crate) async fn changed(&self) -> Result<()> {
        let change = self.changes.fetch_add(1, Ordering::SeqCst) + 1;
        let Some(carried) = &self.traffic else { return Ok(()) };
        let mut carried = carried.lock().await;
        if carried.changes < change {
            let (known, state) = (self.changes.load(Ordering::SeqCst), self.lock().state.clone());
            carried.traffic.carry(&state).await?;
            carried.changes = known;
        }
        Ok(())
    }

    /// Begins to carry traffic.
    pub(crate) async fn begin(&self) -> Result<()> {
        let Some(carried) = &self.traffic else { return Ok(()) };
        let state = self.lock().state.clone();
        carried.lock().await.traffic.carry(&state).await
    }

    /// Ends what carries traffic.
    pub(crate) async fn end(&self) -> Result<()> {
        let Some(carried) = &self.traffic else { return Ok(()) };
        carried.lock().await.traffic.end().await
    }
}

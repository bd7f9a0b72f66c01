//! Ways to break LBEX on purpose, each in another place: the simulation has to find every one of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lbex_core::backend::{Action, ApplyReport, BackendError, Capabilities, Observed, ProxyBackend, Push};
use lbex_core::desired::{Delta, DesiredState};

use super::backend::is_refused;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// A follower believes a list of which only the first page came.
    BelievesPartialLists,
    /// The source says that the first lists are complete when only one of them is.
    SyncsEarly,
    /// The way to the planner loses a change.
    LosesChanges,
    /// A change that could not be applied is forgotten instead of merged with what follows.
    ForgetsToMerge,
    /// An apply is put off until after the one that follows it.
    AppliesOutOfOrder,
    /// What was applied is called confirmed when it is only on its way.
    ConfirmsEarly,
    /// What the data plane did not take of a push is forgotten.
    ForgetsLatePushes,
    /// An apply that failed is not tried again.
    GivesUp,
    /// The last good state is applied although the proxy serves something newer.
    ResumesBlindly,
    /// A list that lacks most of what was known is believed at once.
    NeverHolds,
    /// What is held is let go too early.
    LetsGoEarly,
    /// What is held is never let go.
    HoldsForEver,
    /// After a restart the first lists are believed, whatever they lack.
    ForgetsWhatWasKnown,
    /// Nobody looks which cluster answers.
    BelievesAnyCluster,
    /// A push that comes late takes the place of a later one.
    PushesOvertake,
    /// A configuration takes the place of what was pushed while it was on its way.
    AppliesForgetPushes,
    /// The data plane is said to take pushes that never reach it.
    LosesPushes,
    /// The operator's word, SIGUSR1, is not heard.
    IgnoresTheOperator,
    /// Nobody is told that something is held.
    HoldsInSilence,
    /// LBEX ends when it cannot reach the API server.
    EndsWithTheApiServer,
    /// The proxy ends with LBEX.
    TakesTheProxyAlong,
    /// Nobody looks whether the proxy serves.
    NeverLooks,
    /// Nothing is applied while a Service would be refused.
    LetsOneStopAll,
    /// A change of some Services takes another one out.
    TouchesBystanders,
    /// Reloads follow one another at once.
    ReloadsAtOnce,
    /// What was confirmed is not saved.
    SavesNothing,
}

impl Broken {
    /// All of them.
    #[cfg(test)]
    pub(super) const ALL: [Self; 26] = [
        Self::BelievesPartialLists,
        Self::SyncsEarly,
        Self::LosesChanges,
        Self::ForgetsToMerge,
        Self::AppliesOutOfOrder,
        Self::ConfirmsEarly,
        Self::ForgetsLatePushes,
        Self::GivesUp,
        Self::ResumesBlindly,
        Self::NeverHolds,
        Self::LetsGoEarly,
        Self::HoldsForEver,
        Self::ForgetsWhatWasKnown,
        Self::BelievesAnyCluster,
        Self::PushesOvertake,
        Self::AppliesForgetPushes,
        Self::LosesPushes,
        Self::IgnoresTheOperator,
        Self::HoldsInSilence,
        Self::EndsWithTheApiServer,
        Self::TakesTheProxyAlong,
        Self::NeverLooks,
        Self::LetsOneStopAll,
        Self::TouchesBystanders,
        Self::ReloadsAtOnce,
        Self::SavesNothing,
    ];
}

/// Stands between the driver and the backend, and breaks what is to be broken there.
pub(super) struct Between {
    backend: Arc<dyn ProxyBackend>,
    broken: Option<Broken>,
    put_off: Mutex<Option<(DesiredState, Delta)>>,
    forgotten: Mutex<Delta>,
    looks: Mutex<u32>,
}

impl Between {
    pub(super) fn new(backend: Arc<dyn ProxyBackend>, broken: Option<Broken>) -> Self {
        Self { backend, broken, put_off: Mutex::default(), forgotten: Mutex::default(), looks: Mutex::default() }
    }

    fn breaks(&self, what: Broken) -> bool {
        self.broken == Some(what)
    }

    /// The first apply is only pretended, and made after the second.
    async fn out_of_order(&self, desired: &DesiredState, delta: &Delta) -> Result<ApplyReport, BackendError> {
        let earlier = { self.put_off.lock().unwrap_or_else(PoisonError::into_inner).take() };
        let Some((earlier, its_delta)) = earlier else {
            *self.put_off.lock().unwrap_or_else(PoisonError::into_inner) = Some((desired.clone(), delta.clone()));
            let generation = desired.generation;
            return Ok(ApplyReport { generation, action: Action::Reloaded, refused: [].into(), reloads: Vec::new() });
        };
        let report = self.backend.apply(desired, delta).await;
        self.backend.apply(&earlier, &its_delta).await?;
        report
    }

    /// What failed before is not in the delta.
    async fn forgetful(&self, desired: &DesiredState, delta: &Delta) -> Result<ApplyReport, BackendError> {
        let mut known = delta.clone();
        {
            let forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
            known.changes.retain(|key, change| forgotten.changes.get(key) != Some(change));
        }
        let result = self.backend.apply(desired, &known).await;
        if result.is_err() {
            *self.forgotten.lock().unwrap_or_else(PoisonError::into_inner) = delta.clone();
        }
        result
    }
}

#[async_trait]
impl ProxyBackend for Between {
    fn capabilities(&self) -> Capabilities {
        self.backend.capabilities()
    }

    fn push(&self, delta: &Delta) -> Push {
        let push = self.backend.push(delta);
        if !self.breaks(Broken::ForgetsLatePushes) {
            return push;
        }
        let Push { services, taken } = push;
        let nothing_is_late = async move {
            taken.await;
            BTreeSet::new()
        };
        Push { services, taken: Box::pin(nothing_is_late) }
    }

    async fn apply(&self, desired: &DesiredState, delta: &Delta) -> Result<ApplyReport, BackendError> {
        let generation = desired.generation;
        let at_once = |action| Ok(ApplyReport { generation, action, refused: [].into(), reloads: Vec::new() });
        match self.broken {
            Some(Broken::AppliesOutOfOrder) => self.out_of_order(desired, delta).await,
            Some(Broken::ForgetsToMerge) => self.forgetful(desired, delta).await,
            Some(Broken::ConfirmsEarly) => {
                let (backend, desired, delta) = (self.backend.clone(), desired.clone(), delta.clone());
                tokio::spawn(async move { backend.apply(&desired, &delta).await });
                // The driver makes no other call meanwhile.
                tokio::time::sleep(Duration::from_millis(1)).await;
                at_once(Action::Reloaded)
            }
            Some(Broken::GivesUp) => match self.backend.apply(desired, delta).await {
                Err(_) => at_once(Action::Unchanged),
                report => report,
            },
            Some(Broken::LetsOneStopAll) if desired.services.values().any(|config| is_refused(config)) => {
                Err(BackendError::Retry("a Service would be refused".to_owned()))
            }
            _ => self.backend.apply(desired, delta).await,
        }
    }

    async fn observe(&self) -> Result<Observed, BackendError> {
        // The first two: LBEX looks twice.
        let first = {
            let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
            *looks += 1;
            *looks <= 2
        };
        if first && self.breaks(Broken::ResumesBlindly) {
            return Ok(Observed::default());
        }
        if self.breaks(Broken::NeverLooks) {
            return Ok(Observed { healthy: true, in_step: true, ..Observed::default() });
        }
        self.backend.observe().await
    }

    async fn stop(&self, drain: Duration) -> Result<(), BackendError> {
        self.backend.stop(drain).await
    }
}

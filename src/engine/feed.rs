//! What the driver gets: deltas numbered without a gap, whether they come from the last good state or from planning.

use std::collections::BTreeMap;

use lbex_core::desired::{Delta, DesiredState, ServiceChange};
use lbex_core::names::ServiceKey;

use super::driver::Driver;
use crate::state::{LastGood, Remembered};

/// Hands deltas to the driver, and tells the keeper of the last good state.
pub(super) struct Feed {
    pub(super) driver: Driver,
    last_good: LastGood,
    stage: Stage,
    generation: u64,
}

enum Stage {
    /// Nothing is planned yet. A last good state, if there is one, is served as soon as the proxy is seen not to serve.
    Waiting(Option<DesiredState>),
    /// The last good state was handed over.
    Resumed(DesiredState),
    /// It was, and is not applied, since the proxy serves by now.
    Left(DesiredState),
    /// Planning decides.
    Planned,
}

impl Feed {
    pub(super) fn new(driver: Driver, last_good: LastGood, saved: Option<DesiredState>) -> Self {
        Self { driver, last_good, stage: Stage::Waiting(saved), generation: 0 }
    }

    /// Whether there is a last good state that is not being applied.
    pub(super) fn may_resume(&self) -> bool {
        matches!(self.stage, Stage::Waiting(Some(_)) | Stage::Left(_))
    }

    /// Has the last good state applied, if nothing else was handed over yet.
    pub(super) fn resume(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Waiting(None)) {
            Stage::Waiting(Some(saved)) => {
                self.last_good.resumed(&saved);
                let delta = self.number(DesiredState::default().changes_to(&saved));
                self.driver.resume(delta.clone());
                self.last_good.submitted(&delta);
                Stage::Resumed(saved)
            }
            Stage::Left(saved) => {
                self.driver.nudge().again();
                Stage::Resumed(saved)
            }
            stage => stage,
        };
    }

    /// The last good state is not applied, since the proxy serves by now.
    pub(super) fn left(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Waiting(None)) {
            Stage::Resumed(saved) => Stage::Left(saved),
            stage => stage,
        };
    }

    /// Hands over what a plan changed; of the first only what differs from the last good state, where that is what was handed
    /// over. `desired` is all that was planned.
    pub(super) fn planned(&mut self, delta: Delta, desired: &DesiredState) {
        match std::mem::replace(&mut self.stage, Stage::Planned) {
            Stage::Resumed(saved) | Stage::Left(saved) => {
                let changes = saved.changes_to(desired);
                tracing::info!("{} Service(s) differ from the last good state", changes.len());
                // Even if none does: what is applied from now on is a plan.
                self.submit(changes);
            }
            Stage::Planned if delta.changes.is_empty() => {}
            // The first is applied even if it is empty: the proxy is to run, whatever it serves.
            Stage::Waiting(_) | Stage::Planned => self.submit(delta.changes),
        }
    }

    /// Whether anything was planned yet.
    pub(super) fn has_planned(&self) -> bool {
        matches!(self.stage, Stage::Planned)
    }

    /// The newest generation that was handed over.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The data plane confirmed this generation.
    pub(super) fn applied(&self, generation: u64) {
        self.last_good.applied(generation);
    }

    /// The data plane took these changes of servers.
    pub(super) fn pushed(&self, pushed: &Delta) {
        self.last_good.pushed(pushed);
    }

    /// What is known of the cluster now.
    pub(super) fn remember(&self, cluster: Remembered) {
        self.last_good.remember(cluster);
    }

    /// Whether the keeper's task is gone.
    pub(super) fn keeper_ended(&self) -> bool {
        self.last_good.is_finished()
    }

    /// Ends the driver, then the keeper.
    pub(super) async fn finish(self) {
        self.driver.finish().await;
        self.last_good.finish().await;
    }

    fn submit(&mut self, changes: BTreeMap<ServiceKey, ServiceChange>) {
        let delta = self.number(changes);
        // The driver first: the keeper may be busy, for as long as it takes to copy all that it is about to save. That something is
        // confirmed is heard of only after this.
        self.driver.submit(delta.clone());
        self.last_good.submitted(&delta);
    }

    fn number(&mut self, changes: BTreeMap<ServiceKey, ServiceChange>) -> Delta {
        let from = self.generation;
        self.generation += u64::from(!changes.is_empty());
        Delta { from, to: self.generation, changes }
    }
}

//! Between the source and the planner: lets through what [`Hold`] lets through, on the clock of this process and at the operator's
//! word, and tells about it.

use std::sync::Arc;
use std::time::Duration;

use lbex_core::hold::{Hold, Notice, Verdict};
use lbex_core::planner::Planner;
use lbex_core::snapshot::Change;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::publish::{Metrics, ObjectKind};

/// Takes changes in, and holds removals that may be wrong.
pub struct Removals {
    hold: Hold,
    release: Arc<Notify>,
    metrics: Arc<Metrics>,
    begin: Instant,
}

impl Removals {
    /// Holds removals for `limit` (`None`: never), or until `release` is notified.
    pub fn new(limit: Option<Duration>, release: Arc<Notify>, metrics: Arc<Metrics>) -> Self {
        Self { hold: Hold::new(limit), release, metrics, begin: Instant::now() }
    }

    /// Returns when the operator wants everything let go.
    pub(super) async fn release_asked(&self) {
        self.release.notified().await;
    }

    /// Takes changes in, as far as they are believed.
    pub(super) fn take(&mut self, changes: Vec<Change>, planner: &mut Planner) {
        for change in changes {
            let verdict = self.hold.judge(planner.cluster(), change, self.begin.elapsed());
            follow(verdict, planner);
        }
        self.publish();
    }

    /// What comes next is of this cluster.
    pub(super) fn cluster(&mut self, identity: Option<Arc<str>>) {
        tracing::debug!("following the cluster {identity:?}");
        self.hold.cluster(identity, self.begin.elapsed()).iter().for_each(tell);
        self.publish();
    }

    /// Lets go what was held for long enough.
    pub(super) fn tick(&mut self, planner: &mut Planner) {
        let verdict = self.hold.tick(self.begin.elapsed());
        follow(verdict, planner);
        self.publish();
    }

    /// Lets everything go.
    pub(super) fn release(&mut self, planner: &mut Planner) {
        let verdict = self.hold.release();
        if verdict == Verdict::default() {
            tracing::info!("SIGUSR1: no removal is held");
        }
        follow(verdict, planner);
        self.publish();
    }

    fn publish(&self) {
        let held = ObjectKind::ALL.map(|kind| (kind, self.hold.held(kind)));
        self.metrics.held(held, self.hold.holds_cluster());
    }
}

fn follow(verdict: Verdict, planner: &mut Planner) {
    verdict.notices.iter().for_each(tell);
    verdict.pass.into_iter().for_each(|change| planner.ingest(change));
}

fn tell(notice: &Notice) {
    if notice.is_warning() {
        tracing::warn!("{notice}");
    } else {
        tracing::info!("{notice}");
    }
}

//! Between the source and the planner: lets through what [`Hold`] lets through, on the clock of this process and at the operator's
//! word, and tells about it.

use std::sync::Arc;
use std::time::Duration;

use lbex_core::hold::{Hold, Inventory, Notice, Verdict};
use lbex_core::planner::Planner;
use lbex_core::snapshot::Change;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::publish::{Metrics, ObjectKind};
use crate::state::Remembered;

/// How often it is looked what to remember, after the first time.
const REMEMBER: Duration = Duration::from_secs(5);

/// Takes changes in, and holds removals that may be wrong.
pub struct Removals {
    hold: Hold,
    release: Arc<Notify>,
    metrics: Arc<Metrics>,
    begin: Instant,
    /// Whether anything was taken in since it was looked what to remember, and when that was.
    changed: bool,
    looked: Instant,
    told: Remembered,
    /// Hears of all that comes in and of what of it is let through.
    #[cfg(test)]
    pub(super) witness: Option<Witness>,
}

/// Hears of what comes in, and of what of it is let through.
#[cfg(test)]
pub(super) type Witness = Box<dyn Fn(&Saw, &[Change]) + Send + Sync>;

/// What comes in.
#[cfg(test)]
#[derive(Debug)]
pub(super) enum Saw {
    /// What follows is of this cluster.
    Cluster(Option<Arc<str>>),
    /// A change.
    Said(Change),
    /// The first complete lists are all there.
    Complete,
    /// Time passes.
    Tick,
    /// The operator lets everything go.
    Released,
}

impl Removals {
    /// Holds removals as `hold` says, or until `release` is notified.
    pub fn new(hold: Hold, release: Arc<Notify>, metrics: Arc<Metrics>) -> Self {
        let now = Instant::now();
        Self {
            hold,
            release,
            metrics,
            begin: now,
            changed: false,
            looked: now,
            told: Remembered::default(),
            #[cfg(test)]
            witness: None,
        }
    }

    /// The first complete lists are all there.
    pub(super) fn complete(&mut self, planner: &Planner) {
        self.hold.complete(planner.cluster(), self.begin.elapsed()).iter().for_each(tell);
        #[cfg(test)]
        self.show(&Saw::Complete, &[]);
        self.publish();
    }

    /// Whether what was taken in may be planned.
    pub(super) fn may_plan(&self) -> bool {
        self.hold.may_plan()
    }

    /// What to remember of the cluster over a restart, where that is much else than before, and nothing is in doubt: the first time at
    /// once, since an LBEX that follows soon must not believe any list blindly; then every [`REMEMBER`] where anything was taken in:
    /// that costs work in proportion to the cluster.
    pub(super) fn news(&mut self, planner: &Planner) -> Option<Remembered> {
        let is_due = self.told.inventory.is_none() || self.looked.elapsed() >= REMEMBER;
        if !(self.changed && self.hold.is_sure() && is_due) {
            return None;
        }
        (self.changed, self.looked) = (false, Instant::now());
        let inventory = Inventory::of(planner.cluster(), planner.asking());
        let cluster = self.hold.known_cluster().map(ToString::to_string);
        let before = self.told.inventory.as_ref();
        if cluster == self.told.cluster && before.is_some_and(|before| !inventory.differs(before)) {
            return None;
        }
        self.told = Remembered { cluster, inventory: Some(inventory) };
        Some(self.told.clone())
    }

    /// Returns when the operator wants everything let go.
    pub(super) async fn release_asked(&self) {
        self.release.notified().await;
    }

    /// Takes changes in, as far as they are believed.
    pub(super) fn take(&mut self, changes: Vec<Change>, planner: &mut Planner) {
        for change in changes {
            #[cfg(test)]
            let said = Saw::Said(change.clone());
            let verdict = self.hold.judge(planner.cluster(), change, self.begin.elapsed());
            #[cfg(test)]
            self.show(&said, &verdict.pass);
            self.follow(verdict, planner);
        }
        self.publish();
    }

    /// What comes next is of this cluster.
    pub(super) fn cluster(&mut self, identity: Option<Arc<str>>) {
        tracing::debug!("following the cluster {identity:?}");
        #[cfg(test)]
        self.show(&Saw::Cluster(identity.clone()), &[]);
        self.hold.cluster(identity);
    }

    /// Lets go what was held for long enough.
    pub(super) fn tick(&mut self, planner: &mut Planner) {
        let verdict = self.hold.tick(planner.cluster(), self.begin.elapsed());
        #[cfg(test)]
        self.show(&Saw::Tick, &verdict.pass);
        self.follow(verdict, planner);
        self.publish();
    }

    /// Lets everything go.
    pub(super) fn release(&mut self, planner: &mut Planner) {
        let verdict = self.hold.release();
        if verdict == Verdict::default() && !self.hold.holds_cluster() {
            tracing::info!("SIGUSR1: no removal is held");
        }
        #[cfg(test)]
        self.show(&Saw::Released, &verdict.pass);
        self.follow(verdict, planner);
        self.publish();
    }

    fn follow(&mut self, verdict: Verdict, planner: &mut Planner) {
        self.changed |= !verdict.pass.is_empty();
        verdict.notices.iter().for_each(tell);
        verdict.pass.into_iter().for_each(|change| planner.ingest(change));
    }

    #[cfg(test)]
    fn show(&self, saw: &Saw, passed: &[Change]) {
        self.witness.iter().for_each(|witness| witness(saw, passed));
    }

    fn publish(&self) {
        let held = ObjectKind::ALL.map(|kind| (kind, self.hold.held(kind)));
        self.metrics.held(held, self.hold.holds_cluster());
    }
}

fn tell(notice: &Notice) {
    if notice.is_warning() {
        tracing::warn!("{notice}");
    } else {
        tracing::info!("{notice}");
    }
}

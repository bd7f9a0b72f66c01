//! The first complete lists after a restart, against what was known before it. Nothing can be kept of objects that only their names
//! are known of: where most are missing, nothing is planned at all, so that what was served goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lists::Comparison;
use super::{ListKey, Notice, Reminder, Why};
use crate::model::ObjectKind;
use crate::names::ServiceKey;
use crate::snapshot::Snapshot;

/// What was known of a cluster, as far as it is remembered over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inventory {
    /// The Services that asked for LBEX.
    pub services: BTreeSet<ServiceKey>,
    /// The names of the Nodes.
    pub nodes: BTreeSet<Arc<str>>,
    /// How many endpoints there were.
    pub endpoints: usize,
}

impl Inventory {
    /// Of a cluster in which these Services ask for LBEX. Costs work in proportion to the cluster.
    pub fn of<'a>(cluster: &Snapshot, asking: impl Iterator<Item = &'a ServiceKey>) -> Self {
        Self {
            services: asking.cloned().collect(),
            nodes: cluster.nodes().map(|node| node.name.clone()).collect(),
            endpoints: endpoints(cluster),
        }
    }

    /// Whether it says much else than `other` did: endpoints come and go all the time.
    pub fn differs(&self, other: &Self) -> bool {
        let few = other.endpoints / 10;
        self.services != other.services || self.nodes != other.nodes || self.endpoints.abs_diff(other.endpoints) > few
    }

    /// How many Services, Nodes or endpoints were known, and how many of them the cluster lacks.
    fn compare(&self, kind: ObjectKind, cluster: &Snapshot) -> Comparison {
        let (known, lacking) = match kind {
            ObjectKind::Service => {
                (self.services.len(), self.services.iter().filter(|key| cluster.service(key).is_none()).count())
            }
            ObjectKind::Node => {
                (self.nodes.len(), self.nodes.iter().filter(|name| cluster.node(name).is_none()).count())
            }
            ObjectKind::Endpoints => (self.endpoints, self.endpoints.saturating_sub(endpoints(cluster))),
        };
        Comparison { known, lacking, ..Comparison::default() }
    }
}

fn endpoints(cluster: &Snapshot) -> usize {
    cluster.endpoint_lists().flat_map(|(_, _, subsets)| subsets).map(|subset| subset.endpoints.len()).sum()
}

/// Whether planning may begin.
#[derive(Debug, Default)]
pub(super) enum Start {
    /// The first complete lists are not all there, or are another cluster's.
    Waiting(Inventory),
    /// They lack most of what was known, of these kinds.
    Doubted(Inventory, BTreeMap<ObjectKind, Doubt>),
    /// It may.
    #[default]
    Done,
}

/// A first list that is not believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doubt {
    reminder: Reminder,
    lacking: usize,
}

impl Start {
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// The first complete lists are there.
    pub(super) fn listed(&mut self, cluster: &Snapshot, now: Duration, limit: Duration) -> Vec<Notice> {
        let Self::Waiting(inventory) = self else { return Vec::new() };
        let inventory = std::mem::take(inventory);
        let mut notices = Vec::new();
        let mut doubts = BTreeMap::new();
        for kind in ObjectKind::ALL {
            let comparison = inventory.compare(kind, cluster);
            if comparison.is_mass_removal() {
                let Comparison { known, lacking, .. } = comparison;
                notices.push(Notice::HeldAtStart { list: whole(kind), lacking, known, limit });
                doubts.insert(kind, Doubt { reminder: Reminder::new(now, limit), lacking });
            }
        }
        *self = if doubts.is_empty() { Self::Done } else { Self::Doubted(inventory, doubts) };
        notices
    }

    /// What is doubted may have come since, or its time may be over; else it is told again, at intervals.
    pub(super) fn tick(&mut self, cluster: &Snapshot, now: Duration) -> Vec<Notice> {
        let Self::Doubted(inventory, doubts) = self else { return Vec::new() };
        let mut notices = Vec::new();
        doubts.retain(|kind, doubt| {
            let comparison = inventory.compare(*kind, cluster);
            let (list, count) = (whole(*kind), comparison.lacking);
            doubt.lacking = count;
            if !comparison.is_mass_removal() {
                notices.push(Notice::Restored { list, gone: count });
                return false;
            }
            if doubt.reminder.over(now) {
                notices.push(Notice::Released { list, count, why: Why::Time });
                return false;
            }
            notices.extend(doubt.reminder.due(now).map(|left| Notice::Still { list, held: count, left }));
            true
        });
        if doubts.is_empty() {
            *self = Self::Done;
        }
        notices
    }

    /// The operator believes the lists.
    pub(super) fn release(&mut self) -> Vec<Notice> {
        let Self::Doubted(_, doubts) = self else { return Vec::new() };
        let released = |(kind, doubt): (&ObjectKind, &Doubt)| Notice::Released {
            list: whole(*kind),
            count: doubt.lacking,
            why: Why::Operator,
        };
        let notices = doubts.iter().map(released).collect();
        *self = Self::Done;
        notices
    }

    /// How many of a kind a list lacks that is not believed.
    pub(super) fn doubted(&self, kind: ObjectKind) -> usize {
        match self {
            Self::Doubted(_, doubts) => doubts.get(&kind).map_or(0, |doubt| doubt.lacking),
            _ => 0,
        }
    }
}

fn whole(kind: ObjectKind) -> ListKey {
    ListKey { kind, namespace: None }
}

//! Which cluster answers. Nothing of another than the known one is believed at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::lists::list_of;
use super::{ListKey, Notice, Reminder};
use crate::snapshot::{Change, Snapshot};

/// The known cluster, and another where one answers.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    known: Option<Arc<str>>,
    /// Whether what comes now is of the other.
    other_speaks: bool,
    other: Option<Other>,
}

/// A cluster that is not believed yet, as it would be taken in.
#[derive(Debug)]
struct Other {
    uid: Arc<str>,
    reminder: Reminder,
    cluster: Snapshot,
    listed: BTreeSet<ListKey>,
}

impl Clusters {
    /// What comes next is of this cluster; `None`: nobody knows, which counts as the known one. `limit`: `None`: everything is
    /// believed.
    pub(super) fn speaks(&mut self, uid: Option<Arc<str>>, limit: Option<Duration>, now: Duration) -> Option<Notice> {
        let known = self.known.clone();
        self.other_speaks = false;
        let (Some(uid), Some(limit)) = (uid.clone(), limit) else {
            self.known = uid.or(known);
            return None;
        };
        let Some(known) = known.filter(|known| *known != uid) else {
            self.known = Some(uid);
            return None;
        };
        self.other_speaks = true;
        if self.other.as_ref().is_some_and(|other| other.uid == uid) {
            return None;
        }
        let reminder = Reminder::new(now, limit);
        self.other = Some(Other { uid: uid.clone(), reminder, cluster: Snapshot::default(), listed: BTreeSet::new() });
        Some(Notice::OtherCluster { known, other: uid, left: limit })
    }

    /// Begins with a cluster that is known already.
    pub(super) fn knowing(known: Option<Arc<str>>) -> Self {
        Self { known, ..Self::default() }
    }

    /// The known cluster.
    pub(super) fn known(&self) -> Option<&Arc<str>> {
        self.known.as_ref()
    }

    /// Whether the other cluster has lists that the known one has not told yet; `listed` are those that it has.
    pub(super) fn hides(&self, listed: &BTreeSet<ListKey>) -> bool {
        self.other.as_ref().is_some_and(|other| !other.listed.is_subset(listed))
    }

    /// Whether another cluster waits.
    pub(super) fn waiting(&self) -> bool {
        self.other.is_some()
    }

    /// Keeps a change of the other cluster apart; gives one of the known cluster back. A notice where that one answers again.
    pub(super) fn sort(&mut self, change: Change) -> (Option<Change>, Option<Notice>) {
        let Some(other) = &mut self.other else { return (Some(change), None) };
        let list = ListKey::of(&change);
        if self.other_speaks {
            other.listed.extend(list);
            other.cluster.apply(change);
            return (None, None);
        }
        // Whoever listed the other before is back.
        let was_other = list.is_some_and(|list| other.listed.remove(&list));
        let back = was_other && other.listed.is_empty();
        if back {
            self.other = None;
        }
        let known = self.known.clone().filter(|_| back);
        (Some(change), known.map(|known| Notice::KnownCluster { known }))
    }

    /// Says again, at intervals, that another cluster waits.
    pub(super) fn remind(&mut self, now: Duration) -> Option<Notice> {
        let other = self.other.as_mut()?;
        let left = other.reminder.due(now)?;
        Some(Notice::OtherCluster { known: self.known.clone()?, other: other.uid.clone(), left })
    }

    /// Whether the other cluster has waited for long enough.
    pub(super) fn over(&self, now: Duration) -> bool {
        self.other.as_ref().is_some_and(|other| other.reminder.over(now))
    }

    /// Makes the other cluster the known one: its identity, its lists, and what they are. `None`: none waits, or none of its lists
    /// is complete.
    pub(super) fn adopt(&mut self) -> Option<(Arc<str>, BTreeSet<ListKey>, Vec<Change>)> {
        let other = self.other.take_if(|other| {
            if other.listed.is_empty() {
                // As soon as one is.
                other.reminder.until = Duration::ZERO;
            }
            !other.listed.is_empty()
        })?;
        self.known = Some(other.uid.clone());
        self.other_speaks = false;
        let changes = other.listed.iter().flat_map(|list| list_of(&other.cluster, list)).collect();
        Some((other.uid, other.listed, changes))
    }
}

//! Which cluster answers. Nothing of another than the known one is believed at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::lists::{ObjectKey, list_of};
use super::{ListKey, Notice, Reminder};
use crate::snapshot::{Change, Snapshot};

/// The known cluster, and another where one answers.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    known: Option<Arc<str>>,
    /// The cluster that what comes now is of; `None`: nobody knows, which counts as the known one.
    speaker: Option<Arc<str>>,
    other: Option<Other>,
    /// The lists that are in effect, and the cluster that told each: that may still be the one that was known before. `None`: nobody
    /// knew.
    lists: BTreeMap<ListKey, Option<Arc<str>>>,
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
    /// What comes next is of this cluster; `None`: nobody knows, which counts as the known one. `holds`: whether another than the
    /// known one has to wait.
    pub(super) fn speaks(&mut self, uid: Option<Arc<str>>, holds: bool) {
        self.speaker.clone_from(&uid);
        if self.known.is_some() && holds {
            return;
        }
        let nobody_knew = self.lists.values_mut().filter(|of| of.is_none());
        nobody_knew.for_each(|of| of.clone_from(&uid));
        self.known = uid.or(self.known.take());
    }

    /// Begins with a cluster that is known already.
    pub(super) fn knowing(known: Option<Arc<str>>) -> Self {
        Self { known, ..Self::default() }
    }

    /// The known cluster.
    pub(super) fn known(&self) -> Option<&Arc<str>> {
        self.known.as_ref()
    }

    /// Whether the other cluster has lists that nothing is in effect of.
    pub(super) fn hides(&self) -> bool {
        self.other.as_ref().is_some_and(|other| other.listed.iter().any(|list| !self.lists.contains_key(list)))
    }

    /// Whether the known cluster told the list that is in effect: the first that it tells is no removal.
    pub(super) fn has_told(&self, list: &ListKey) -> bool {
        self.lists.get(list).is_some_and(|of| *of == self.known)
    }

    /// The known cluster tells a list. Whether it had told it before.
    pub(super) fn tells(&mut self, list: ListKey) -> bool {
        let again = self.has_told(&list);
        self.lists.insert(list, self.known.clone());
        again
    }

    /// Whether another cluster waits.
    pub(super) fn waiting(&self) -> bool {
        self.other.is_some()
    }

    /// Keeps a change of another cluster apart; gives one of the known cluster back. A notice where the one or the other begins to
    /// answer. `limit`: for how long another has to wait; `None`: it has not.
    pub(super) fn sort(
        &mut self,
        change: Change,
        limit: Option<Duration>,
        now: Duration,
    ) -> (Option<Change>, Option<Notice>) {
        let list = ListKey::of(&change);
        let Some(((uid, known), limit)) = self.stranger().zip(limit) else {
            return (Some(change), list.and_then(|list| self.is_back(&list)));
        };
        if self.follows(&uid, &change) {
            return (Some(change), None);
        }
        let met = self.other.take_if(|other| other.uid == uid);
        let notice = met.is_none().then(|| Notice::OtherCluster { known, other: uid.clone(), left: limit });
        let other = self.other.insert(met.unwrap_or_else(|| Other::new(uid, Reminder::new(now, limit))));
        other.listed.extend(list);
        other.cluster.apply(change);
        (None, notice)
    }

    /// The cluster that speaks, and the known one, where they differ.
    fn stranger(&self) -> Option<(Arc<str>, Arc<str>)> {
        self.speaker.clone().zip(self.known.clone()).filter(|(speaker, known)| speaker != known)
    }

    /// Whether a change is of a watch that goes on from a list that is in effect, although its cluster is not the known one.
    fn follows(&self, uid: &Arc<str>, change: &Change) -> bool {
        let Some(object) = ObjectKey::of(change) else { return false };
        let listed_anew = |other: &Other| other.uid == *uid && other.listed.iter().any(|list| list.has(&object));
        self.lists.iter().any(|(list, of)| of.as_ref() == Some(uid) && list.has(&object))
            && !self.other.as_ref().is_some_and(listed_anew)
    }

    /// The known cluster tells a list: whoever listed that of the other before is back.
    fn is_back(&mut self, list: &ListKey) -> Option<Notice> {
        let other = self.other.as_mut()?;
        other.listed.remove(list);
        if !other.listed.is_empty() {
            return None;
        }
        self.other = None;
        self.known.clone().map(|known| Notice::KnownCluster { known })
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
        self.lists.extend(other.listed.iter().map(|list| (list.clone(), self.known.clone())));
        let changes = other.listed.iter().flat_map(|list| list_of(&other.cluster, list)).collect();
        Some((other.uid, other.listed, changes))
    }
}

impl Other {
    fn new(uid: Arc<str>, reminder: Reminder) -> Self {
        Self { uid, reminder, cluster: Snapshot::default(), listed: BTreeSet::new() }
    }
}

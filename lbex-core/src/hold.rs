//! Lists that lie: a list may be complete and wrong, as from an API server that was restored empty, or from another cluster.
//!
//! [`Hold`] stands between a source and the planner and says what of each change is let through. A list that lacks more than half
//! of 10 or more known Services, Nodes or endpoints is taken in with what it adds and changes, and what it lacks is kept: until a
//! later list or watch events bring it back, for a time, or until the operator lets it go. No list of another cluster than the known
//! one is let through for the same time. A watch goes with its list: it is let through where its list was.
//!
//! What a watch says is gone is gone: somebody deleted it, one by one. (An API server whose storage is replaced ends its watches,
//! so that a list follows.)

mod clusters;
mod lists;
mod notice;
mod start;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{EndpointList, EndpointListKey, ObjectKind};
use crate::snapshot::{Change, Snapshot};
use clusters::Clusters;
use lists::{Comparison, Kept, ObjectKey, compare, singles};
use start::Start;

pub use lists::ListKey;
pub use notice::{Notice, Why};
pub use start::Inventory;

/// How often what lasts is told again.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What of a change is let through, and what to tell about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// To be taken in, in this order, before the next change is judged.
    pub pass: Vec<Change>,
    /// To be told.
    pub notices: Vec<Notice>,
}

/// Holds removals that may be wrong. Times are those of any clock that goes forward.
#[derive(Debug)]
pub struct Hold {
    limit: Option<Duration>,
    held: BTreeMap<ListKey, Held>,
    clusters: Clusters,
    /// Whether the first complete lists are all there.
    complete: bool,
    start: Start,
}

/// What a list lacks, and is kept.
#[derive(Debug)]
struct Held {
    reminder: Reminder,
    objects: BTreeMap<ObjectKey, Kept>,
}

impl Held {
    fn count(&self) -> usize {
        self.objects.values().map(Kept::count).sum()
    }
}

/// When something began, when it ends, and when it was last told.
#[derive(Debug, Clone, Copy)]
struct Reminder {
    until: Duration,
    told: Duration,
}

impl Reminder {
    fn new(now: Duration, limit: Duration) -> Self {
        Self { until: now.saturating_add(limit), told: now }
    }

    fn over(&self, now: Duration) -> bool {
        now >= self.until
    }

    /// The time left, if it is to be told now.
    fn due(&mut self, now: Duration) -> Option<Duration> {
        let due = now.saturating_sub(self.told) >= TELL_AGAIN;
        due.then(|| {
            self.told = now;
            Duration::from_secs(self.until.saturating_sub(now).as_secs())
        })
    }
}

impl Hold {
    /// Holds for `limit`; `None`: never, everything is let through. `cluster` and `inventory` are what is remembered from before
    /// a restart.
    pub fn new(limit: Option<Duration>, cluster: Option<Arc<str>>, inventory: Option<Inventory>) -> Self {
        Self {
            limit,
            held: BTreeMap::new(),
            clusters: Clusters::knowing(cluster),
            complete: false,
            start: inventory.filter(|_| limit.is_some()).map(Start::Waiting).unwrap_or_default(),
        }
    }

    /// The first complete lists of everything are there.
    pub fn complete(&mut self, cluster: &Snapshot, now: Duration) -> Vec<Notice> {
        self.complete = true;
        self.look_at_start(cluster, now)
    }

    /// Whether planning may begin, once the lists are complete: not while they are another cluster's, or lack most of what was known
    /// before a restart.
    pub fn may_plan(&self) -> bool {
        self.start.is_done() && !self.clusters.hides()
    }

    /// Whether everything is believed, so that it can be remembered.
    pub fn is_sure(&self) -> bool {
        self.complete && self.may_plan() && self.held.is_empty() && !self.clusters.waiting()
    }

    /// The identity of the known cluster.
    pub fn known_cluster(&self) -> Option<&Arc<str>> {
        self.clusters.known()
    }

    /// What comes next is of the cluster with this identity; `None`: not known, which counts as the one that was known.
    pub fn cluster(&mut self, uid: Option<Arc<str>>) {
        self.clusters.speaks(uid, self.limit.is_some());
    }

    /// Judges a change of `cluster`, which has everything that was let through before.
    pub fn judge(&mut self, cluster: &Snapshot, change: Change, now: Duration) -> Verdict {
        let mut verdict = Verdict::default();
        let (change, notice) = self.clusters.sort(change, self.limit, now);
        verdict.notices.extend(notice);
        let Some(change) = change else { return verdict };
        match (ListKey::of(&change), self.limit) {
            (Some(list), Some(limit)) => self.judge_list(cluster, list, change, (now, limit), &mut verdict),
            (None, _) if !self.held.is_empty() => self.judge_single(change, &mut verdict),
            _ => verdict.pass.push(change),
        }
        verdict
    }

    /// What has been held for long enough is let go; what is held still is told again, at intervals.
    pub fn tick(&mut self, cluster: &Snapshot, now: Duration) -> Verdict {
        let mut verdict = Verdict { notices: self.look_at_start(cluster, now), ..Verdict::default() };
        verdict.notices.extend(self.start.tick(cluster, now));
        if self.clusters.over(now) {
            self.adopt(Why::Time, &mut verdict);
        }
        verdict.notices.extend(self.clusters.remind(now));
        let over: Vec<_> =
            self.held.iter().filter(|(_, held)| held.reminder.over(now)).map(|(list, _)| list.clone()).collect();
        over.into_iter().for_each(|list| self.let_go(list, Why::Time, &mut verdict));
        for (list, held) in &mut self.held {
            if let Some(left) = held.reminder.due(now) {
                verdict.notices.push(Notice::Still { list: list.clone(), held: held.count(), left });
            }
        }
        verdict
    }

    /// The operator lets everything go that is held.
    pub fn release(&mut self) -> Verdict {
        let mut verdict = Verdict { notices: self.start.release(), ..Verdict::default() };
        self.adopt(Why::Operator, &mut verdict);
        let all: Vec<_> = self.held.keys().cloned().collect();
        all.into_iter().for_each(|list| self.let_go(list, Why::Operator, &mut verdict));
        verdict
    }

    /// How many Services, Nodes or endpoints are held.
    pub fn held(&self, kind: ObjectKind) -> usize {
        let held: usize = self.held.iter().filter(|(list, _)| list.kind == kind).map(|(_, held)| held.count()).sum();
        held + self.start.doubted(kind)
    }

    /// Whether another cluster answers than the known one, and is not taken in.
    pub fn holds_cluster(&self) -> bool {
        self.clusters.waiting()
    }

    fn look_at_start(&mut self, cluster: &Snapshot, now: Duration) -> Vec<Notice> {
        match self.limit {
            Some(limit) if self.complete && !self.clusters.hides() => self.start.listed(cluster, now, limit),
            _ => Vec::new(),
        }
    }

    fn judge_list(
        &mut self,
        cluster: &Snapshot,
        list: ListKey,
        change: Change,
        (now, limit): (Duration, Duration),
        verdict: &mut Verdict,
    ) {
        let before = self.held.remove(&list);
        let again = self.clusters.tells(list.clone());
        let comparison = if again { compare(cluster, &change) } else { Comparison::default() };
        let Comparison { known, lacking, .. } = comparison;
        if !comparison.is_mass_removal() || comparison.missing.is_empty() {
            verdict.notices.extend(before.map(|_| Notice::Restored { list, gone: lacking }));
            verdict.pass.push(change);
            return;
        }
        let reminder = before.map(|before| before.reminder);
        if reminder.is_none() {
            verdict.notices.push(Notice::Held { list: list.clone(), lacking, known, limit });
        }
        let Comparison { missing: objects, empty, .. } = comparison;
        for single in singles(change) {
            let kept = ObjectKey::of(&single).and_then(|key| objects.get(&key));
            // What keeps some of its endpoints follows with them.
            if kept.is_none() {
                verdict.pass.push(single);
            }
        }
        verdict.pass.extend(empty.into_iter().map(Change::EndpointsGone));
        verdict.pass.extend(objects.iter().filter_map(|(key, kept)| match (key, kept) {
            (ObjectKey::Endpoints(key), Kept::Endpoints(kept)) => Some(kept.with_kept(key)),
            _ => None,
        }));
        self.held.insert(list, Held { reminder: reminder.unwrap_or(Reminder::new(now, limit)), objects });
    }

    /// What a watch says about an object ends that it is held.
    fn judge_single(&mut self, change: Change, verdict: &mut Verdict) {
        match change {
            Change::Endpoints(list) => {
                let key = ObjectKey::Endpoints(list.key.clone());
                match self.held.iter_mut().find(|(of, _)| of.has(&key)) {
                    Some((_, held)) => verdict.pass.extend(held.endpoints_came(&list)),
                    None => verdict.pass.push(Change::Endpoints(list)),
                }
            }
            change => {
                let key = ObjectKey::of(&change);
                key.iter().for_each(|key| self.held.values_mut().for_each(|held| drop(held.objects.remove(key))));
                verdict.pass.push(change);
            }
        }
        let restored: Vec<_> =
            self.held.iter().filter(|(_, held)| held.objects.is_empty()).map(|(list, _)| list.clone()).collect();
        for list in restored {
            self.held.remove(&list);
            verdict.notices.push(Notice::Restored { list, gone: 0 });
        }
    }

    fn let_go(&mut self, list: ListKey, why: Why, verdict: &mut Verdict) {
        let Some(held) = self.held.remove(&list) else { return };
        verdict.notices.push(Notice::Released { count: held.count(), list, why });
        verdict.pass.extend(held.objects.into_iter().map(|(key, kept)| kept.release(key)));
    }

    fn adopt(&mut self, why: Why, verdict: &mut Verdict) {
        let Some((cluster, listed, changes)) = self.clusters.adopt() else { return };
        // What was held of these lists is of the cluster that was.
        self.held.retain(|list, _| !listed.contains(list));
        self.start = Start::Done;
        verdict.pass.extend(changes);
        verdict.notices.push(Notice::Adopted { cluster, why });
    }
}

impl Held {
    /// A watch brought an endpoint object: endpoints that are in it need not be kept any more, wherever they were. The changes to
    /// let through, that object first.
    fn endpoints_came(&mut self, list: &EndpointList) -> Vec<Change> {
        let of_namespace = |key: &EndpointListKey| key.api == list.key.api && key.namespace == list.key.namespace;
        let mut first = Change::Endpoints(list.clone());
        let mut others = Vec::new();
        self.objects.retain(|key, kept| {
            let (ObjectKey::Endpoints(key), Kept::Endpoints(kept)) = (key, kept) else { return true };
            if !of_namespace(key) {
                return true;
            }
            let fewer = kept.found_in(list);
            let stays = !kept.subsets.is_empty();
            if *key == list.key {
                kept.after = Some(list.clone());
                let stays = stays && kept.service == list.service;
                if stays {
                    first = kept.with_kept(key);
                }
                return stays;
            }
            if fewer {
                others.push(if stays { kept.with_kept(key) } else { kept.clone().without_kept(key.clone()) });
            }
            stays
        });
        std::iter::once(first).chain(others).collect()
    }
}

#[cfg(test)]
mod tests;

//! What LBEX is to believe of what the source says: contract section 8's hold stated anew, object by object and endpoint by endpoint,
//! so that whatever the hold lets through can be compared with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use lbex_core::hold::Inventory;
use lbex_core::names::ServiceKey;
use lbex_core::snapshot::{Change, Snapshot};

use super::objects::{Id, Objects, Part, World, asked, is_of, parts, single};
use crate::engine::removals::Saw;
use crate::publish::ObjectKind;

/// Fewer are never held.
const FEW: usize = 10;

/// What may be in doubt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Object(Id),
    Endpoint(ServiceKey, IpAddr),
}

impl Item {
    fn is_of(&self, part: &Part) -> bool {
        let (kind, namespace) = match self {
            Self::Object(Id::Service(key)) => (ObjectKind::Service, Some(key.namespace.as_str())),
            Self::Object(Id::Endpoints(key)) => (ObjectKind::Endpoints, Some(&*key.namespace)),
            Self::Endpoint(key, _) => (ObjectKind::Endpoints, Some(key.namespace.as_str())),
            Self::Object(Id::Node(_)) => (ObjectKind::Node, None),
        };
        kind == part.0 && namespace == part.1.as_deref()
    }
}

/// Items, and the objects that they are.
type Items = BTreeMap<Item, Option<Arc<Change>>>;

/// What a list lacked, and since when.
#[derive(Debug)]
struct Doubt {
    since: u64,
    items: Items,
}

/// Another cluster than the known one.
#[derive(Debug)]
struct Other {
    uid: Arc<str>,
    until: u64,
    told: World,
    listed: BTreeSet<Part>,
}

/// What was known before a restart.
#[derive(Debug, Default)]
enum Start {
    Waiting(Inventory),
    Doubted(Inventory, BTreeMap<ObjectKind, u64>),
    #[default]
    Done,
}

/// What one LBEX is to believe.
#[derive(Debug, Default)]
pub(super) struct Belief {
    /// For how long removals are held, in ms; `None`: never.
    limit: Option<u64>,
    /// What the source has said of the known cluster.
    pub(super) told: World,
    /// What was let through.
    pub(super) believed: World,
    pub(super) snapshot: Snapshot,
    doubts: BTreeMap<Part, Doubt>,
    /// The lists that are believed, and whose they are.
    listed: BTreeMap<Part, Option<Arc<str>>>,
    known: Option<Arc<str>>,
    speaker: Option<Arc<str>>,
    other: Option<Other>,
    start: Start,
    complete: bool,
}

impl Belief {
    pub(super) fn new(limit: Option<u64>, known: Option<Arc<str>>, inventory: Option<Inventory>) -> Self {
        let start = inventory.filter(|_| limit.is_some()).map(Start::Waiting).unwrap_or_default();
        Self { limit, known, start, ..Self::default() }
    }

    /// Whether anything may be planned from it.
    pub(super) fn may_plan(&self) -> bool {
        self.complete && matches!(self.start, Start::Done) && !self.hides()
    }

    /// Whether nothing is in doubt.
    pub(super) fn is_sure(&self) -> bool {
        self.may_plan() && self.doubts.is_empty() && self.other.is_none()
    }

    /// Of which kinds something is in doubt, and whether another cluster answers.
    pub(super) fn doubted(&self) -> ([(ObjectKind, bool); 3], bool) {
        let at_start = |kind| matches!(&self.start, Start::Doubted(_, kinds) if kinds.contains_key(&kind));
        let listed = |kind| self.doubts.keys().any(|part| part.0 == kind);
        (ObjectKind::ALL.map(|kind| (kind, at_start(kind) || listed(kind))), self.other.is_some())
    }

    /// LBEX sees something, and lets `passed` through. The parts that the source told of the known cluster; an error where something
    /// else should be believed.
    pub(super) fn saw(&mut self, now: u64, saw: &Saw, passed: &[Change]) -> Result<Vec<Part>, String> {
        let mut told = Vec::new();
        let before = self.doubts.len();
        let adopted = match saw {
            Saw::Cluster(uid) => {
                self.speaks(uid.clone());
                false
            }
            Saw::Said(change) => {
                told = self.said(change, now);
                false
            }
            Saw::Complete => {
                self.complete = true;
                self.look_at_start(now);
                false
            }
            Saw::Tick => self.tick(now),
            Saw::Released => self.released(),
        };
        let mut touched: BTreeSet<Part> = told.iter().cloned().collect();
        for change in passed {
            touched.extend(self.believed.apply(change));
            self.snapshot.apply(change.clone());
        }
        if adopted || before != self.doubts.len() {
            touched.extend(parts());
        }
        touched.iter().try_for_each(|part| self.check(part))?;
        Ok(told)
    }

    /// What is believed of a part is what the source has said, and what is in doubt.
    fn check(&self, part: &Part) -> Result<(), String> {
        let nothing = Objects::new();
        let told = self.told.parts.get(part).unwrap_or(&nothing);
        let believed = self.believed.parts.get(part).unwrap_or(&nothing);
        let doubted: Items = self
            .doubts
            .values()
            .flat_map(|doubt| &doubt.items)
            .filter(|(item, _)| item.is_of(part))
            .map(|(item, object)| (item.clone(), object.clone()))
            .collect();
        let right = if part.0 == ObjectKind::Endpoints && !doubted.is_empty() {
            let mut wanted = items(told.values());
            wanted.extend(doubted);
            wanted.keys().eq(items(believed.values()).keys())
        } else {
            let mut wanted = told.clone();
            wanted.extend(doubted.into_iter().filter_map(|(item, object)| match item {
                Item::Object(id) => Some((id, object?)),
                Item::Endpoint(..) => None,
            }));
            wanted == *believed
        };
        if right {
            return Ok(());
        }
        let held = self.doubts.values().map(|doubt| (doubt.since, doubt.items.keys().collect::<Vec<_>>()));
        Err(format!(
            "of {part:?} the source says {:?}, in doubt since are {:?}, and this is believed: {:?}",
            items(told.values()).keys(),
            held.collect::<Vec<_>>(),
            items(believed.values()).keys()
        ))
    }

    fn hides(&self) -> bool {
        self.other.as_ref().is_some_and(|other| other.listed.iter().any(|list| !self.listed.contains_key(list)))
    }

    fn speaks(&mut self, uid: Option<Arc<str>>) {
        if self.known.is_none() || self.limit.is_none() {
            self.listed.values_mut().filter(|of| of.is_none()).for_each(|of| of.clone_from(&uid));
            self.known = uid.clone().or(self.known.take());
        }
        self.speaker = uid;
    }

    /// The parts that are followed, and that this is about.
    fn said(&mut self, change: &Change, now: u64) -> Vec<Part> {
        let list = asked(change);
        let stranger = self.speaker.clone().filter(|speaker| self.known.as_ref().is_some_and(|known| known != speaker));
        if let (Some(uid), Some(limit)) = (stranger, self.limit) {
            if self.goes_on(&uid, change) {
                return self.told_singly(change);
            }
            let new =
                || Other { uid: uid.clone(), until: now + limit, told: World::default(), listed: BTreeSet::new() };
            let other = self.other.take().filter(|other| other.uid == uid).unwrap_or_else(new);
            let other = self.other.insert(other);
            other.told.apply(change);
            other.listed.extend(list);
            return Vec::new();
        }
        let Some(list) = list else { return self.told_singly(change) };
        // Whoever listed the other before is back.
        if let Some(other) = &mut self.other {
            other.listed.remove(&list);
        }
        self.other.take_if(|other| other.listed.is_empty());
        self.listed(&list, change, now)
    }

    /// Whether a watch says it whose list is believed, and is of this cluster.
    fn goes_on(&self, uid: &Arc<str>, change: &Change) -> bool {
        let Some((part, ..)) = single(change) else { return false };
        let believed = self.listed.iter().any(|(list, of)| of.as_ref() == Some(uid) && is_of(&part, list));
        let waits = |other: &Other| other.uid == *uid && other.listed.iter().any(|list| is_of(&part, list));
        believed && !self.other.as_ref().is_some_and(waits)
    }

    fn listed(&mut self, list: &Part, change: &Change, now: u64) -> Vec<Part> {
        let told = self.told.apply(change);
        let again = self.listed.insert(list.clone(), self.known.clone()).is_some_and(|of| of == self.known);
        let before = self.doubts.remove(list);
        if self.limit.is_none() || !again {
            return told;
        }
        let mut lacking = items(self.believed.of(list));
        let known = lacking.len();
        let there = items(self.told.of(list));
        lacking.retain(|item, _| !there.contains_key(item));
        if known >= FEW && lacking.len() * 2 > known {
            let since = before.map_or(now, |before| before.since);
            self.doubts.insert(list.clone(), Doubt { since, items: lacking });
        }
        told
    }

    /// What a watch says of an object is no longer in doubt.
    fn told_singly(&mut self, change: &Change) -> Vec<Part> {
        if let Some((part, id, there)) = single(change).filter(|_| !self.doubts.is_empty()) {
            let before = self.believed.parts.get(&part).and_then(|objects| objects.get(&id));
            let mut clear = if there { items([&Arc::new(change.clone())]) } else { items(before) };
            clear.insert(Item::Object(id), None);
            self.doubts.values_mut().for_each(|doubt| doubt.items.retain(|item, _| !clear.contains_key(item)));
            self.doubts.retain(|_, doubt| !doubt.items.is_empty());
        }
        self.told.apply(change)
    }

    /// Answers whether another cluster is taken in.
    fn tick(&mut self, now: u64) -> bool {
        let Some(limit) = self.limit else { return false };
        self.look_at_start(now);
        if let Start::Doubted(inventory, doubts) = &mut self.start {
            doubts.retain(|kind, since| lacks(inventory, *kind, &self.snapshot) && now < *since + limit);
            if doubts.is_empty() {
                self.start = Start::Done;
            }
        }
        let adopted = self.other.as_ref().is_some_and(|other| now >= other.until) && self.adopt();
        self.doubts.retain(|_, doubt| now < doubt.since + limit);
        adopted
    }

    fn released(&mut self) -> bool {
        if matches!(self.start, Start::Doubted(..)) {
            self.start = Start::Done;
        }
        let adopted = self.adopt();
        self.doubts.clear();
        adopted
    }

    fn adopt(&mut self) -> bool {
        let Some(other) = self.other.take_if(|other| {
            if other.listed.is_empty() {
                // As soon as one is.
                other.until = 0;
            }
            !other.listed.is_empty()
        }) else {
            return false;
        };
        for part in parts().iter().filter(|part| other.listed.iter().any(|list| is_of(part, list))) {
            let objects = other.told.parts.get(part).cloned().unwrap_or_default();
            self.told.parts.insert(part.clone(), objects);
        }
        self.doubts.retain(|list, _| !other.listed.contains(list));
        (self.known, self.start) = (Some(other.uid), Start::Done);
        self.listed.extend(other.listed.into_iter().map(|list| (list, self.known.clone())));
        true
    }

    fn look_at_start(&mut self, now: u64) {
        if self.limit.is_none() || !self.complete || self.hides() {
            return;
        }
        let Start::Waiting(inventory) = &mut self.start else { return };
        let inventory = std::mem::take(inventory);
        let lacking = ObjectKind::ALL.into_iter().filter(|kind| lacks(&inventory, *kind, &self.snapshot));
        let doubts: BTreeMap<_, _> = lacking.map(|kind| (kind, now)).collect();
        self.start = if doubts.is_empty() { Start::Done } else { Start::Doubted(inventory, doubts) };
    }
}

fn items<'a>(objects: impl IntoIterator<Item = &'a Arc<Change>>) -> Items {
    let of_object = |change: &'a Arc<Change>| match (&**change, single(change)) {
        (Change::Endpoints(list), _) => {
            let endpoints = list.subsets.iter().flat_map(|subset| &subset.endpoints);
            endpoints.map(|endpoint| (Item::Endpoint(list.service.clone(), endpoint.address), None)).collect()
        }
        (_, Some((_, id, _))) => vec![(Item::Object(id), Some(change.clone()))],
        _ => Vec::new(),
    };
    objects.into_iter().flat_map(of_object).collect()
}

/// Whether most of what was known of a kind before a restart is missing.
fn lacks(inventory: &Inventory, kind: ObjectKind, cluster: &Snapshot) -> bool {
    let endpoints = cluster.endpoint_lists().flat_map(|(_, _, subsets)| subsets).map(|subset| subset.endpoints.len());
    let (known, lacking) = match kind {
        ObjectKind::Service => {
            (inventory.services.len(), inventory.services.iter().filter(|key| cluster.service(key).is_none()).count())
        }
        ObjectKind::Node => {
            (inventory.nodes.len(), inventory.nodes.iter().filter(|name| cluster.node(name).is_none()).count())
        }
        ObjectKind::Endpoints => (inventory.endpoints, inventory.endpoints.saturating_sub(endpoints.sum())),
    };
    known >= FEW && lacking * 2 > known
}

//! The planner: takes changes of the cluster in, and brings the desired state up to date at a cost in proportion to the Services
//! that they touch (design invariant 2). [`crate::oracle`] is what it must agree with.

mod depends;
mod loops;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::desired::{Delta, DesiredState, ServiceChange};
use crate::names::ServiceKey;
use crate::ports::{Claim, Front, PortKey, PortTable};
use crate::rejection::{Effect, Rejection};
use crate::service::{Candidate, Evaluation, assemble, evaluate, is_own};
use crate::snapshot::{Change, Snapshot};
use depends::Dependents;
use loops::Loops;

pub use crate::service::Rules;

/// What a round of planning changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanOutcome {
    /// What changed of the desired state; may be empty.
    pub delta: Delta,
    /// Services whose rejections changed, with all that they have now (none: all is well, or the Service is gone).
    pub rejections: BTreeMap<ServiceKey, Arc<[Rejection]>>,
}

/// Where a Service stands with this instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does not ask for LBEX, or is not there.
    NotAsking,
    /// It asks, and no port of it is served; its rejections say why.
    NotServed,
    /// Some of its ports are served; its rejections name those that are not.
    PartlyServed,
    /// It is served.
    Served,
}

/// Plans incrementally. One task owns it (design invariant 4).
pub struct Planner {
    rules: Rules,
    cluster: Snapshot,
    entries: BTreeMap<ServiceKey, Evaluation>,
    ports: PortTable,
    dependents: Dependents,
    loops: Loops,
    dirty: BTreeSet<ServiceKey>,
    desired: DesiredState,
    rejections: BTreeMap<ServiceKey, Arc<[Rejection]>>,
}

impl Planner {
    /// A planner of an empty cluster.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            cluster: Snapshot::default(),
            entries: BTreeMap::new(),
            ports: PortTable::default(),
            dependents: Dependents::default(),
            loops: Loops::default(),
            dirty: BTreeSet::new(),
            desired: DesiredState::default(),
            rejections: BTreeMap::new(),
        }
    }

    /// Takes one change in; [`Planner::plan`] acts on it.
    pub fn ingest(&mut self, change: Change) {
        let touched = self.cluster.apply(change);
        self.dirty.extend(touched.services);
        let reads_endpoints = |key: &ServiceKey| self.entries.get(key).is_some_and(|e| e.inputs.endpoints);
        self.dirty.extend(touched.endpoints.into_iter().filter(reads_endpoints));
        for node in &touched.nodes {
            self.dirty.extend(self.dependents.of_node(node).cloned());
        }
        if !touched.host.is_empty() {
            let on_host = |(_, entry): &(&ServiceKey, &Evaluation)| entry.has_server(&touched.host);
            self.dirty.extend(self.entries.iter().filter(on_host).map(|(key, _)| key.clone()));
        }
    }

    /// Whether a change since the last [`Planner::plan`] may matter.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Brings the desired state up to date with all changes taken in, and says what changed of it. Total: never fails.
    pub fn plan(&mut self) -> PlanOutcome {
        let dirty = std::mem::take(&mut self.dirty);
        let mut fronts = BTreeMap::new();
        for key in &dirty {
            self.evaluate_again(key, &mut fronts);
        }
        let mut affected = dirty;
        self.affected_by_ports(&fronts, &mut affected);
        let mut outcome = PlanOutcome::default();
        for key in affected {
            self.publish(key, &mut outcome);
        }
        outcome.delta.from = self.desired.generation;
        outcome.delta.to = self.desired.generation + u64::from(!outcome.delta.is_empty());
        self.desired.advance(&outcome.delta);
        outcome
    }

    /// The cluster as taken in so far.
    pub fn cluster(&self) -> &Snapshot {
        &self.cluster
    }

    /// The desired state as last planned.
    pub fn desired(&self) -> &DesiredState {
        &self.desired
    }

    /// All rejections as last planned; Services without any are not in it.
    pub fn rejections(&self) -> &BTreeMap<ServiceKey, Arc<[Rejection]>> {
        &self.rejections
    }

    /// Services that ask for LBEX, as last planned.
    pub fn asking(&self) -> impl ExactSizeIterator<Item = &ServiceKey> {
        self.entries.keys()
    }

    /// Where a Service stands, as last planned.
    pub fn status(&self, key: &ServiceKey) -> Status {
        let rejections = self.rejections.get(key).map_or(&[][..], |r| r);
        match (self.entries.contains_key(key), self.desired.services.contains_key(key)) {
            (false, _) => Status::NotAsking,
            (true, false) => Status::NotServed,
            (true, true) if rejections.iter().any(|r| r.effect() == Effect::NotServed) => Status::PartlyServed,
            (true, true) => Status::Served,
        }
    }

    /// Evaluates a Service and moves its claims; `fronts` keeps who stood first for each port that was moved.
    fn evaluate_again(&mut self, key: &ServiceKey, fronts: &mut BTreeMap<PortKey, Front>) {
        let service = self.cluster.service(key);
        let new = service.map(|s| evaluate(&self.rules, &self.cluster, s)).unwrap_or_default();
        self.dependents.set(key, new.inputs.nodes, &self.cluster);
        let new_claims = claims(key, &new);
        let old = if new.asks { self.entries.insert(key.clone(), new) } else { self.entries.remove(key) };
        self.loops.changed(key, old.as_ref(), self.entries.get(key));
        let old_claims = old.map(|old| claims(key, &old)).unwrap_or_default();
        for (port, claim) in old_claims.difference(&new_claims) {
            fronts.entry(*port).or_insert_with(|| self.ports.front(*port));
            self.ports.remove(*port, claim);
        }
        for (port, claim) in new_claims.difference(&old_claims) {
            fronts.entry(*port).or_insert_with(|| self.ports.front(*port));
            self.ports.insert(*port, claim.clone());
        }
    }

    /// A new holder concerns all who claim the port, a new next in line the holder; a port that is claimed now and was not, or the
    /// other way round, those who have servers there.
    fn affected_by_ports(&self, fronts: &BTreeMap<PortKey, Front>, affected: &mut BTreeSet<ServiceKey>) {
        for (port, [held, waited]) in fronts {
            let [holds, waits] = self.ports.front(*port);
            if held.is_some() != holds.is_some() {
                affected.extend(self.loops.of_port(*port).cloned());
            }
            if *held != holds {
                affected.extend(self.ports.claimants(*port).cloned());
            } else if *waited != waits {
                affected.extend(holds.map(|claim| claim.service));
            }
        }
    }

    /// Compares what a Service comes to now with what it last came to.
    fn publish(&mut self, key: ServiceKey, outcome: &mut PlanOutcome) {
        let nothing = Evaluation::default();
        let entry = self.entries.get(&key).unwrap_or(&nothing);
        let standing = |c: &Candidate| {
            self.ports.standing((c.listener.protocol, c.listener.port), &Claim::new(entry.created, &key, c.index))
        };
        let is_own = is_own(&self.rules.settings, |port| self.ports.is_claimed(port));
        let (config, rejections) = assemble(&key, entry, standing, is_own);
        let before = self.desired.services.get(&key).cloned();
        if let Some(change) = ServiceChange::between(before, config.map(Arc::new)) {
            outcome.delta.changes.insert(key.clone(), change);
        }
        let told = self.rejections.get(&key).map_or(&[][..], |r| r);
        if told != rejections {
            let rejections: Arc<[Rejection]> = rejections.into();
            if rejections.is_empty() {
                self.rejections.remove(&key);
            } else {
                self.rejections.insert(key.clone(), rejections.clone());
            }
            outcome.rejections.insert(key, rejections);
        }
    }
}

fn claims(key: &ServiceKey, evaluation: &Evaluation) -> BTreeSet<(PortKey, Claim)> {
    let claim = |c: &Candidate| {
        let port = (c.listener.protocol, c.listener.port);
        (port, Claim::new(evaluation.created, key, c.index))
    };
    evaluation.candidates.iter().map(claim).collect()
}

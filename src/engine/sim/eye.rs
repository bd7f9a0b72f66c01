//! What must hold after every step (contract section 8, and the design's invariants).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lbex_core::desired::{Delta, DesiredState, ServiceConfig};
use lbex_core::names::ServiceKey;
use lbex_core::oracle;
use lbex_core::snapshot::Change;

use super::belief::Belief;
use super::objects::{Part, asked, is_of, parts};
use super::proxy::{Served, in_words, with_servers};
use super::state::State;
use crate::engine::removals::Saw;
use crate::publish::ObjectKind;
use crate::source::SourceEvent;
use crate::state::Remembered;

/// Within how many ms what failed is tried again.
const AGAIN: u64 = 30_000;
/// How much later than it should a call may come, in ms: a look at the proxy may take that long.
const GRACE: u64 = 2_500;

/// What is to be served, by the plan from scratch of what the source has said.
pub(super) struct Plan {
    services: BTreeMap<ServiceKey, Arc<ServiceConfig>>,
    /// The versions that the parts had at the least.
    versions: BTreeMap<Part, usize>,
    /// Whether what it is of was never so: a list lied, and was believed.
    fooled: bool,
}

/// What it keeps in mind.
#[derive(Default)]
pub(super) struct Eye {
    /// The first invariant that was found broken.
    pub(super) broken: Option<String>,
    /// Since when nothing goes wrong and nothing changes.
    pub(super) calm_since: Option<u64>,
    /// For how long it stays so before the end, once that is known.
    pub(super) quiet: Option<u64>,
    /// What this LBEX is to believe.
    pub(super) belief: Belief,
    versions: BTreeMap<Part, usize>,
    /// The newest that any LBEX was told of.
    newest: BTreeMap<Part, usize>,
    /// The parts that the source has listed, and those whose lists lie.
    listed: BTreeSet<Part>,
    lying: BTreeSet<Part>,
    /// The plans of all that any LBEX was to believe, and the last that differs for each Service from the one before.
    plans: Vec<Plan>,
    changed: BTreeMap<ServiceKey, usize>,
    /// The first plan of this LBEX, and the one that it has got to.
    first: usize,
    reached: usize,
}

impl State {
    /// Another LBEX begins.
    pub(super) fn eye_begins(&mut self, remembered: &Remembered) {
        let Remembered { cluster, inventory } = remembered.clone();
        let eye = &mut self.eye;
        eye.belief = Belief::new(self.setup.hold, cluster.map(Into::into), inventory);
        (eye.versions, eye.listed, eye.lying) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        (eye.first, eye.reached) = (eye.plans.len(), eye.plans.len());
    }

    /// Whether nothing but the last good state was handed over.
    pub(super) fn only_resumed(&self) -> bool {
        self.eye.plans.len() == self.eye.first && !self.life.plans.is_empty()
    }

    /// A list that comes lies, or does not.
    pub(super) fn lies(&mut self, asked: &Part, lies: bool) {
        for part in parts().into_iter().filter(|part| is_of(part, asked)) {
            if lies {
                self.eye.lying.insert(part)
            } else {
                self.eye.lying.remove(&part)
            };
        }
    }

    /// The source says something.
    pub(super) fn told(&mut self, event: &SourceEvent) {
        match event {
            SourceEvent::Changes(changes) => {
                let lists = changes.iter().filter_map(asked);
                self.eye
                    .listed
                    .extend(lists.flat_map(|list| parts().into_iter().filter(move |part| is_of(part, &list))));
            }
            SourceEvent::Synced if self.eye.listed.len() < parts().len() => {
                self.fail("the first lists are called complete and are not".to_owned());
            }
            _ => {}
        }
    }

    /// LBEX sees what the source has said, and lets `passed` through.
    pub(super) fn saw(&mut self, saw: &Saw, passed: &[Change]) {
        let now = self.now();
        if matches!(saw, Saw::Released) {
            self.life.released_by = None;
        }
        match self.eye.belief.saw(now, saw, passed) {
            Ok(told) => told.iter().for_each(|part| self.check_told(part)),
            Err(what) => self.fail(what),
        }
    }

    /// What is said of a part must be what it was at some time, and not go back.
    fn check_told(&mut self, part: &Part) {
        if self.eye.lying.contains(part) {
            return;
        }
        let known = self.eye.versions.get(part).copied().unwrap_or_default();
        let objects = self.eye.belief.told.parts.get(part).cloned().unwrap_or_default();
        let Some(version) = self.cluster.when(part, &objects, known) else {
            return self.fail(format!("the source says what never was of {part:?}: {:?}", objects.keys()));
        };
        self.eye.versions.insert(part.clone(), version);
        let newest = self.eye.newest.entry(part.clone()).or_default();
        *newest = version.max(*newest);
    }

    /// The plan of what is believed now.
    fn plan(&mut self) {
        let services = oracle::plan(&self.rules, &self.eye.belief.snapshot).services;
        // What is believed of Services was not so since what is known of them.
        let fooled = self.eye.belief.believed.parts.iter().any(|(part, objects)| {
            let known = self.eye.newest.get(part).copied().unwrap_or_default();
            part.0 == ObjectKind::Service && self.cluster.when(part, objects, known).is_none()
        });
        let eye = &mut self.eye;
        let nothing = BTreeMap::new();
        let before = eye.plans.last().map_or(&nothing, |plan| &plan.services);
        let keys = before.keys().chain(services.keys());
        let differing: Vec<_> = keys.filter(|key| before.get(*key) != services.get(*key)).cloned().collect();
        let number = eye.plans.len();
        eye.changed.extend(differing.into_iter().map(|key| (key, number)));
        eye.plans.push(Plan { services, versions: eye.versions.clone(), fooled });
    }

    /// The driver takes a delta.
    pub(super) fn check_delta(&mut self, delta: &Delta) {
        if delta.from != self.life.fold.generation {
            let (from, generation) = (delta.from, self.life.fold.generation);
            return self.fail(format!("a delta begins at generation {from}, and the last one led to {generation}"));
        }
        self.life.fold.advance(delta);
        for (key, change) in &delta.changes {
            self.life.history.entry(key.clone()).or_default().push((delta.to, change.after().cloned()));
        }
        let plan = self.find_plan();
        self.life.plans.push((delta.to, plan));
        self.note(|| format!("generation {}: {:?}", delta.to, delta.changes.keys()));
    }

    /// Which plan the newest desired state is.
    fn find_plan(&mut self) -> usize {
        if self.eye.belief.may_plan() {
            self.plan();
            self.eye.reached = self.eye.plans.len() - 1;
            if self.eye.plans[self.eye.reached].services == self.life.fold.services {
                return self.eye.reached;
            }
        }
        let fold = &self.life.fold.services;
        let saved = self.life.saved.as_ref().filter(|(saved, _)| saved.services == *fold);
        if let Some((_, plan)) = saved.filter(|_| self.life.plans.is_empty()) {
            let plan = *plan;
            if !self.life.seen_dead {
                self.fail("the last good state is applied although the proxy serves".to_owned());
            }
            return plan;
        }
        let shown: Vec<_> = fold.iter().map(|(key, config)| format!("{key} {}", in_words(config))).collect();
        self.fail(format!("this is no plan of what is to be believed: {}", shown.join("; ")));
        self.eye.reached
    }

    /// An apply begins.
    pub(super) fn check_apply(&mut self, desired: &DesiredState, delta: &Delta) {
        let now = self.now();
        self.note(|| format!("an apply of generation {} begins, from {}", desired.generation, delta.from));
        if self.life.applying.is_some() {
            self.fail("two applies at a time".to_owned());
        }
        if self.life.plans.is_empty() {
            self.fail("something is applied and nothing was handed over".to_owned());
        }
        if *desired != self.life.fold {
            self.fail(format!("generation {} is applied, which is not the newest", desired.generation));
        }
        self.check_contents(desired, delta);
        if let Some(last) = self.life.last_reload {
            let right = self.life.seen_wrong.is_some_and(|at| at + GRACE >= last);
            if now < last + self.setup.interval && !right {
                self.fail(format!("an apply begins {} ms after the last", now - last));
            }
        }
        self.check_owed();
        self.life.owed.clear();
        self.life.applying = Some(now);
        self.life.applies_last_good = self.only_resumed();
    }

    /// The delta has to lead from what was last applied, with what was pushed since, to what is desired.
    fn check_contents(&mut self, desired: &DesiredState, delta: &Delta) {
        let applied = &self.life.applied;
        let from = (delta.from == applied.generation).then_some(());
        let mut expected = applied.services.clone();
        // What was pushed need not be in it, whatever became of it since.
        let newer = self.life.pushed.iter().filter(|(_, pushed)| pushed.order.1 > applied.generation);
        for (key, _) in newer {
            match desired.services.get(key) {
                Some(config) => expected.insert(key.clone(), config.clone()),
                None => expected.remove(key),
            };
        }
        for (key, change) in &delta.changes {
            match change.after() {
                Some(after) => expected.insert(key.clone(), after.clone()),
                None => expected.remove(key),
            };
        }
        if from.is_none() || expected != desired.services {
            self.fail(format!(
                "the delta from generation {} (last applied: {}) does not lead to generation {}",
                delta.from, applied.generation, desired.generation
            ));
        }
    }

    /// An apply ended; answers when it began.
    pub(super) fn apply_ended(&mut self) -> Option<u64> {
        let until = self.now() + AGAIN + GRACE;
        self.life.owed.values_mut().for_each(|owed| *owed = until);
        self.life.applying.take()
    }

    /// Another apply has to begin.
    pub(super) fn owe(&mut self, why: &'static str) {
        let until = self.now() + AGAIN + GRACE;
        self.life.owed.entry(why).or_insert(until);
    }

    pub(super) fn check_owed(&mut self) {
        let now = self.now();
        if self.life.released_by.is_some_and(|until| until < now) {
            self.fail("the operator lets everything go, and LBEX does not hear it".to_owned());
        }
        let late = self.life.owed.iter().find(|(_, until)| **until < now && self.life.applying.is_none());
        if let Some((why, _)) = late {
            let why = *why;
            self.fail(format!("{why}, and nothing was applied for {} s", AGAIN / 1000));
        }
    }

    /// A Service that is served gets another configuration, or none.
    pub(super) fn check_touch(&mut self, key: &ServiceKey, old: &Served, new: Option<&Served>, refused: bool) {
        if new.is_some_and(|new| new.config == old.config) {
            return;
        }
        let text = |served: Option<&Served>| served.map_or("nothing".to_owned(), |served| in_words(&served.config));
        let (was, is) = (in_words(&old.config), text(new));
        if new.is_some_and(|new| new.order < old.order) {
            self.fail(format!("{key} is served as it was before: {was}, then {is}"));
        }
        if self.eye.changed.get(key).is_none_or(|changed| *changed <= old.plan) {
            self.fail(format!("{key} did not change and is touched: {was}, then {is}"));
        }
        if new.is_none() && !refused && !self.eye.plans[old.plan..].iter().any(|plan| plan.fooled) {
            let versions = self.eye.plans.get(old.plan).map(|plan| plan.versions.clone()).unwrap_or_default();
            let has_it = |cluster| oracle::plan(&self.rules, &cluster).services.contains_key(key);
            if self.cluster.with_services_since(&versions).all(has_it) {
                self.fail(format!("{key} is removed and was there all the time"));
            }
        }
    }

    /// A state is saved: of each Service what was handed over and is served, or something newer is. The oldest plan that it has
    /// anything of.
    pub(super) fn check_saved(&mut self, saved: &DesiredState) -> usize {
        let keys: BTreeSet<ServiceKey> = self.life.history.keys().chain(saved.services.keys()).cloned().collect();
        let mut plan = usize::MAX;
        for key in keys {
            let then = saved.services.get(&key);
            let history = self.life.history.get(&key).map_or(&[][..], Vec::as_slice);
            let since = history.iter().position(|(_, config)| then.is_some() && config.as_ref() == then);
            if since.is_none() && then.is_some() {
                self.fail(format!("{key} is saved as it never was"));
                continue;
            }
            plan = plan.min(self.life.plan_of(since.map_or(0, |since| history[since].0)));
            if !(self.proxy.harmed || self.life.refused.contains(&key) || self.serves_since(&key, since)) {
                let text = |config: Option<&Arc<ServiceConfig>>| config.map_or("nothing".to_owned(), |c| in_words(c));
                let (saved, served) = (text(then), text(self.proxy.served.get(&key).map(|served| &served.config)));
                self.fail(format!("{key} is saved as {saved}, and is served as {served}"));
            }
        }
        if plan == usize::MAX { self.life.plan_of(saved.generation) } else { plan }
    }

    /// Whether a Service is served as in this or a later entry of its history; its servers may be newer than the rest. `None`: it is
    /// not there before all entries.
    fn serves_since(&self, key: &ServiceKey, since: Option<usize>) -> bool {
        let served = self.proxy.served.get(key);
        if since.is_none() && served.is_none() {
            return true;
        }
        let history = self.life.history.get(key).map_or(&[][..], Vec::as_slice);
        history[since.unwrap_or(0)..].iter().any(|(since, config)| match (config, served) {
            (Some(config), Some(served)) => {
                served.order >= (self.life.number, *since) && with_servers(config, &served.config) == served.config
            }
            (None, None) => true,
            _ => false,
        })
    }

    /// Everything has been quiet for long enough.
    pub(super) fn check_end(&mut self) {
        self.check_owed();
        if !self.eye.belief.is_sure() {
            self.fail("in the end something is still in doubt".to_owned());
        }
        let plan = oracle::plan(&self.rules, &self.cluster.snapshot()).services;
        let wanted = DesiredState { generation: 0, services: plan.clone() };
        let refused = self.refusals(&wanted);
        for (key, config) in &plan {
            let served = self.proxy.served.get(key).map(|served| &served.config);
            if served != Some(config) && !refused.contains_key(key) {
                let is = served.map_or("nothing".to_owned(), |served| in_words(served));
                self.fail(format!("in the end {key} is not served as {}, but {is}", in_words(config)));
            }
        }
        let rest: Vec<_> = self.proxy.served.keys().filter(|key| !plan.contains_key(*key)).cloned().collect();
        if !rest.is_empty() {
            self.fail(format!("in the end {rest:?} are served, and should not be"));
        }
        if !self.proxy.alive {
            self.fail("in the end the proxy is dead".to_owned());
        }
        let saved = self.disk.saved.as_ref().map(|(saved, _)| saved.desired.services.clone());
        let keys: Vec<_> = plan.keys().chain(saved.iter().flatten().map(|(key, _)| key)).cloned().collect();
        for key in keys {
            if saved.as_ref().and_then(|saved| saved.get(&key)) != plan.get(&key) {
                self.fail(format!("in the end {key} is not saved as it should be served"));
            }
        }
    }
}

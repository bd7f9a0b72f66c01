//! What the data plane confirmed, Service by Service: applies confirm everything up to a generation, pushes confirm servers of single
//! Services, and neither waits for the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use lbex_core::desired::{Delta, DesiredState, ServiceChange, ServiceConfig};
use lbex_core::names::ServiceKey;

/// How many changes of one Service may wait to be confirmed one by one; beyond, two are joined.
const WAITING_CHANGES: usize = 8;

/// What is known to be good, and what waits to be confirmed.
#[derive(Debug, Default)]
pub(super) struct Known {
    confirmed: DesiredState,
    waiting: BTreeMap<ServiceKey, Vec<Waiting>>,
    /// Grows with each change of what is confirmed; 0 before the first confirmation.
    revision: u64,
}

/// A change that was handed over.
#[derive(Debug)]
struct Waiting {
    generation: u64,
    after: Option<Arc<ServiceConfig>>,
    /// Whether a push may confirm it.
    servers_only: bool,
    /// Whether one has, as soon as what comes before it is confirmed.
    taken: bool,
}

impl Known {
    /// Begins with what an earlier LBEX saved.
    pub(super) fn resumed(&mut self, state: &DesiredState) {
        self.confirmed = state.clone();
        self.revision = 1;
    }

    /// This delta is on its way to the proxy.
    pub(super) fn submitted(&mut self, delta: &Delta) {
        for (key, change) in &delta.changes {
            let (after, servers_only) = (change.after().cloned(), change.servers_only());
            let new = Waiting { generation: delta.to, after, servers_only, taken: false };
            wait(self.waiting.entry(key.clone()).or_default(), new);
        }
    }

    /// Everything up to this generation is confirmed.
    pub(super) fn applied(&mut self, generation: u64) {
        let mut changed = self.revision == 0;
        let confirmed = &mut self.confirmed;
        self.waiting.retain(|key, waiting| {
            let done = waiting.partition_point(|change| change.generation <= generation);
            let taken = waiting[done..].iter().take_while(|change| change.taken).count();
            if let Some(last) = waiting.drain(..done + taken).next_back() {
                changed |= set(confirmed, key, last.after);
            }
            !waiting.is_empty()
        });
        self.revision += u64::from(changed);
    }

    /// These changes of servers are confirmed. One that follows another kind of change of its Service
    /// counts when that is confirmed.
    pub(super) fn pushed(&mut self, pushed: &Delta) {
        for key in pushed.changes.keys() {
            let Some(waiting) = self.waiting.get_mut(key) else { continue };
            let done = waiting.partition_point(|change| change.generation <= pushed.to);
            if !waiting[..done].iter().all(|change| change.servers_only) {
                waiting[..done].iter_mut().for_each(|change| change.taken = change.servers_only);
                continue;
            }
            if let Some(last) = waiting.drain(..done).next_back() {
                self.revision += u64::from(set(&mut self.confirmed, key, last.after));
            }
            if waiting.is_empty() {
                self.waiting.remove(key);
            }
        }
    }

    /// The number of the state of now; 0: nothing was confirmed yet.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// What is confirmed. Costs as much as there are Services.
    pub(super) fn confirmed(&self) -> DesiredState {
        self.confirmed.clone()
    }
}

/// Adds a change, and joins two where too many wait: then what ends with the later one is confirmed with that. A change that a push
/// may confirm is not joined with one before it that only an apply confirms: there may never be another apply.
fn wait(waiting: &mut Vec<Waiting>, mut new: Waiting) {
    if waiting.len() >= WAITING_CHANGES
        && let Some(last) = waiting.pop()
    {
        if new.servers_only && !last.servers_only {
            // In place of the one before it.
            waiting.pop();
            waiting.push(last);
        } else {
            new.servers_only &= last.servers_only;
        }
    }
    waiting.push(new);
}

/// Whether that made a difference.
fn set(state: &mut DesiredState, key: &ServiceKey, after: Option<Arc<ServiceConfig>>) -> bool {
    let before = state.services.get(key).cloned();
    let differs = ServiceChange::between(before, after.clone()).is_some();
    match after {
        Some(after) => state.services.insert(key.clone(), after),
        None => state.services.remove(key),
    };
    differs
}

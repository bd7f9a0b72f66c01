//! The desired state as a plugin has it: what LBEX sent, put together.

use std::collections::BTreeMap;
use std::sync::Arc;

use lbex_plugin_abi::documents::{Delta, Desired, Service};

/// Everything that the proxy should serve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    pub(crate) revision: String,
    /// The Services, by `namespace/name`.
    pub services: BTreeMap<String, Arc<Service>>,
}

impl State {
    /// A state for an author's own tests.
    pub fn new(revision: &str, services: BTreeMap<String, Arc<Service>>) -> Self {
        Self { revision: revision.to_owned(), services }
    }

    /// What LBEX calls this state. Two states with one revision are the same.
    pub fn revision(&self) -> &str {
        &self.revision
    }
}

impl From<Desired> for State {
    fn from(desired: Desired) -> Self {
        Self { revision: desired.revision, services: desired.services }
    }
}

/// How a state differs from the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// Nobody says what the proxy had before: this is the first state, or LBEX has found the proxy to be out of step.
    All,
    /// These Services differ, by `namespace/name`. There may be none: then the proxy is to be looked at, and put right where it does not
    /// serve the state.
    Services(BTreeMap<String, Change>),
}

/// What happens to one Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it was; `None`: it was not there.
    pub before: Option<Arc<Service>>,
    /// What it becomes; `None`: it is gone.
    pub after: Option<Arc<Service>>,
}

impl State {
    /// Goes on to what `delta` leads to. What differs, and how to get back.
    pub(crate) fn advance(&mut self, delta: Delta) -> (Changes, Undo) {
        let mut changes = BTreeMap::new();
        for (name, after) in delta.services {
            let before = match &after {
                Some(after) => self.services.insert(name.clone(), after.clone()),
                None => self.services.remove(&name),
            };
            if before != after {
                changes.insert(name, Change { before, after });
            }
        }
        let undo = Undo(std::mem::replace(&mut self.revision, delta.revision));
        (Changes::Services(changes), undo)
    }

    /// Undoes an [`advance`](Self::advance).
    pub(crate) fn go_back(&mut self, changes: &Changes, undo: Undo) {
        let Changes::Services(all) = changes else { return };
        self.revision = undo.0;
        self.take_back(changes, all.keys());
    }

    /// Undoes some changes of an [`advance`](Self::advance), and keeps its revision.
    pub(crate) fn take_back<'a>(&mut self, changes: &Changes, names: impl Iterator<Item = &'a String>) {
        let Changes::Services(changes) = changes else { return };
        for (name, change) in names.filter_map(|name| Some((name, changes.get(name)?))) {
            match &change.before {
                Some(before) => self.services.insert(name.clone(), before.clone()),
                None => self.services.remove(name),
            };
        }
    }
}

/// The revision before.
pub(crate) struct Undo(String);

//! Which Services depend on which nodes, so that a node's change touches those and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::names::ServiceKey;
use crate::resolver::NodeInputs;
use crate::snapshot::Snapshot;

/// The index from nodes to Services.
#[derive(Debug, Default)]
pub(super) struct Dependents {
    on_all: BTreeSet<ServiceKey>,
    on_node: BTreeMap<Arc<str>, BTreeSet<ServiceKey>>,
    nodes: BTreeMap<ServiceKey, BTreeSet<Arc<str>>>,
}

impl Dependents {
    /// Services to plan again when `node` changes.
    pub(super) fn of_node(&self, node: &str) -> impl Iterator<Item = &ServiceKey> {
        self.on_all.iter().chain(self.on_node.get(node).into_iter().flatten())
    }

    /// Sets what a Service depends on; its endpoints are read from `cluster` where they decide.
    pub(super) fn set(&mut self, key: &ServiceKey, inputs: NodeInputs, cluster: &Snapshot) {
        if inputs == NodeInputs::All {
            self.on_all.insert(key.clone());
        } else {
            self.on_all.remove(key);
        }
        let of_endpoints = || cluster.endpoints(key).flat_map(|s| &s.endpoints).filter_map(|e| e.node.clone());
        let new: BTreeSet<_> =
            if inputs == NodeInputs::OfEndpoints { of_endpoints().collect() } else { BTreeSet::new() };
        let old = self.nodes.remove(key).unwrap_or_default();
        for node in old.difference(&new) {
            if let Some(services) = self.on_node.get_mut(node) {
                services.remove(key);
                if services.is_empty() {
                    self.on_node.remove(node);
                }
            }
        }
        for node in new.difference(&old) {
            self.on_node.entry(node.clone()).or_default().insert(key.clone());
        }
        if !new.is_empty() {
            self.nodes.insert(key.clone(), new);
        }
    }
}

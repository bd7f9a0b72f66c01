//! Objects of a cluster by kind and namespace, and what they were before.

use std::collections::BTreeMap;
use std::sync::Arc;

use lbex_core::model::{EndpointList, EndpointListKey, Service};
use lbex_core::names::ServiceKey;
use lbex_core::snapshot::Change;

use crate::publish::ObjectKind;

/// A kind, and of namespaced ones the namespace.
pub(super) type Part = (ObjectKind, Option<Arc<str>>);

/// Which object of a part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Id {
    Service(ServiceKey),
    Node(Arc<str>),
    Endpoints(EndpointListKey),
}

/// The objects of a part, each as the change that says so.
pub(super) type Objects = BTreeMap<Id, Arc<Change>>;

/// The namespaces that there are.
pub(super) const NAMESPACES: [&str; 2] = ["a", "b"];

/// All parts that there are.
pub(super) fn parts() -> Vec<Part> {
    let namespaced = NAMESPACES.iter().flat_map(|namespace| {
        [ObjectKind::Service, ObjectKind::Endpoints].map(|kind| (kind, Some(Arc::from(*namespace))))
    });
    namespaced.chain([(ObjectKind::Node, None)]).collect()
}

/// Whether a part is what was asked for: a kind, in one namespace or in all.
pub(super) fn is_of(part: &Part, asked: &Part) -> bool {
    part.0 == asked.0 && (asked.1.is_none() || part.1 == asked.1)
}

/// The part and the object that a change of a single one is about, and whether it is there afterwards.
pub(super) fn single(change: &Change) -> Option<(Part, Id, bool)> {
    let service = |key: &ServiceKey, there| {
        ((ObjectKind::Service, Some(key.namespace.to_string().into())), Id::Service(key.clone()), there)
    };
    let list = |key: &EndpointListKey, there| {
        ((ObjectKind::Endpoints, Some(key.namespace.clone())), Id::Endpoints(key.clone()), there)
    };
    Some(match change {
        Change::Service(object) => service(&object.key, true),
        Change::ServiceGone(key) => service(key, false),
        Change::Node(node) => ((ObjectKind::Node, None), Id::Node(node.name.clone()), true),
        Change::NodeGone(name) => ((ObjectKind::Node, None), Id::Node(name.clone()), false),
        Change::Endpoints(object) => list(&object.key, true),
        Change::EndpointsGone(key) => list(key, false),
        _ => return None,
    })
}

/// The kind, in one namespace or in all, that a change is the complete list of; `None`: it is no list.
pub(super) fn asked(change: &Change) -> Option<Part> {
    Some(match change {
        Change::AllServices(_) => (ObjectKind::Service, None),
        Change::NamespaceServices(of, _) => (ObjectKind::Service, Some(of.clone())),
        Change::AllNodes(_) => (ObjectKind::Node, None),
        Change::AllEndpoints(..) => (ObjectKind::Endpoints, None),
        Change::NamespaceEndpoints(of, ..) => (ObjectKind::Endpoints, Some(of.clone())),
        _ => return None,
    })
}

/// Everything that is known of a cluster.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) parts: BTreeMap<Part, Objects>,
}

impl World {
    /// The objects of a kind, in one namespace or in all.
    pub(super) fn of<'a>(&'a self, asked: &'a Part) -> impl Iterator<Item = &'a Arc<Change>> {
        self.parts.iter().filter(move |(part, _)| is_of(part, asked)).flat_map(|(_, objects)| objects.values())
    }

    /// Takes a change in. The parts that it is about.
    pub(super) fn apply(&mut self, change: &Change) -> Vec<Part> {
        if let Some((part, id, there)) = single(change) {
            let objects = self.parts.entry(part.clone()).or_default();
            if there {
                objects.insert(id, Arc::new(change.clone()));
            } else {
                objects.remove(&id);
            }
            return vec![part];
        }
        let Some(asked) = asked(change) else { return Vec::new() };
        let services = |all: &[Arc<Service>]| all.iter().map(|s| Change::Service(Box::new((**s).clone()))).collect();
        let lists = |all: &[EndpointList]| all.iter().cloned().map(Change::Endpoints).collect();
        let all: Vec<Change> = match change {
            Change::AllServices(all) | Change::NamespaceServices(_, all) => services(all),
            Change::AllNodes(all) => all.iter().cloned().map(Change::Node).collect(),
            Change::AllEndpoints(_, all) | Change::NamespaceEndpoints(_, _, all) => lists(all),
            _ => return Vec::new(),
        };
        let of_kind: Vec<Part> = parts().into_iter().filter(|part| is_of(part, &asked)).collect();
        let api = match change {
            Change::AllEndpoints(api, _) | Change::NamespaceEndpoints(_, api, _) => Some(*api),
            _ => None,
        };
        for part in &of_kind {
            let of_other_api = |id: &Id| matches!(id, Id::Endpoints(key) if Some(key.api) != api);
            self.parts.entry(part.clone()).or_default().retain(|id, _| of_other_api(id));
        }
        all.iter().for_each(|change| drop(self.apply(change)));
        of_kind
    }
}

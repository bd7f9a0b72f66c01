//! What a complete list lacks of what is known, and how it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{EndpointList, EndpointListKey, EndpointSubset, EndpointsApi, ObjectKind};
use crate::names::ServiceKey;
use crate::snapshot::{Change, Snapshot};

/// A removal of fewer is never held: small clusters change wholly every day.
const SMALLEST: usize = 10;

/// Which list: its kind, and the namespace where single ones are listed. In a text: `Services of the namespace web`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListKey {
    /// What it lists.
    pub kind: ObjectKind,
    /// The namespace that it is of; `None`: it lists all.
    pub namespace: Option<Arc<str>>,
}

impl ListKey {
    /// The list that a change brings; `None`: it is no list.
    pub(super) fn of(change: &Change) -> Option<Self> {
        let key = |kind, namespace: Option<&Arc<str>>| Some(Self { kind, namespace: namespace.cloned() });
        match change {
            Change::AllServices(_) => key(ObjectKind::Service, None),
            Change::AllNodes(_) => key(ObjectKind::Node, None),
            Change::AllEndpoints(..) => key(ObjectKind::Endpoints, None),
            Change::NamespaceServices(namespace, _) => key(ObjectKind::Service, Some(namespace)),
            Change::NamespaceEndpoints(namespace, ..) => key(ObjectKind::Endpoints, Some(namespace)),
            _ => None,
        }
    }

    /// Whether it is the list that an object is in.
    pub(super) fn has(&self, object: &ObjectKey) -> bool {
        let (kind, namespace) = match object {
            ObjectKey::Service(key) => (ObjectKind::Service, Some(key.namespace.as_str())),
            ObjectKey::Node(_) => (ObjectKind::Node, None),
            ObjectKey::Endpoints(key) => (ObjectKind::Endpoints, Some(&*key.namespace)),
        };
        self.kind == kind && self.namespace.as_deref().is_none_or(|of| Some(of) == namespace)
    }
}

impl fmt::Display for ListKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.plural())?;
        self.namespace.as_ref().map_or(Ok(()), |namespace| write!(f, " of the namespace {namespace}"))
    }
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ObjectKey {
    Service(ServiceKey),
    Node(Arc<str>),
    Endpoints(EndpointListKey),
}

impl ObjectKey {
    /// The one object that a change is about; `None`: it is a list.
    pub(super) fn of(change: &Change) -> Option<Self> {
        Some(match change {
            Change::Service(service) => Self::Service(service.key.clone()),
            Change::ServiceGone(key) => Self::Service(key.clone()),
            Change::Node(node) => Self::Node(node.name.clone()),
            Change::NodeGone(name) => Self::Node(name.clone()),
            Change::Endpoints(list) => Self::Endpoints(list.key.clone()),
            Change::EndpointsGone(key) => Self::Endpoints(key.clone()),
            _ => return None,
        })
    }

    /// The change that says that it is gone.
    pub(super) fn gone(self) -> Change {
        match self {
            Self::Service(key) => Change::ServiceGone(key),
            Self::Node(name) => Change::NodeGone(name),
            Self::Endpoints(key) => Change::EndpointsGone(key),
        }
    }
}

/// What of an object stays although a list lacks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kept {
    /// The object.
    Whole,
    /// Endpoints of a Service.
    Endpoints(KeptEndpoints),
}

/// Endpoints that stay in an object: those that the list has nowhere for its Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptEndpoints {
    pub(super) service: ServiceKey,
    pub(super) subsets: Vec<EndpointSubset>,
    /// The object as the source has it now; `None`: it is gone.
    pub(super) after: Option<EndpointList>,
}

impl KeptEndpoints {
    /// The object with what is kept.
    pub(super) fn with_kept(&self, key: &EndpointListKey) -> Change {
        let after = self.after.iter().flat_map(|list| list.subsets.iter());
        let subsets = after.chain(&self.subsets).cloned().collect();
        Change::Endpoints(EndpointList { key: key.clone(), service: self.service.clone(), subsets })
    }

    /// The object without it.
    pub(super) fn without_kept(self, key: EndpointListKey) -> Change {
        self.after.map_or(Change::EndpointsGone(key), Change::Endpoints)
    }

    /// Lets go what `list` has. True: there was any of it.
    pub(super) fn found_in(&mut self, list: &EndpointList) -> bool {
        if self.service != list.service {
            return false;
        }
        let there: BTreeSet<IpAddr> = addresses(&list.subsets).collect();
        let before = addresses(&self.subsets).count();
        self.subsets = without(&self.subsets, |address| there.contains(&address));
        addresses(&self.subsets).count() < before
    }
}

impl Kept {
    /// How many objects, or endpoints, it stands for.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Whole => 1,
            Self::Endpoints(kept) => addresses(&kept.subsets).count(),
        }
    }

    /// What happens to the object when it is let go.
    pub(super) fn release(self, key: ObjectKey) -> Change {
        match (self, key) {
            (Self::Endpoints(kept), ObjectKey::Endpoints(key)) => kept.without_kept(key),
            (_, key) => key.gone(),
        }
    }
}

fn addresses(subsets: &[EndpointSubset]) -> impl Iterator<Item = IpAddr> {
    subsets.iter().flat_map(|subset| &subset.endpoints).map(|endpoint| endpoint.address)
}

/// The subsets without some endpoints; those that then have none are left out.
fn without(subsets: &[EndpointSubset], drop: impl Fn(IpAddr) -> bool) -> Vec<EndpointSubset> {
    let mut left: Vec<_> = subsets.to_vec();
    left.iter_mut().for_each(|subset| subset.endpoints.retain(|endpoint| !drop(endpoint.address)));
    left.retain(|subset| !subset.endpoints.is_empty());
    left
}

/// A list against what is known.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// How many Services, Nodes or endpoints are known.
    pub(super) known: usize,
    /// How many of them the list lacks.
    pub(super) lacking: usize,
    /// What to keep of them.
    pub(super) missing: BTreeMap<ObjectKey, Kept>,
    /// Endpoint objects that the list lacks, and with them no endpoint.
    pub(super) empty: Vec<EndpointListKey>,
}

impl Comparison {
    /// Whether so much is missing that the list may well be wrong.
    pub(super) fn is_mass_removal(&self) -> bool {
        self.known >= SMALLEST && self.lacking * 2 > self.known
    }

    fn of_objects(known: impl Iterator<Item = ObjectKey>, listed: &BTreeSet<ObjectKey>) -> Self {
        let mut this = Self::default();
        for key in known {
            this.known += 1;
            if !listed.contains(&key) {
                this.lacking += 1;
                this.missing.insert(key, Kept::Whole);
            }
        }
        this
    }

    fn of_endpoints(cluster: &Snapshot, namespace: Option<&str>, api: EndpointsApi, list: &[EndpointList]) -> Self {
        let of_list = |l| addresses_of(l).map(|address| (&l.service, address));
        let listed: BTreeSet<_> = list.iter().flat_map(of_list).collect();
        let objects: BTreeMap<_, _> = list.iter().map(|l| (&l.key, l)).collect();
        let mut known = BTreeSet::new();
        let mut this = Self::default();
        for (key, service, subsets) in cluster.endpoint_lists() {
            let after = objects.get(key).copied();
            // One that was given to another Service is somebody's will.
            let given_away = after.is_some_and(|after| after.service != *service);
            if key.api != api || namespace.is_some_and(|n| *key.namespace != *n) || given_away {
                continue;
            }
            known.extend(addresses(subsets).map(|address| (service, address)));
            let subsets = without(subsets, |address| listed.contains(&(service, address)));
            if !subsets.is_empty() {
                let kept = KeptEndpoints { service: service.clone(), subsets, after: after.cloned() };
                this.missing.insert(ObjectKey::Endpoints(key.clone()), Kept::Endpoints(kept));
            } else if after.is_none() {
                this.empty.push(key.clone());
            }
        }
        this.known = known.len();
        this.lacking = known.difference(&listed).count();
        this
    }
}

fn addresses_of(list: &EndpointList) -> impl Iterator<Item = IpAddr> {
    addresses(&list.subsets)
}

/// What a list lacks of what is known. Costs work in proportion to both; a list of nothing known costs nothing.
pub(super) fn compare(cluster: &Snapshot, list: &Change) -> Comparison {
    let services = |namespace: Option<&str>, all: &[Arc<crate::model::Service>]| {
        let of = |key: &ServiceKey| namespace.is_none_or(|n| key.namespace.as_str() == n);
        let known = cluster.services().map(|s| &s.key).filter(|key| of(key)).cloned().map(ObjectKey::Service);
        Comparison::of_objects(known, &all.iter().map(|s| ObjectKey::Service(s.key.clone())).collect())
    };
    match list {
        Change::AllServices(all) => services(None, all),
        Change::NamespaceServices(namespace, all) => services(Some(namespace), all),
        Change::AllNodes(all) => {
            let known = cluster.nodes().map(|node| ObjectKey::Node(node.name.clone()));
            Comparison::of_objects(known, &all.iter().map(|node| ObjectKey::Node(node.name.clone())).collect())
        }
        Change::AllEndpoints(api, all) => Comparison::of_endpoints(cluster, None, *api, all),
        Change::NamespaceEndpoints(namespace, api, all) => {
            Comparison::of_endpoints(cluster, Some(namespace), *api, all)
        }
        _ => Comparison::default(),
    }
}

/// The objects of a list, one by one.
pub(super) fn singles(list: Change) -> Vec<Change> {
    match list {
        Change::AllServices(all) | Change::NamespaceServices(_, all) => {
            all.into_iter().map(|service| Change::Service(Box::new(Arc::unwrap_or_clone(service)))).collect()
        }
        Change::AllNodes(all) => all.into_iter().map(Change::Node).collect(),
        Change::AllEndpoints(_, all) | Change::NamespaceEndpoints(_, _, all) => {
            all.into_iter().map(Change::Endpoints).collect()
        }
        single => vec![single],
    }
}

/// The list that a snapshot makes.
pub(super) fn list_of(cluster: &Snapshot, key: &ListKey) -> Vec<Change> {
    let services = || {
        let of = |service: &&Arc<crate::model::Service>| {
            key.namespace.as_ref().is_none_or(|n| service.key.namespace.as_str() == &**n)
        };
        cluster.services().filter(of).cloned().collect()
    };
    let lists = |api| {
        let of =
            |list: &EndpointListKey| list.api == api && key.namespace.as_ref().is_none_or(|n| list.namespace == *n);
        let all = cluster.endpoint_lists().filter(|(list, ..)| of(list));
        let list = |(key, service, subsets): (&EndpointListKey, &ServiceKey, &[EndpointSubset])| EndpointList {
            key: key.clone(),
            service: service.clone(),
            subsets: subsets.into(),
        };
        all.map(list).collect()
    };
    let apis = [EndpointsApi::Slices, EndpointsApi::Endpoints];
    match (key.kind, key.namespace.clone()) {
        (ObjectKind::Service, None) => vec![Change::AllServices(services())],
        (ObjectKind::Service, Some(namespace)) => vec![Change::NamespaceServices(namespace, services())],
        (ObjectKind::Node, _) => vec![Change::AllNodes(cluster.nodes().cloned().collect())],
        (ObjectKind::Endpoints, None) => apis.map(|api| Change::AllEndpoints(api, lists(api))).into(),
        (ObjectKind::Endpoints, Some(namespace)) => {
            apis.map(|api| Change::NamespaceEndpoints(namespace.clone(), api, lists(api))).into()
        }
    }
}

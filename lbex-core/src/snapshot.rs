//! What is known of the cluster now: an index over [`crate::model`] objects that says what each change touches.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use litemap::LiteMap;

use crate::addresses::HostAddresses;
use crate::model::{EndpointList, EndpointListKey, EndpointSubset, EndpointsApi, Node, Service};
use crate::names::ServiceKey;

/// One change of the cluster, as a source reports it. Sending the same object twice is harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A Service was created or changed.
    Service(Box<Service>),
    /// A Service is gone.
    ServiceGone(ServiceKey),
    /// A Node was created or changed.
    Node(Node),
    /// A Node is gone.
    NodeGone(Arc<str>),
    /// An EndpointSlice or Endpoints object was created or changed.
    Endpoints(EndpointList),
    /// An EndpointSlice or Endpoints object is gone.
    EndpointsGone(EndpointListKey),
    /// The complete list of Services: whatever is not in it is gone. Shared, as [`EndpointList::subsets`] are.
    AllServices(Vec<Arc<Service>>),
    /// The complete list of Nodes.
    AllNodes(Vec<Node>),
    /// The complete list of endpoint objects of one API.
    AllEndpoints(EndpointsApi, Vec<EndpointList>),
    /// The complete list of the Services of one namespace: what is not in it and of that namespace is gone.
    NamespaceServices(Arc<str>, Vec<Arc<Service>>),
    /// The complete list of the endpoint objects of one API in one namespace.
    NamespaceEndpoints(Arc<str>, EndpointsApi, Vec<EndpointList>),
    /// The addresses of LBEX's own host.
    Host(HostAddresses),
}

/// What a change touched: nothing, where the objects were as before.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Services that were created, changed or removed themselves.
    pub services: BTreeSet<ServiceKey>,
    /// Services whose endpoints changed.
    pub endpoints: BTreeSet<ServiceKey>,
    /// Nodes that were created, changed or removed.
    pub nodes: BTreeSet<Arc<str>>,
    /// Addresses that LBEX's own host got or lost.
    pub host: BTreeSet<IpAddr>,
}

/// A Service's endpoint objects: nearly always one.
type Lists = LiteMap<EndpointListKey, Arc<[EndpointSubset]>>;

/// The cluster as the sources have reported it so far, and what LBEX's own host is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    services: BTreeMap<ServiceKey, Arc<Service>>,
    nodes: BTreeMap<Arc<str>, Node>,
    nodes_ready: usize,
    lists: BTreeMap<ServiceKey, Lists>,
    list_owner: BTreeMap<EndpointListKey, ServiceKey>,
    host: HostAddresses,
}

impl Snapshot {
    /// Takes one change in and says what it touched.
    pub fn apply(&mut self, change: Change) -> Touched {
        let mut touched = Touched::default();
        match change {
            Change::Service(service) => self.set_service(Arc::from(service), &mut touched),
            Change::ServiceGone(key) => self.remove_service(&key, &mut touched),
            Change::Node(node) => self.set_node(node, &mut touched),
            Change::NodeGone(name) => self.remove_node(&name, &mut touched),
            Change::Endpoints(list) => self.set_list(list, &mut touched),
            Change::EndpointsGone(key) => self.remove_list(&key, &mut touched),
            Change::AllServices(all) => self.set_services(None, all, &mut touched),
            Change::AllNodes(all) => self.set_nodes(all, &mut touched),
            Change::AllEndpoints(api, all) => self.set_lists(None, api, all, &mut touched),
            Change::NamespaceServices(namespace, all) => self.set_services(Some(&namespace), all, &mut touched),
            Change::NamespaceEndpoints(namespace, api, all) => {
                self.set_lists(Some(&namespace), api, all, &mut touched);
            }
            Change::Host(addresses) => {
                touched.host = self.host.difference(&addresses);
                self.host = addresses;
            }
        }
        touched
    }

    /// The Service of that key.
    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// All Services, by key.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// The Node of that name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// All Nodes, by name.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.values()
    }

    /// Whether at least one Node is Ready.
    pub fn any_node_ready(&self) -> bool {
        self.nodes_ready > 0
    }

    /// The endpoint subsets of a Service: from its EndpointSlices where it has any, else from its Endpoints object.
    pub fn endpoints(&self, service: &ServiceKey) -> impl Iterator<Item = &EndpointSubset> {
        let lists = self.lists.get(service);
        // Keys are ordered by API, slices first: the first key says whether there are slices.
        let api = lists.and_then(|l| l.keys().next()).map(|key| key.api);
        let of_api = lists.into_iter().flatten().filter(move |(key, _)| Some(key.api) == api);
        of_api.flat_map(|(_, subsets)| subsets.iter())
    }

    /// The addresses of LBEX's own host.
    pub fn host(&self) -> &HostAddresses {
        &self.host
    }

    /// All endpoint objects: which, whose, and their contents.
    pub fn endpoint_lists(&self) -> impl Iterator<Item = (&EndpointListKey, &ServiceKey, &[EndpointSubset])> {
        let of_service = |(service, lists)| (std::iter::repeat(service), lists);
        let all = self.lists.iter().map(of_service).flat_map(|(service, lists)| service.zip(lists));
        all.map(|(service, (key, subsets))| (key, service, &**subsets))
    }

    /// Replaces the Services, all or those of one namespace.
    fn set_services(&mut self, namespace: Option<&str>, all: Vec<Arc<Service>>, touched: &mut Touched) {
        let keep: BTreeSet<_> = all.iter().map(|s| s.key.clone()).collect();
        let concerned = |key: &&ServiceKey| namespace.is_none_or(|n| key.namespace.as_str() == n);
        let gone: Vec<_> = self.services.keys().filter(concerned).filter(|k| !keep.contains(*k)).cloned().collect();
        gone.iter().for_each(|key| self.remove_service(key, touched));
        all.into_iter().for_each(|service| self.set_service(service, touched));
    }

    fn set_nodes(&mut self, all: Vec<Node>, touched: &mut Touched) {
        let keep: BTreeSet<_> = all.iter().map(|n| n.name.clone()).collect();
        let gone: Vec<_> = self.nodes.keys().filter(|k| !keep.contains(*k)).cloned().collect();
        gone.iter().for_each(|name| self.remove_node(name, touched));
        all.into_iter().for_each(|node| self.set_node(node, touched));
    }

    /// Replaces the endpoint objects of one API, all or those of one namespace.
    fn set_lists(&mut self, namespace: Option<&str>, api: EndpointsApi, all: Vec<EndpointList>, touched: &mut Touched) {
        let keep: BTreeSet<_> = all.iter().map(|l| l.key.clone()).collect();
        let concerned = |key: &&EndpointListKey| key.api == api && namespace.is_none_or(|n| &*key.namespace == n);
        let gone: Vec<_> = self.list_owner.keys().filter(concerned).filter(|k| !keep.contains(*k)).cloned().collect();
        gone.iter().for_each(|key| self.remove_list(key, touched));
        all.into_iter().for_each(|list| self.set_list(list, touched));
    }

    fn set_service(&mut self, service: Arc<Service>, touched: &mut Touched) {
        if self.services.get(&service.key).is_none_or(|old| *old != service) {
            touched.services.insert(service.key.clone());
        }
        // One that is the same replaces the old one too: the source may remember the new one, and shares it.
        self.services.insert(service.key.clone(), service);
    }

    fn remove_service(&mut self, key: &ServiceKey, touched: &mut Touched) {
        if self.services.remove(key).is_some() {
            touched.services.insert(key.clone());
        }
    }

    fn set_node(&mut self, node: Node, touched: &mut Touched) {
        if self.nodes.get(&node.name) == Some(&node) {
            return;
        }
        self.remove_node(&node.name.clone(), touched);
        touched.nodes.insert(node.name.clone());
        self.nodes_ready += usize::from(node.ready);
        self.nodes.insert(node.name.clone(), node);
    }

    fn remove_node(&mut self, name: &Arc<str>, touched: &mut Touched) {
        if let Some(old) = self.nodes.remove(name) {
            self.nodes_ready -= usize::from(old.ready);
            touched.nodes.insert(name.clone());
        }
    }

    fn set_list(&mut self, list: EndpointList, touched: &mut Touched) {
        let EndpointList { key, service, subsets } = list;
        let same_owner = self.list_owner.get(&key) == Some(&service);
        if same_owner && let Some(old) = self.lists.get_mut(&service).and_then(|lists| lists.get_mut(&key)) {
            if *old != subsets {
                touched.endpoints.insert(service);
            }
            *old = subsets;
            return;
        }
        if !same_owner {
            self.remove_list(&key, touched);
            self.list_owner.insert(key.clone(), service.clone());
        }
        self.lists.entry(service.clone()).or_insert_with(|| Lists::with_capacity(1)).insert(key, subsets);
        touched.endpoints.insert(service);
    }

    fn remove_list(&mut self, key: &EndpointListKey, touched: &mut Touched) {
        let Some(service) = self.list_owner.remove(key) else { return };
        if let Some(lists) = self.lists.get_mut(&service) {
            lists.remove(key);
            if lists.is_empty() {
                self.lists.remove(&service);
            }
        }
        touched.endpoints.insert(service);
    }
}

//! The kinds of objects that are followed, and how their JSON becomes the model.
//!
//! Objects go from the answer's bytes straight into the small wire types of [`super::super::objects`], and from there at once
//! into the model: nothing else of them is kept.

use std::collections::HashSet;
use std::sync::Arc;

use lbex_core::model::{EndpointList, EndpointListKey, EndpointsApi, Node, Service};
use lbex_core::names::ServiceKey;
use lbex_core::snapshot::Change;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::source::ObjectKind;
use crate::source::objects::{EndpointSliceObject, EndpointsObject, Meta, NodeObject, ServiceObject};

/// What is listed and watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Services,
    Nodes,
    EndpointSlices,
    Endpoints,
}

/// One object, as the model has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Object {
    Service(Box<Service>),
    Node(Node),
    Endpoints(EndpointList),
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Service(ServiceKey),
    Node(Arc<str>),
    Endpoints(EndpointListKey),
}

/// Why an object is left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Unreadable {
    /// Which, for people.
    pub(super) object: String,
    /// Why.
    pub(super) reason: String,
}

impl Resource {
    pub(super) fn kind(self) -> ObjectKind {
        match self {
            Self::Services => ObjectKind::Service,
            Self::Nodes => ObjectKind::Node,
            Self::EndpointSlices | Self::Endpoints => ObjectKind::Endpoints,
        }
    }

    /// Its name in paths and in roles.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Nodes => "nodes",
            Self::EndpointSlices => "endpointslices",
            Self::Endpoints => "endpoints",
        }
    }

    /// Its API group; empty for the core group.
    pub(super) fn group(self) -> &'static str {
        if self == Self::EndpointSlices { "discovery.k8s.io" } else { "" }
    }

    pub(super) fn namespaced(self) -> bool {
        self != Self::Nodes
    }

    fn singular(self) -> &'static str {
        match self {
            Self::Services => "Service",
            Self::Nodes => "Node",
            Self::EndpointSlices => "EndpointSlice",
            Self::Endpoints => "Endpoints",
        }
    }

    /// The path of its collection, with a query begun.
    pub(super) fn path(self, namespace: Option<&str>) -> String {
        let root = if self.group().is_empty() { "/api/v1" } else { "/apis/discovery.k8s.io/v1" };
        let namespace = namespace.map(|n| format!("/namespaces/{n}")).unwrap_or_default();
        // Slices without the label belong to no Service.
        let selector = if self == Self::EndpointSlices { "labelSelector=kubernetes.io%2Fservice-name&" } else { "" };
        format!("{root}{namespace}/{}?{selector}", self.plural())
    }

    /// Reads one object; `None`: it is none that LBEX could use.
    pub(super) fn read(self, json: &str, names: &mut Names) -> Result<Option<Object>, Unreadable> {
        let parsed = match self {
            Self::Services => {
                parse::<ServiceObject>(json).map(|o| o.into_model().map(|s| Some(Object::Service(Box::new(s)))))
            }
            Self::Nodes => parse::<NodeObject>(json).map(|o| o.into_model().map(|n| Some(Object::Node(n)))),
            Self::EndpointSlices => {
                parse::<EndpointSliceObject>(json).map(|o| o.into_model().map(|l| l.map(Object::Endpoints)))
            }
            Self::Endpoints => {
                parse::<EndpointsObject>(json).map(|o| o.into_model().map(|l| Some(Object::Endpoints(l))))
            }
        };
        let mut object = match parsed {
            Ok(Ok(object)) => object,
            Ok(Err(error)) => {
                let object = format!("{} {}", error.kind, error.object);
                return Err(Unreadable { object, reason: error.reason() });
            }
            Err(reason) => return Err(Unreadable { object: self.shown(json), reason }),
        };
        if let Some(Object::Endpoints(list)) = &mut object {
            names.share(list);
        }
        Ok(object)
    }

    /// Which object some JSON is, from its metadata alone.
    pub(super) fn key(self, json: &str) -> Option<Key> {
        let Partial { metadata } = serde_json::from_str(json).ok()?;
        let endpoints = |api| {
            let (namespace, name) = (metadata.namespace().into(), metadata.name().into());
            Key::Endpoints(EndpointListKey { api, namespace, name })
        };
        Some(match self {
            Self::Services => Key::Service(ServiceKey::new(metadata.namespace(), metadata.name()).ok()?),
            Self::Nodes => Key::Node(metadata.name().into()),
            Self::EndpointSlices => endpoints(EndpointsApi::Slices),
            Self::Endpoints => endpoints(EndpointsApi::Endpoints),
        })
    }

    fn shown(self, json: &str) -> String {
        let name = match serde_json::from_str::<Partial>(json) {
            Ok(Partial { metadata }) if self.namespaced() => metadata.shown(),
            Ok(Partial { metadata }) => metadata.shown_name(),
            Err(_) => "without a name".to_owned(),
        };
        format!("{} {name}", self.singular())
    }

    /// The change that says: these are all, or all of a namespace.
    pub(super) fn list(self, namespace: Option<&Arc<str>>, objects: Vec<Object>) -> Change {
        let (mut services, mut nodes, mut lists) = (Vec::new(), Vec::new(), Vec::new());
        for object in objects {
            match object {
                Object::Service(service) => services.push(Arc::from(service)),
                Object::Node(node) => nodes.push(node),
                Object::Endpoints(list) => lists.push(list),
            }
        }
        let api = if self == Self::Endpoints { EndpointsApi::Endpoints } else { EndpointsApi::Slices };
        match (self, namespace.cloned()) {
            (Self::Services, None) => Change::AllServices(services),
            (Self::Services, Some(namespace)) => Change::NamespaceServices(namespace, services),
            (Self::Nodes, _) => Change::AllNodes(nodes),
            (Self::EndpointSlices | Self::Endpoints, None) => Change::AllEndpoints(api, lists),
            (Self::EndpointSlices | Self::Endpoints, Some(namespace)) => {
                Change::NamespaceEndpoints(namespace, api, lists)
            }
        }
    }
}

fn parse<'de, T: Deserialize<'de>>(json: &'de str) -> Result<T, String> {
    // The reason's text may quote the object: cut, and on one line.
    serde_json::from_str(json).map_err(|e| {
        let text: String = e.to_string().chars().take(200).collect();
        format!("it does not have the form of its kind ({}); the object is left out", text.escape_debug())
    })
}

impl From<Object> for Change {
    fn from(object: Object) -> Self {
        match object {
            Object::Service(service) => Self::Service(service),
            Object::Node(node) => Self::Node(node),
            Object::Endpoints(list) => Self::Endpoints(list),
        }
    }
}

impl From<Key> for Change {
    /// The object is gone.
    fn from(key: Key) -> Self {
        match key {
            Key::Service(key) => Self::ServiceGone(key),
            Key::Node(name) => Self::NodeGone(name),
            Key::Endpoints(key) => Self::EndpointsGone(key),
        }
    }
}

#[derive(Deserialize)]
struct Partial {
    #[serde(default)]
    metadata: Meta,
}

/// One page of a list. Its objects are not read yet: one that is not valid must not spoil the others.
#[derive(Deserialize)]
pub(super) struct Page<'a> {
    #[serde(default)]
    pub(super) metadata: ListMeta,
    #[serde(default, borrow)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

/// `metadata` of a list, and of a bookmark.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMeta {
    pub(super) resource_version: Option<String>,
    #[serde(rename = "continue")]
    pub(super) more: Option<String>,
}

/// One line of a watch.
#[derive(Deserialize)]
pub(super) struct Frame<'a> {
    #[serde(rename = "type")]
    pub(super) what: What,
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// What a line of a watch says about its object.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum What {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
    #[serde(other)]
    Other,
}

/// The version that an object of a watch brings.
pub(super) fn version_of(json: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Versioned {
        metadata: ListMeta,
    }
    let Versioned { metadata } = serde_json::from_str(json).ok()?;
    metadata.resource_version.filter(|version| !version.is_empty())
}

/// Names that many objects have in common (nodes, namespaces, ports), kept once each.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashSet<Arc<str>>,
    tidy_at: usize,
}

impl Names {
    fn share(&mut self, list: &mut EndpointList) {
        self.one(&mut list.key.namespace);
        for subset in Arc::make_mut(&mut list.subsets) {
            subset.ports.iter_mut().for_each(|port| self.one(&mut port.name));
            subset.endpoints.iter_mut().filter_map(|e| e.node.as_mut()).for_each(|node| self.one(node));
        }
    }

    fn one(&mut self, name: &mut Arc<str>) {
        if let Some(known) = self.known.get(name) {
            *name = known.clone();
            return;
        }
        if self.known.len() >= self.tidy_at.max(1024) {
            self.known.retain(|name| Arc::strong_count(name) > 1);
            self.tidy_at = self.known.len() * 2;
        }
        self.known.insert(name.clone());
    }
}

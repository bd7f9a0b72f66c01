//! Kubernetes objects as far as LBEX uses them: small, so that a large cluster costs little memory.
//!
//! Sources build these (from the API or from files); everything in them that later reaches a configuration is a number,
//! an address or a validated name. Annotations stay text until [`crate::intent`] parses them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::names::ServiceKey;

/// A transport protocol that LBEX carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`, as in file names and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// `spec.type` of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ServiceType {
    /// `ClusterIP`, also where the type is absent.
    #[default]
    ClusterIp,
    /// `NodePort`.
    NodePort,
    /// `LoadBalancer`.
    LoadBalancer,
    /// `ExternalName`.
    ExternalName,
    /// Something newer than this LBEX: not served.
    Unknown,
}

/// One entry of `spec.ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`; empty where absent (one-port Services).
    pub name: Arc<str>,
    /// `protocol`; `None`: one that LBEX does not carry (SCTP).
    pub protocol: Option<Protocol>,
    /// `port`: where the ClusterIP listens.
    pub port: u16,
    /// `nodePort`, where one is allocated.
    pub node_port: Option<u16>,
}

impl ServicePort {
    /// The name, or the port number where it has none: what a person calls this port.
    pub fn label(&self) -> String {
        if self.name.is_empty() { self.port.to_string() } else { self.name.to_string() }
    }
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: ServiceKey,
    /// `metadata.uid`; empty in manifest files.
    pub uid: Arc<str>,
    /// `metadata.creationTimestamp` in seconds since the epoch; absent in manifest files.
    pub created: Option<i64>,
    /// `spec.type`.
    pub kind: ServiceType,
    /// `spec.loadBalancerClass`.
    pub load_balancer_class: Option<Arc<str>>,
    /// The annotations that LBEX reads (see [`crate::annotations::is_read`]); sources leave the others out.
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
    /// Names of annotations whose value stood unquoted in a manifest file (a number or boolean there).
    pub unquoted: Vec<Arc<str>>,
    /// `spec.clusterIPs` (or `clusterIP`); empty for a headless Service and for ExternalName.
    pub cluster_ips: Vec<IpAddr>,
    /// Whether the ClusterIP is `None`.
    pub headless: bool,
    /// `spec.externalName`.
    pub external_name: Option<Arc<str>>,
    /// `spec.ports`, in their order.
    pub ports: Vec<ServicePort>,
    /// Whether `spec.sessionAffinity` is `ClientIP`.
    pub client_ip_affinity: bool,
    /// Whether `spec.externalTrafficPolicy` is `Local`.
    pub local_traffic_only: bool,
    /// `spec.loadBalancerSourceRanges`, as written.
    pub source_ranges: Vec<Arc<str>>,
}

/// Which of a node's addresses are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum NodeAddressType {
    /// `InternalIP`.
    #[default]
    Internal,
    /// `ExternalIP`.
    External,
}

/// A Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `status.addresses` of types `InternalIP` and `ExternalIP`, in their order.
    pub addresses: Vec<(NodeAddressType, IpAddr)>,
    /// Whether the condition `Ready` is `True`.
    pub ready: bool,
    /// Whether it takes no traffic from load balancers: it is being deleted, or has the taint
    /// `ToBeDeletedByClusterAutoscaler` (contract section 5).
    pub leaving: bool,
    /// Whether it has the label `node.kubernetes.io/exclude-from-external-load-balancers`.
    pub excluded: bool,
}

/// One endpoint of a Service: an address, its conditions, and the node it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address (of several in an EndpointSlice the first, as kube-proxy reads it).
    pub address: IpAddr,
    /// Condition `ready` (absent means true).
    pub ready: bool,
    /// Condition `serving` (absent means as `ready`).
    pub serving: bool,
    /// Condition `terminating` (absent means false).
    pub terminating: bool,
    /// `nodeName`.
    pub node: Option<Arc<str>>,
}

/// A port that endpoints of a subset offer. Its name is that of the Service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPort {
    /// The Service port's name; empty where that has none.
    pub name: Arc<str>,
    /// Protocol; `None`: one that LBEX does not carry.
    pub protocol: Option<Protocol>,
    /// The port number at the endpoint.
    pub port: u16,
}

/// Endpoints that share their ports: an EndpointSlice is one subset, an Endpoints object has several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointSubset {
    /// The ports.
    pub ports: Vec<EndpointPort>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// Which API an endpoint list comes from. Where a Service has any EndpointSlice, its Endpoints object is not read
/// (contract section 2, manifests).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointsApi {
    /// `discovery.k8s.io/v1` EndpointSlice.
    Slices,
    /// `v1` Endpoints.
    Endpoints,
}

/// Identifies one EndpointSlice or Endpoints object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointListKey {
    /// Which API.
    pub api: EndpointsApi,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its own name (an Endpoints object has its Service's name).
    pub name: Arc<str>,
}

/// An EndpointSlice or an Endpoints object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointList {
    /// Which object.
    pub key: EndpointListKey,
    /// The Service it belongs to (label `kubernetes.io/service-name`, or the object's own name).
    pub service: ServiceKey,
    /// Its contents. Shared: a source that remembers what it reported needs no copy.
    pub subsets: Arc<[EndpointSubset]>,
}

/// The kinds of objects that LBEX watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// Services.
    Service,
    /// Nodes.
    Node,
    /// EndpointSlices or Endpoints.
    Endpoints,
}

impl ObjectKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Service, Self::Node, Self::Endpoints];

    /// `service`, `node` or `endpoints`: the metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Node => "node",
            Self::Endpoints => "endpoints",
        }
    }

    /// `Services`, `Nodes` or `endpoints`: the objects in a text.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Service => "Services",
            Self::Node => "Nodes",
            Self::Endpoints => "endpoints",
        }
    }
}

//! A Service's annotations and spec parsed into what its author wants (contract sections 3 and 4). Text from the cluster ends
//! here: what comes out is enums, numbers, addresses and validated names.

mod annotated;
mod ports;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::annotations;
use crate::desired::Algorithm;
use crate::model::{NodeAddressType, Protocol, Service, ServicePort, ServiceType};
use crate::names::DnsName;
use crate::rejection::{Reason, Rejection};
use crate::settings::PlanSettings;

pub use annotated::parse_resolvers;

/// The annotation `upstream-type`: which addresses a Service's traffic goes to. Each has its
/// [`crate::resolver::UpstreamResolver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum UpstreamType {
    /// Node address and node port.
    #[default]
    Node,
    /// Endpoint addresses.
    Pod,
    /// The ClusterIP.
    ClusterIp,
}

/// The annotation `node-set`: which nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum NodeSet {
    /// Those that run a ready endpoint of the port.
    #[default]
    Host,
    /// Every available one.
    All,
}

/// Where the traffic of a Service is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Addresses that a resolver finds.
    Cluster {
        /// By which resolver.
        upstream: UpstreamType,
        /// Read by `node`.
        node_set: NodeSet,
        /// Read by `node`.
        node_address: NodeAddressType,
    },
    /// A DNS name outside (ExternalName).
    Dns {
        /// The name.
        name: DnsName,
        /// Whom to ask; not empty.
        resolvers: Arc<[SocketAddr]>,
    },
}

/// One port to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortIntent {
    /// The Service port.
    pub port: ServicePort,
    /// Its place in the Service's list.
    pub index: usize,
    /// Its protocol, one that LBEX carries.
    pub protocol: Protocol,
    /// The port to listen on.
    pub listen: u16,
}

/// What the author of a Service wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The ports that can be served as far as the Service itself says.
    pub ports: Vec<PortIntent>,
    /// Where the traffic goes.
    pub destination: Destination,
    /// How it is spread.
    pub algorithm: Algorithm,
    /// For connection attempts.
    pub connect_timeout: Duration,
    /// For connections and sessions; `None`: the default of the protocol.
    pub idle_timeout: Option<Duration>,
    /// Clients that are let in; empty means all.
    pub allow: Arc<[IpNet]>,
}

/// The upstream type, node set and node address type of an intent; the defaults for DNS.
impl Intent {
    /// The resolver to ask; `None` for a DNS name.
    pub fn upstream_type(&self) -> Option<UpstreamType> {
        match &self.destination {
            Destination::Cluster { upstream, .. } => Some(*upstream),
            Destination::Dns { .. } => None,
        }
    }
}

/// Whether a Service asks for LBEX, and how (contract section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// It does not.
    No,
    /// By the annotation `kubernetes.io/loadbalancer-class`.
    ByAnnotation,
    /// By `spec.type: LoadBalancer` with `spec.loadBalancerClass`: then `--require-port` does not apply.
    ByClass,
}

/// Whether `service` asks for LBEX.
pub fn asks(service: &Service, settings: &PlanSettings) -> Asks {
    let class = service.load_balancer_class.as_deref();
    if service.kind == ServiceType::LoadBalancer && class == Some(settings.load_balancer_class.as_str()) {
        Asks::ByClass
    } else if service.annotations.get(annotations::CLASS).map(AsRef::as_ref) == Some(annotations::CLASS_VALUE) {
        Asks::ByAnnotation
    } else {
        Asks::No
    }
}

/// A Service parsed: what it wants, unless it cannot be served at all, and everything worth telling its author.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parsed {
    /// What it wants; `None`: it is not served, and `rejections` says why.
    pub intent: Option<Intent>,
    /// Problems found.
    pub rejections: Vec<Rejection>,
}

/// Parses a Service that asks for LBEX. Total: what is not valid becomes a rejection.
pub fn parse(service: &Service, asks: Asks, settings: &PlanSettings) -> Parsed {
    let mut found = Vec::new();
    annotated::unknown_and_unquoted(service, &mut found);
    let intent = parse_whole(service, asks, settings, &mut found);
    let intent = intent.map_err(|reason| found.push(Rejection::of_service(reason))).ok();
    Parsed { intent, rejections: found }
}

fn parse_whole(
    service: &Service,
    asks: Asks,
    settings: &PlanSettings,
    found: &mut Vec<Rejection>,
) -> Result<Intent, Reason> {
    let allow = source_ranges(service)?;
    let destination = destination(service, settings, found)?;
    if service.ports.is_empty() {
        return Err(Reason::NoPorts);
    }
    if !settings.capabilities.timeouts {
        for name in [annotations::CONNECT_TIMEOUT, annotations::IDLE_TIMEOUT] {
            annotated::without_effect(service, name, "the backend has no timeouts of its own", found);
        }
    }
    Ok(Intent {
        algorithm: annotated::algorithm(service, &destination, settings, found),
        connect_timeout: annotated::duration(
            service,
            annotations::CONNECT_TIMEOUT,
            settings.connect_timeout,
            "--connect-timeout",
            found,
        )
        .unwrap_or(settings.connect_timeout),
        idle_timeout: annotated::duration(
            service,
            annotations::IDLE_TIMEOUT,
            settings.tcp_idle_timeout,
            "--tcp-idle-timeout and --udp-idle-timeout",
            found,
        ),
        ports: ports::wanted(service, asks, settings, found),
        destination,
        allow,
    })
}

/// `spec.loadBalancerSourceRanges`: fails closed on any entry that is no CIDR. Host bits are dropped, as kube-proxy does.
fn source_ranges(service: &Service) -> Result<Arc<[IpNet]>, Reason> {
    let parse = |text: &Arc<str>| {
        let range: Option<IpNet> = text.trim().parse().ok();
        range.map(|r| r.trunc()).ok_or_else(|| Reason::InvalidSourceRange { value: text.to_string() })
    };
    let mut ranges = service.source_ranges.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    ranges.sort_unstable();
    ranges.dedup();
    Ok(ranges.into())
}

fn destination(service: &Service, settings: &PlanSettings, found: &mut Vec<Rejection>) -> Result<Destination, Reason> {
    match service.kind {
        ServiceType::Unknown => return Err(Reason::UnknownType),
        ServiceType::ExternalName => return external_name(service, settings, found),
        ServiceType::ClusterIp | ServiceType::NodePort | ServiceType::LoadBalancer => {}
    }
    annotated::without_effect(service, annotations::RESOLVER, "it is read only with type ExternalName", found);
    let upstream = annotated::upstream_type(service, found);
    let (node_set, node_address) = annotated::node_choice(service, upstream, found);
    match upstream {
        UpstreamType::Node if service.headless => Err(Reason::Headless { wanted: "node port" }),
        UpstreamType::ClusterIp if service.headless => Err(Reason::Headless { wanted: "ClusterIP" }),
        _ => Ok(Destination::Cluster { upstream, node_set, node_address }),
    }
}

fn external_name(
    service: &Service,
    settings: &PlanSettings,
    found: &mut Vec<Rejection>,
) -> Result<Destination, Reason> {
    if !settings.allow_external_name {
        return Err(Reason::ExternalNameNotAllowed);
    }
    if !settings.capabilities.dns_servers {
        return Err(Reason::DnsUnsupported);
    }
    for name in [annotations::UPSTREAM_TYPE, annotations::NODE_SET, annotations::NODE_ADDRESS_TYPE] {
        annotated::without_effect(service, name, "it is not read with type ExternalName", found);
    }
    let text = service.external_name.as_deref().unwrap_or_default();
    let name = DnsName::new(text).map_err(|_| Reason::InvalidExternalName { value: text.to_owned() })?;
    let resolvers = annotated::resolvers(service, found);
    if resolvers.is_empty() {
        return Err(Reason::ResolverMissing);
    }
    Ok(Destination::Dns { name, resolvers: resolvers.into() })
}

/// Whether traffic can be sent to an address at all. IPv4 inside IPv6 is judged as IPv4.
pub fn is_unicast(address: &IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(a) => !(a.is_unspecified() || a.is_multicast() || a.is_broadcast()),
        IpAddr::V6(a) => !(a.is_unspecified() || a.is_multicast()),
    }
}

#[cfg(test)]
mod tests;

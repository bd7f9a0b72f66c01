//! What could not be done as asked, and why, in words for the Service's author (design invariant 1).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::addresses::Special;
use crate::model::Protocol;
use crate::names::{Quoted, ServiceKey};

/// What a problem means for traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// The Service, or the port that the rejection names, is not served.
    NotServed,
    /// It is served, otherwise than was asked for.
    Adjusted,
    /// It is served as asked; something is worth knowing.
    Note,
}

impl Effect {
    /// `not_served`, `adjusted` or `note`: the metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotServed => "not_served",
            Self::Adjusted => "adjusted",
            Self::Note => "note",
        }
    }
}

/// One problem of one Service, or of one of its ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rejection {
    /// The Service port's name or number, where the problem concerns one port.
    pub port: Option<Arc<str>>,
    /// What is wrong.
    pub reason: Reason,
}

impl Rejection {
    /// A problem of the whole Service.
    pub fn of_service(reason: Reason) -> Self {
        Self { port: None, reason }
    }

    /// A problem of one port.
    pub fn of_port(label: &str, reason: Reason) -> Self {
        Self { port: Some(label.into()), reason }
    }

    /// What it means for traffic.
    pub fn effect(&self) -> Effect {
        self.reason.effect()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.port {
            Some(port) => write!(f, "port {}: {}", Quoted(port), self.reason),
            None => self.reason.fmt(f),
        }
    }
}

/// A name in a text: as it is where it is short and plain, else as [`Quoted`] shows it.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.0.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./,:[]".contains(&b));
        if plain && self.0.len() <= 128 { f.write_str(self.0) } else { Quoted(self.0).fmt(f) }
    }
}

fn among(node: &str) -> String {
    if node.is_empty() { "; they name none".to_owned() } else { format!(", {} among them", Name(node)) }
}

/// What is wrong with a Service or port. Its text names the thing, the value, what is allowed and what happens instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// `--service-name` names another.
    #[error("this instance serves only {wanted} (--service-name)")]
    OtherServiceName {
        /// The flag's value.
        wanted: String,
    },
    /// The pool table of contract section 3 says no.
    #[error("its pool ({}) is not for this instance ({instance})", pool.as_deref().unwrap_or("none"))]
    OtherPool {
        /// The Service's pool.
        pool: Option<String>,
        /// The instance's flags, in words.
        instance: String,
    },
    /// The pool annotation is not a pool name: fail closed.
    #[error("annotation {}: {} is not a pool name ({}); no instance serves it", crate::annotations::POOL, Quoted(.value), crate::names::PoolName::ALLOWED)]
    InvalidPool {
        /// Its value.
        value: String,
    },
    /// `spec.type` is newer than this LBEX.
    #[error("its spec.type is not ClusterIP, NodePort, LoadBalancer or ExternalName")]
    UnknownType,
    /// ExternalName without `--allow-external-name`.
    #[error("type ExternalName is served only where LBEX runs with --allow-external-name")]
    ExternalNameNotAllowed,
    /// ExternalName without a usable `resolver` annotation.
    #[error(
        "type ExternalName needs the annotation {} with the IP address of a DNS resolver",
        crate::annotations::RESOLVER
    )]
    ResolverMissing,
    /// `spec.externalName` is no DNS name.
    #[error("spec.externalName {} is not a DNS name", Quoted(.value))]
    InvalidExternalName {
        /// Its value.
        value: String,
    },
    /// The backend cannot resolve DNS names.
    #[error("the backend cannot send traffic to a DNS name")]
    DnsUnsupported,
    /// A headless Service needs upstream type `pod`.
    #[error("a headless Service has no {wanted}; it needs the annotation {}: pod", crate::annotations::UPSTREAM_TYPE)]
    Headless {
        /// What it lacks: `node port` or `ClusterIP`.
        wanted: &'static str,
    },
    /// A source range is no CIDR: without it the Service would be open to clients that were to be kept out.
    #[error("spec.loadBalancerSourceRanges entry {} is not a CIDR such as 10.0.0.0/8 or 2001:db8::/32; the Service is not served", Quoted(.value))]
    InvalidSourceRange {
        /// The entry.
        value: String,
    },
    /// No resolver for its upstream type was built in.
    #[error("this LBEX has no resolver for its upstream type")]
    UpstreamTypeUnavailable,
    /// The Service has no ports.
    #[error("it has no ports")]
    NoPorts,
    /// The port has no listener port annotation, and one is required.
    #[error("it has no annotation {}{} with the port to listen on (required unless --require-port=false or spec.loadBalancerClass)", crate::annotations::PORT_PREFIX, Name(if .name.is_empty() { crate::annotations::UNNAMED } else { .name.as_str() }))]
    PortAnnotationMissing {
        /// The Service port's name.
        name: String,
    },
    /// A listener port annotation is no port.
    #[error("annotation {}: {} is not a port (1-65535); the port is not served", Name(.annotation), Quoted(.value))]
    InvalidPort {
        /// The annotation.
        annotation: String,
        /// Its value.
        value: String,
    },
    /// Two annotations give different listener ports.
    #[error("annotation {} ({used_port}) wins over {} ({})", Name(.used), Name(.other), Quoted(.other_value))]
    PortsDiffer {
        /// The annotation that counts.
        used: String,
        /// Its port.
        used_port: u16,
        /// The annotation that does not.
        other: String,
        /// Its value.
        other_value: String,
    },
    /// SCTP or something newer.
    #[error("its protocol is neither TCP nor UDP")]
    UnsupportedProtocol,
    /// The backend does not carry the protocol.
    #[error("the backend ({backend}) does not carry {protocol}")]
    ProtocolUnsupported {
        /// The port's protocol.
        protocol: Protocol,
        /// The backend, in words.
        backend: String,
    },
    /// Outside `--allowed-ports`.
    #[error("listener port {port} is outside --allowed-ports ({})", Name(.allowed))]
    PortNotAllowed {
        /// The port.
        port: u16,
        /// The flag's value.
        allowed: String,
    },
    /// LBEX itself listens there.
    #[error("{protocol} port {port} is LBEX's own ({what} on {address})")]
    PortReserved {
        /// Its protocol.
        protocol: Protocol,
        /// The port.
        port: u16,
        /// What LBEX uses it for.
        what: &'static str,
        /// Where.
        address: SocketAddr,
    },
    /// Another Service, or an earlier port of this one, has the port.
    #[error(
        "{protocol} port {port} belongs to {holder}, which is older or comes first; it is served when that gives it up"
    )]
    PortTaken {
        /// Its protocol.
        protocol: Protocol,
        /// The port.
        port: u16,
        /// Who has it.
        holder: ServiceKey,
    },
    /// This port wins over another claim.
    #[error("{protocol} port {port} is claimed by {next} too, which waits for it")]
    PortContested {
        /// Its protocol.
        protocol: Protocol,
        /// The port.
        port: u16,
        /// The next in line.
        next: ServiceKey,
    },
    /// An annotation's value is not valid: its default is used.
    #[error("annotation {annotation}: {} is not valid; allowed: {allowed}; used instead: {used}", Quoted(.value))]
    InvalidAnnotation {
        /// The annotation.
        annotation: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
        /// What is used instead.
        used: String,
    },
    /// An annotation that LBEX does not know.
    #[error("annotation {} is not one that LBEX knows; it has no effect", Name(.annotation))]
    UnknownAnnotation {
        /// The annotation.
        annotation: String,
    },
    /// An annotation that has no effect here.
    #[error("annotation {} has no effect: {why}", Name(.annotation))]
    AnnotationWithoutEffect {
        /// The annotation.
        annotation: String,
        /// Why.
        why: &'static str,
    },
    /// More annotations than are told by name.
    #[error("{count} more annotations are unknown, have no effect, or are not quoted")]
    MoreAnnotations {
        /// How many.
        count: usize,
    },
    /// An annotation stood unquoted in a manifest file.
    #[error("annotation {}: the value is not quoted; LBEX reads it as text, an API server would refuse it", Name(.annotation))]
    UnquotedAnnotation {
        /// The annotation.
        annotation: String,
    },
    /// The backend cannot do the algorithm that was asked for.
    #[error("algorithm {algorithm} is not supported by the backend ({backend}); used instead: round_robin")]
    AlgorithmUnsupported {
        /// What was asked for.
        algorithm: &'static str,
        /// The backend, in words.
        backend: String,
    },
    /// Session affinity decides where clients go.
    #[error("spec.sessionAffinity ClientIP needs consistent hashing; the algorithm {algorithm} is not used")]
    AffinityOverAlgorithm {
        /// What was asked for.
        algorithm: &'static str,
    },
    /// Session affinity of an ExternalName.
    #[error("spec.sessionAffinity ClientIP has no effect: the addresses of an ExternalName are used in turn")]
    AffinityUnsupported,
    /// Upstream type `node` and the port has no node port.
    #[error("it has no nodePort (type NodePort or LoadBalancer allocates one), which upstream type node needs")]
    NoNodePort,
    /// Upstream type `cluster-ip` and the Service has none yet.
    #[error("the Service has no ClusterIP")]
    NoClusterIp,
    /// `externalTrafficPolicy: Local` means `host`.
    #[error("spec.externalTrafficPolicy Local always means node-set host; node-set all is not used")]
    LocalMeansHost,
    /// Nodes were left out because they have no address of the wanted type.
    #[error("{count} node(s) left out that have no {wanted} address, {} among them", Name(.example))]
    NodeWithoutAddress {
        /// How many.
        count: usize,
        /// One of them.
        example: String,
        /// `internal` or `external`, then `IP`, or `IPv4` or `IPv6` where the Service has one family.
        wanted: &'static str,
    },
    /// Endpoints run on nodes that LBEX does not know.
    #[error("{count} endpoint(s) left out whose node is not known{}", among(.example))]
    NodeUnknown {
        /// How many.
        count: usize,
        /// One of the nodes; empty: none of the endpoints names one.
        example: String,
    },
    /// Nodes are left out because of their state, and none remains.
    #[error(
        "no node takes its traffic: all {count} that could are being deleted or excluded from external load balancers"
    )]
    NoNodeAvailable {
        /// How many.
        count: usize,
    },
    /// No node is Ready, so all count.
    #[error("no node is Ready (is the control plane cut off from them?): all {count} available nodes are used")]
    NoNodeReady {
        /// How many.
        count: usize,
    },
    /// Only terminating endpoints are left.
    #[error("all endpoints are terminating; those still serving are used")]
    AllTerminating,
    /// An address that cannot be an upstream server.
    #[error("{count} endpoint address(es) left out that are not unicast, {example} among them")]
    NotUnicast {
        /// How many.
        count: usize,
        /// One of them.
        example: IpAddr,
    },
    /// An address that whoever writes endpoints must not reach.
    #[error(
        "{count} endpoint address(es) left out that are {special}, {example} among them (--allow-endpoint-cidrs permits such addresses)"
    )]
    EndpointNotAllowed {
        /// What they are.
        special: Special,
        /// How many.
        count: usize,
        /// One of them.
        example: IpAddr,
    },
    /// Servers on this host at ports that are LBEX's own.
    #[error(
        "{count} server(s) left out that are LBEX's own on this host, {example} among them: traffic would go round in circles"
    )]
    OwnListener {
        /// How many.
        count: usize,
        /// One of them.
        example: SocketAddr,
    },
}

impl Reason {
    /// What it means for traffic.
    pub fn effect(&self) -> Effect {
        match self {
            Self::OtherServiceName { .. }
            | Self::OtherPool { .. }
            | Self::InvalidPool { .. }
            | Self::UnknownType
            | Self::ExternalNameNotAllowed
            | Self::ResolverMissing
            | Self::InvalidExternalName { .. }
            | Self::DnsUnsupported
            | Self::Headless { .. }
            | Self::InvalidSourceRange { .. }
            | Self::NoPorts
            | Self::UpstreamTypeUnavailable
            | Self::PortAnnotationMissing { .. }
            | Self::InvalidPort { .. }
            | Self::UnsupportedProtocol
            | Self::ProtocolUnsupported { .. }
            | Self::PortNotAllowed { .. }
            | Self::PortReserved { .. }
            | Self::PortTaken { .. }
            | Self::NoNodePort
            | Self::NoClusterIp => Effect::NotServed,
            Self::PortsDiffer { .. }
            | Self::InvalidAnnotation { .. }
            | Self::UnknownAnnotation { .. }
            | Self::MoreAnnotations { .. }
            | Self::AlgorithmUnsupported { .. }
            | Self::AffinityOverAlgorithm { .. }
            | Self::AffinityUnsupported
            | Self::LocalMeansHost
            | Self::NodeWithoutAddress { .. }
            | Self::NodeUnknown { .. }
            | Self::NoNodeAvailable { .. }
            | Self::NoNodeReady { .. }
            | Self::NotUnicast { .. }
            | Self::EndpointNotAllowed { .. }
            | Self::OwnListener { .. } => Effect::Adjusted,
            Self::PortContested { .. }
            | Self::AnnotationWithoutEffect { .. }
            | Self::UnquotedAnnotation { .. }
            | Self::AllTerminating => Effect::Note,
        }
    }

    /// Whether nothing is wrong: the Service is meant for another instance.
    pub fn is_for_another_instance(&self) -> bool {
        matches!(self, Self::OtherServiceName { .. } | Self::OtherPool { .. })
    }

    /// A stable CamelCase word for Events and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::OtherServiceName { .. } => "OtherServiceName",
            Self::OtherPool { .. } => "OtherPool",
            Self::InvalidPool { .. } => "InvalidPool",
            Self::UnknownType => "UnknownType",
            Self::ExternalNameNotAllowed => "ExternalNameNotAllowed",
            Self::ResolverMissing => "ResolverMissing",
            Self::InvalidExternalName { .. } => "InvalidExternalName",
            Self::DnsUnsupported => "DnsUnsupported",
            Self::Headless { .. } => "Headless",
            Self::InvalidSourceRange { .. } => "InvalidSourceRange",
            Self::NoPorts => "NoPorts",
            Self::UpstreamTypeUnavailable => "UpstreamTypeUnavailable",
            Self::PortAnnotationMissing { .. } => "PortAnnotationMissing",
            Self::InvalidPort { .. } => "InvalidPort",
            Self::PortsDiffer { .. } => "PortsDiffer",
            Self::UnsupportedProtocol => "UnsupportedProtocol",
            Self::ProtocolUnsupported { .. } => "ProtocolUnsupported",
            Self::PortNotAllowed { .. } => "PortNotAllowed",
            Self::PortReserved { .. } => "PortReserved",
            Self::PortTaken { .. } => "PortTaken",
            Self::PortContested { .. } => "PortContested",
            Self::InvalidAnnotation { .. } => "InvalidAnnotation",
            Self::UnknownAnnotation { .. } => "UnknownAnnotation",
            Self::AnnotationWithoutEffect { .. } => "AnnotationWithoutEffect",
            Self::MoreAnnotations { .. } => "MoreAnnotations",
            Self::UnquotedAnnotation { .. } => "UnquotedAnnotation",
            Self::AlgorithmUnsupported { .. } => "AlgorithmUnsupported",
            Self::AffinityOverAlgorithm { .. } => "AffinityOverAlgorithm",
            Self::AffinityUnsupported => "AffinityUnsupported",
            Self::NoNodePort => "NoNodePort",
            Self::NoClusterIp => "NoClusterIp",
            Self::LocalMeansHost => "LocalMeansHost",
            Self::NodeWithoutAddress { .. } => "NodeWithoutAddress",
            Self::NodeUnknown { .. } => "NodeUnknown",
            Self::NoNodeAvailable { .. } => "NoNodeAvailable",
            Self::NoNodeReady { .. } => "NoNodeReady",
            Self::AllTerminating => "AllTerminating",
            Self::NotUnicast { .. } => "NotUnicast",
            Self::EndpointNotAllowed { .. } => "EndpointNotAllowed",
            Self::OwnListener { .. } => "OwnListener",
        }
    }
}

//! Annotations of contract section 4, value by value. One that is not valid gets its default and a rejection that says so.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Destination, NodeSet, UpstreamType};
use crate::annotations as names;
use crate::desired::{Algorithm, Method, Until};
use crate::duration;
use crate::model::{NodeAddressType, Service};
use crate::rejection::{Reason, Rejection};
use crate::settings::PlanSettings;

const METHODS: [(&str, Method); 6] = [
    ("connect", Method { until: Until::Connect, inflight: false }),
    ("first_byte", Method { until: Until::FirstByte, inflight: false }),
    ("last_byte", Method { until: Until::LastByte, inflight: false }),
    ("connect inflight", Method { until: Until::Connect, inflight: true }),
    ("first_byte inflight", Method { until: Until::FirstByte, inflight: true }),
    ("last_byte inflight", Method { until: Until::LastByte, inflight: true }),
];

/// Why an annotation without a port's name has no effect.
pub(super) const ONE_PORT_ONLY: &str = "it is read only for a Service with one port";

/// The most annotations of a Service that are told by name: it may have thousands.
const MOST_NAMES: usize = 20;

/// The most DNS resolvers that one annotation may name.
const MOST_RESOLVERS: usize = 8;

fn value<'a>(service: &'a Service, name: &str) -> Option<&'a str> {
    service.annotations.get(name).map(|v| v.trim())
}

fn invalid(found: &mut Vec<Rejection>, annotation: &'static str, value: &str, allowed: &'static str, used: &str) {
    let (value, used) = (value.to_owned(), used.to_owned());
    found.push(Rejection::of_service(Reason::InvalidAnnotation { annotation, value, allowed, used }));
}

/// Says which annotation has no effect on this Service, where it is there at all.
pub(super) fn without_effect(service: &Service, name: &'static str, why: &'static str, found: &mut Vec<Rejection>) {
    if service.annotations.contains_key(name) {
        let annotation = name.to_owned();
        found.push(Rejection::of_service(Reason::AnnotationWithoutEffect { annotation, why }));
    }
}

/// Annotations under LBEX's prefixes that are misspelt, and those that stood unquoted in a manifest.
pub(super) fn unknown_and_unquoted(service: &Service, found: &mut Vec<Rejection>) {
    let names = service.annotations.keys().filter(|n| n.as_ref() != names::CLASS);
    let misspelt = names.filter_map(|name| misspelt(service, name));
    let unquoted = service.unquoted.iter().map(|n| Reason::UnquotedAnnotation { annotation: n.to_string() });
    let mut reasons = misspelt.chain(unquoted);
    found.extend(reasons.by_ref().take(MOST_NAMES).map(Rejection::of_service));
    match reasons.count() {
        0 => {}
        count => found.push(Rejection::of_service(Reason::MoreAnnotations { count })),
    }
}

/// Why an annotation of this name has no effect, if it has none.
fn misspelt(service: &Service, name: &str) -> Option<Reason> {
    let annotation = || name.to_owned();
    let Some(port) = name.strip_prefix(names::PORT_PREFIX) else {
        return (!names::KNOWN.contains(&name)).then(|| Reason::UnknownAnnotation { annotation: annotation() });
    };
    let why = if !port.is_empty() && service.ports.iter().any(|p| *p.name == *port) {
        return None;
    } else if port != names::UNNAMED {
        "the Service has no port of that name"
    } else if service.ports.len() > 1 {
        ONE_PORT_ONLY
    } else {
        return None;
    };
    Some(Reason::AnnotationWithoutEffect { annotation: annotation(), why })
}

/// One of a few words; `None`: absent or not valid (and told).
fn word<T: Copy>(
    service: &Service,
    name: &'static str,
    words: &[(&'static str, T)],
    allowed: &'static str,
    default: &str,
    found: &mut Vec<Rejection>,
) -> Option<T> {
    let text = value(service, name)?;
    let known = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
    if known.is_none() {
        invalid(found, name, text, allowed, default);
    }
    known
}

pub(super) fn upstream_type(service: &Service, found: &mut Vec<Rejection>) -> UpstreamType {
    let words = [("node", UpstreamType::Node), ("pod", UpstreamType::Pod), ("cluster-ip", UpstreamType::ClusterIp)];
    word(service, names::UPSTREAM_TYPE, &words, "node, pod, cluster-ip", "node", found).unwrap_or_default()
}

/// `node-set` and `node-address-type`, read only with upstream type `node`.
pub(super) fn node_choice(
    service: &Service,
    upstream: UpstreamType,
    found: &mut Vec<Rejection>,
) -> (NodeSet, NodeAddressType) {
    if upstream != UpstreamType::Node {
        let why = "it is read only with upstream-type node";
        without_effect(service, names::NODE_SET, why, found);
        without_effect(service, names::NODE_ADDRESS_TYPE, why, found);
        return (NodeSet::default(), NodeAddressType::default());
    }
    let sets = [("host", NodeSet::Host), ("all", NodeSet::All)];
    let types = [("internal", NodeAddressType::Internal), ("external", NodeAddressType::External)];
    let mut set = word(service, names::NODE_SET, &sets, "host, all", "host", found).unwrap_or_default();
    if set == NodeSet::All && service.local_traffic_only {
        found.push(Rejection::of_service(Reason::LocalMeansHost));
        set = NodeSet::Host;
    }
    let address = word(service, names::NODE_ADDRESS_TYPE, &types, "internal, external", "internal", found);
    (set, address.unwrap_or_default())
}

/// `algorithm`, `method` and session affinity, within what the backend can do.
pub(super) fn algorithm(
    service: &Service,
    destination: &Destination,
    settings: &PlanSettings,
    found: &mut Vec<Rejection>,
) -> Algorithm {
    #[derive(Clone, Copy, PartialEq)]
    enum Word {
        RoundRobin,
        LeastConn,
        LeastTime,
    }
    let words = [("round_robin", Word::RoundRobin), ("least_conn", Word::LeastConn), ("least_time", Word::LeastTime)];
    let allowed = "round_robin, least_conn, least_time";
    let affinity = service.client_ip_affinity && !matches!(destination, Destination::Dns { .. });
    let default = if affinity { "consistent hashing (spec.sessionAffinity ClientIP)" } else { "round_robin" };
    let asked = word(service, names::ALGORITHM, &words, allowed, default, found);
    if asked != Some(Word::LeastTime) {
        without_effect(service, names::METHOD, "it is read only with algorithm least_time", found);
    }
    let algorithm = match asked {
        None | Some(Word::RoundRobin) => Algorithm::RoundRobin,
        Some(Word::LeastConn) => Algorithm::LeastConn,
        Some(Word::LeastTime) => Algorithm::LeastTime(method(service, found)),
    };
    let unusual = !matches!(algorithm, Algorithm::RoundRobin);
    if matches!(destination, Destination::Dns { .. }) {
        if unusual {
            without_effect(service, names::ALGORITHM, "the addresses of an ExternalName are used in turn", found);
        }
        if service.client_ip_affinity {
            found.push(Rejection::of_service(Reason::AffinityUnsupported));
        }
        return Algorithm::RoundRobin;
    }
    if affinity && asked.is_some() {
        let algorithm = algorithm.as_str();
        found.push(Rejection::of_service(Reason::AffinityOverAlgorithm { algorithm }));
    }
    let algorithm = if affinity { Algorithm::ClientIp } else { algorithm };
    if !settings.capabilities.has(algorithm) {
        let backend = settings.capabilities.description.clone();
        let algorithm = algorithm.as_str();
        found.push(Rejection::of_service(Reason::AlgorithmUnsupported { algorithm, backend }));
        return Algorithm::RoundRobin;
    }
    algorithm
}

fn method(service: &Service, found: &mut Vec<Rejection>) -> Method {
    let default = METHODS[0].1;
    let Some(text) = value(service, names::METHOD) else { return default };
    let words: Vec<_> = text.split_whitespace().collect();
    let known = METHODS.iter().find(|(name, _)| name.split(' ').eq(words.iter().copied()));
    if known.is_none() {
        let allowed = "connect, first_byte, last_byte, each also with ' inflight'";
        invalid(found, names::METHOD, text, allowed, "connect");
    }
    known.map_or(default, |(_, method)| *method)
}

/// A timeout annotation: more than zero and within [`duration::LONGEST`].
pub(super) fn duration(
    service: &Service,
    name: &'static str,
    default: Duration,
    default_flag: &str,
    found: &mut Vec<Rejection>,
) -> Option<Duration> {
    let text = value(service, name)?;
    match duration::parse(text) {
        Ok(parsed) if !parsed.is_zero() => Some(parsed),
        _ => {
            let used = match name {
                names::CONNECT_TIMEOUT => format!("{} ({default_flag})", millis(default)),
                _ => format!("the value of {default_flag}"),
            };
            invalid(found, name, text, "a duration such as 500ms, 3s, 5m or 1h, more than 0, at most 365d", &used);
            None
        }
    }
}

fn millis(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// The annotation `resolver`. Entries that are not valid are told and left out.
pub(super) fn resolvers(service: &Service, found: &mut Vec<Rejection>) -> Vec<SocketAddr> {
    let Some(text) = value(service, names::RESOLVER) else { return Vec::new() };
    let (resolvers, all_valid) = parse_resolvers(text);
    if !all_valid {
        let allowed = "at most 8 IP addresses, optionally with :port, separated by spaces or commas";
        let used: Vec<_> = resolvers.iter().map(ToString::to_string).collect();
        let used = if used.is_empty() { "none".to_owned() } else { used.join(", ") };
        invalid(found, names::RESOLVER, text, allowed, &used);
    }
    resolvers
}

/// IP addresses with optional ports (default 53), separated by spaces or commas: those that are valid, and whether all are.
pub fn parse_resolvers(text: &str) -> (Vec<SocketAddr>, bool) {
    let entry = |t: &str| -> Option<SocketAddr> {
        let bare = |t: &str| t.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53));
        let bracketed = || t.strip_prefix('[').and_then(|t| t.strip_suffix(']')).and_then(bare);
        let parsed = bare(t).or_else(bracketed).or_else(|| t.parse().ok())?;
        let scoped = matches!(parsed, SocketAddr::V6(v6) if v6.scope_id() != 0);
        (!scoped && parsed.port() > 0 && super::is_unicast(&parsed.ip())).then_some(parsed)
    };
    let entries = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|t| !t.is_empty());
    let mut valid = Vec::new();
    let mut all_valid = true;
    for text in entries {
        match entry(text) {
            Some(address) if valid.contains(&address) => {}
            Some(address) if valid.len() < MOST_RESOLVERS => valid.push(address),
            _ => all_valid = false,
        }
    }
    (valid, all_valid)
}

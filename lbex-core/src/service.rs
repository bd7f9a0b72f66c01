//! What one Service comes to: first by itself, then with the ports it holds. Both the planner and its oracle stand on these two
//! functions; what differs between them is how ports are shared out and what is done again when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::addresses::{EndpointRules, Special};
use crate::desired::{Listener, Servers, ServiceConfig, Upstream};
use crate::intent::{self, Asks, Destination, Intent, PortIntent, UpstreamType};
use crate::model::{Protocol, Service};
use crate::names::ServiceKey;
use crate::ports::PortKey;
use crate::rejection::{Reason, Rejection};
use crate::resolver::{Inputs, NodeInputs, Resolved, Resolvers};
use crate::selector::{Selection, ServiceSelector};
use crate::settings::PlanSettings;
use crate::snapshot::Snapshot;

/// What planning goes by, fixed for the life of a planner.
pub struct Rules {
    /// The operator's settings.
    pub settings: PlanSettings,
    /// Which Services this instance serves.
    pub selector: Box<dyn ServiceSelector>,
    /// Where traffic goes, by upstream type.
    pub resolvers: Resolvers,
}

/// A listener that a Service would have if its port were free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The Service port's place in its list.
    pub(crate) index: usize,
    /// What a person calls the Service port.
    pub(crate) label: Arc<str>,
    /// The listener.
    pub(crate) listener: Listener,
    /// Its servers that are on this host: they may be LBEX itself.
    pub(crate) on_host: Vec<SocketAddr>,
}

impl Candidate {
    /// The listener without servers that are LBEX's own, and what to tell about those.
    fn without_own(&self, is_own: impl Fn(Protocol, SocketAddr) -> bool) -> (Listener, Option<Rejection>) {
        let mut listener = self.listener.clone();
        let own: Vec<_> = self.on_host.iter().copied().filter(|s| is_own(listener.protocol, *s)).collect();
        let (Some(&example), Servers::Addresses(all)) = (own.first(), &listener.upstream.servers) else {
            return (listener, None);
        };
        // Sorted, as the servers are.
        let others = all.iter().copied().filter(|server| own.binary_search(server).is_err()).collect();
        listener.upstream.servers = Servers::Addresses(others);
        (listener, Some(Rejection::of_port(&self.label, Reason::OwnListener { count: own.len(), example })))
    }
}

/// A Service by itself, before ports are shared out.
#[derive(Debug, Clone)]
pub(crate) struct Evaluation {
    /// Whether it asks for LBEX.
    pub(crate) asks: bool,
    /// `metadata.creationTimestamp`.
    pub(crate) created: Option<i64>,
    /// Its listeners, in the order of its ports.
    pub(crate) candidates: Vec<Candidate>,
    /// Problems that do not depend on other Services.
    pub(crate) rejections: Vec<Rejection>,
    /// What this depends on besides the Service.
    pub(crate) inputs: Inputs,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            asks: false,
            created: None,
            candidates: Vec::new(),
            rejections: Vec::new(),
            inputs: Inputs { endpoints: false, nodes: NodeInputs::None },
        }
    }
}

impl Evaluation {
    /// Whether traffic would go to one of these addresses.
    pub(crate) fn has_server(&self, addresses: &BTreeSet<IpAddr>) -> bool {
        self.candidates.iter().any(|candidate| match &candidate.listener.upstream.servers {
            Servers::Addresses(all) => all.iter().any(|server| addresses.contains(&server.ip())),
            Servers::Dns { .. } => false,
        })
    }
}

/// Where a candidate stands among those who claim its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has the port; who would be next.
    Holds { next: Option<ServiceKey> },
    /// Another has it.
    Waits { holder: ServiceKey },
}

/// Selects, parses and resolves one Service.
pub(crate) fn evaluate(rules: &Rules, cluster: &Snapshot, service: &Service) -> Evaluation {
    let asks = intent::asks(service, &rules.settings);
    if asks == Asks::No {
        return Evaluation::default();
    }
    let mut result = Evaluation { asks: true, created: service.created, ..Evaluation::default() };
    if let Selection::Ignored(reason) = rules.selector.select(service) {
        result.rejections.push(Rejection::of_service(reason));
        return result;
    }
    let parsed = intent::parse(service, asks, &rules.settings);
    result.rejections = parsed.rejections;
    let Some(intent) = parsed.intent else { return result };
    if let Some(resolver) = intent.upstream_type().and_then(|t| rules.resolvers.get(&t)) {
        result.inputs = resolver.inputs(&intent);
    }
    result.candidates.reserve_exact(intent.ports.len());
    for port in &intent.ports {
        match upstream(rules, cluster, service, &intent, port, &mut result.rejections) {
            Ok(upstream) => {
                let on_host = upstream.servers.on_host(cluster.host());
                result.candidates.push(candidate(&rules.settings, &intent, port, (upstream, on_host)));
            }
            Err(reason) => result.rejections.push(Rejection::of_port(&port.port.label(), reason)),
        }
    }
    result
}

fn upstream(
    rules: &Rules,
    cluster: &Snapshot,
    service: &Service,
    intent: &Intent,
    port: &PortIntent,
    rejections: &mut Vec<Rejection>,
) -> Result<Upstream, Reason> {
    let servers = match &intent.destination {
        Destination::Dns { name, resolvers } => {
            Servers::Dns { name: name.clone(), port: port.port.port, resolvers: resolvers.clone() }
        }
        Destination::Cluster { upstream, .. } => {
            let resolver = rules.resolvers.get(upstream).ok_or(Reason::UpstreamTypeUnavailable)?;
            let Resolved { targets, notes } = resolver.resolve(cluster, service, intent, &port.port)?;
            let label = port.port.label();
            rejections.extend(notes.into_iter().map(|note| Rejection::of_port(&label, note)));
            // Node addresses are the operator's own.
            let judged = (*upstream != UpstreamType::Node).then_some(&rules.settings.endpoints);
            Servers::Addresses(sendable(targets, judged, &label, rejections))
        }
    };
    Ok(Upstream { algorithm: intent.algorithm, servers })
}

/// Sorted, each once, and only what traffic can and may be sent to, whatever a resolver says.
fn sendable(
    mut targets: Vec<SocketAddr>,
    judged: Option<&EndpointRules>,
    label: &str,
    rejections: &mut Vec<Rejection>,
) -> Arc<[SocketAddr]> {
    let mut left_out: BTreeMap<Option<Special>, (usize, IpAddr)> = BTreeMap::new();
    targets.iter_mut().for_each(|target| target.set_ip(target.ip().to_canonical()));
    targets.sort_unstable();
    targets.dedup();
    targets.retain(|target| {
        let special = judged.and_then(|rules| rules.refusal(target.ip()));
        let good = intent::is_unicast(&target.ip()) && target.port() > 0;
        if good && special.is_none() {
            return true;
        }
        left_out.entry(special.filter(|_| good)).or_insert((0, target.ip())).0 += 1;
        false
    });
    rejections.extend(left_out.into_iter().map(|(special, (count, example))| {
        let reason = match special {
            None => Reason::NotUnicast { count, example },
            Some(special) => Reason::EndpointNotAllowed { special, count, example },
        };
        Rejection::of_port(label, reason)
    }));
    targets.into()
}

fn candidate(
    settings: &PlanSettings,
    intent: &Intent,
    port: &PortIntent,
    (upstream, on_host): (Upstream, Vec<SocketAddr>),
) -> Candidate {
    let idle = match port.protocol {
        Protocol::Tcp => settings.tcp_idle_timeout,
        Protocol::Udp => settings.udp_idle_timeout,
    };
    let listener = Listener {
        protocol: port.protocol,
        port: port.listen,
        addresses: settings.listen.clone(),
        allow: intent.allow.clone(),
        connect_timeout: intent.connect_timeout,
        idle_timeout: intent.idle_timeout.unwrap_or(idle),
        upstream,
    };
    Candidate { index: port.index, label: port.port.label().into(), listener, on_host }
}

/// Whether a server on this host is LBEX itself: its own port, or one that listeners claim. (Which Service has that, and whether
/// the proxy can bind it, makes no difference: so few events change it.)
pub(crate) fn is_own(
    settings: &PlanSettings,
    is_claimed: impl Fn(PortKey) -> bool,
) -> impl Fn(Protocol, SocketAddr) -> bool {
    move |protocol, server| {
        settings.reserves(protocol, server)
            || (settings.listens_on(server.ip()) && is_claimed((protocol, server.port())))
    }
}

/// The Service's part of the desired state, and all its rejections, given where each candidate stands and which servers on this
/// host are LBEX's own.
pub(crate) fn assemble(
    key: &ServiceKey,
    evaluation: &Evaluation,
    standing: impl Fn(&Candidate) -> Standing,
    is_own: impl Fn(Protocol, SocketAddr) -> bool,
) -> (Option<ServiceConfig>, Vec<Rejection>) {
    let mut rejections = evaluation.rejections.clone();
    let mut listeners = Vec::with_capacity(evaluation.candidates.len());
    for candidate in &evaluation.candidates {
        let (protocol, port) = (candidate.listener.protocol, candidate.listener.port);
        match standing(candidate) {
            Standing::Holds { next } => {
                let (listener, own) = candidate.without_own(&is_own);
                listeners.push(listener);
                rejections.extend(own);
                let contested = next.map(|next| Reason::PortContested { protocol, port, next });
                rejections.extend(contested.map(|reason| Rejection::of_port(&candidate.label, reason)));
            }
            Standing::Waits { holder } => {
                let reason = Reason::PortTaken { protocol, port, holder };
                rejections.push(Rejection::of_port(&candidate.label, reason));
            }
        }
    }
    let config =
        (!listeners.is_empty()).then(|| ServiceConfig { service: key.clone(), created: evaluation.created, listeners });
    (config, rejections)
}

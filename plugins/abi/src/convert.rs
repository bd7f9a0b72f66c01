//! From and to the types of `lbex-core`: LBEX's side of the border.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use lbex_core::backend::{self as core_backend, ApplyReport};
use lbex_core::desired::{self as core_desired, Servers, ServiceConfig};
use lbex_core::model::Protocol as CoreProtocol;
use lbex_core::names::ServiceKey;

use crate::documents::{
    Action, Algorithm, Dns, Instead, Listener, Method, Protocol, Refusal, ReloadReason, Report, Server, Service, Until,
};

impl From<CoreProtocol> for Protocol {
    fn from(protocol: CoreProtocol) -> Self {
        match protocol {
            CoreProtocol::Tcp => Self::Tcp,
            CoreProtocol::Udp => Self::Udp,
        }
    }
}

impl From<Protocol> for CoreProtocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}

/// A Service as a plugin sees it.
pub fn service_from_core(config: &ServiceConfig) -> Service {
    Service { created: config.created, listeners: config.listeners.iter().map(listener_from_core).collect() }
}

fn listener_from_core(listener: &core_desired::Listener) -> Listener {
    let (algorithm, method) = algorithm_from_core(listener.upstream.algorithm);
    let (servers, dns) = match &listener.upstream.servers {
        Servers::Addresses(all) => (all.iter().copied().map(Server::from).collect(), None),
        Servers::Dns { name, port, resolvers } => {
            let resolvers = resolvers.iter().copied().map(Server::from).collect();
            (Arc::from([]), Some(Dns { name: name.to_string(), port: *port, resolvers }))
        }
    };
    Listener {
        protocol: listener.protocol.into(),
        port: listener.port,
        addresses: listener.addresses.clone(),
        allow: listener.allow.clone(),
        connect_timeout: listener.connect_timeout,
        idle_timeout: listener.idle_timeout,
        algorithm,
        method,
        servers,
        dns,
    }
}

fn algorithm_from_core(algorithm: core_desired::Algorithm) -> (Algorithm, Option<Method>) {
    match algorithm {
        core_desired::Algorithm::RoundRobin => (Algorithm::RoundRobin, None),
        core_desired::Algorithm::LeastConn => (Algorithm::LeastConn, None),
        core_desired::Algorithm::ClientIp => (Algorithm::ClientIp, None),
        core_desired::Algorithm::LeastTime(method) => {
            let until = match method.until {
                core_desired::Until::Connect => Until::Connect,
                core_desired::Until::FirstByte => Until::FirstByte,
                core_desired::Until::LastByte => Until::LastByte,
            };
            (Algorithm::LeastTime, Some(Method { until, inflight: method.inflight }))
        }
    }
}

/// Why a report cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// It is about something else.
    #[error("it is about revision {found:?}, and {wanted:?} was asked for")]
    Revision {
        /// What it names.
        found: String,
        /// What was sent.
        wanted: String,
    },
    /// A key of `refused` is no Service.
    #[error("it refuses {0}, which is not namespace/name")]
    NoService(String),
    /// A Service is refused without a reason.
    #[error("it refuses {0} without saying why")]
    NoReason(ServiceKey),
    /// A refusal's code is no word.
    #[error("it refuses {service} with the code {code}, which is not 1-64 letters and digits")]
    Code {
        /// The Service.
        service: ServiceKey,
        /// The code, quoted.
        code: String,
    },
}

/// A plugin's report about the document called `revision`, as LBEX's engine takes it.
pub fn report_to_core(report: Report, revision: &str, generation: u64) -> Result<ApplyReport, ReportError> {
    if report.revision != revision {
        let found = report.revision.chars().take(80).collect();
        return Err(ReportError::Revision { found, wanted: revision.to_owned() });
    }
    let mut refused = BTreeMap::new();
    for (name, refusals) in report.refused {
        let quoted = lbex_core::names::Quoted(&name).to_string();
        let service = ServiceKey::try_from(name).map_err(|_| ReportError::NoService(quoted))?;
        if refusals.is_empty() {
            return Err(ReportError::NoReason(service));
        }
        let refusals =
            refusals.into_iter().map(|refusal| refusal_to_core(&service, &refusal)).collect::<Result<_, _>>()?;
        refused.insert(service, refusals);
    }
    Ok(ApplyReport {
        generation,
        action: report.action.into(),
        reloads: report.reloads.into_iter().map(Into::into).collect(),
        refused,
    })
}

/// How long a refusal's text may be, in characters.
const LONGEST_MESSAGE: usize = 1000;

fn refusal_to_core(service: &ServiceKey, refusal: &Refusal) -> Result<core_backend::Refusal, ReportError> {
    let plain = |code: &str| matches!(code.len(), 1..=64) && code.bytes().all(|b| b.is_ascii_alphanumeric());
    if !plain(&refusal.code) {
        let code = lbex_core::names::Quoted(&refusal.code).to_string();
        return Err(ReportError::Code { service: service.clone(), code });
    }
    let text: String = refusal.message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text: String = text.trim().chars().take(LONGEST_MESSAGE).collect();
    let message = match refusal.listener {
        Some(listener) => format!("{} port {}: {text}", CoreProtocol::from(listener.protocol), listener.port),
        None => text,
    };
    let instead = match refusal.instead {
        Instead::LastGood => core_backend::Instead::LastGood,
        Instead::LeftOut => core_backend::Instead::LeftOut,
    };
    Ok(core_backend::Refusal { code: lasting(&refusal.code), message, instead, retry: refusal.retry })
}

/// How many words of plugins are kept.
const MOST_WORDS: usize = 200;

/// A word that lives as long as the process: codes are few and stay the same. A plugin that makes up new ones without end gets one
/// that says so.
fn lasting(word: &str) -> &'static str {
    static WORDS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = words.get(word) {
        return known;
    }
    if words.len() >= MOST_WORDS {
        return "RefusedByPlugin";
    }
    let kept: &'static str = Box::leak(word.to_owned().into_boxed_str());
    words.insert(kept);
    kept
}

impl From<Action> for core_backend::Action {
    fn from(action: Action) -> Self {
        match action {
            Action::Unchanged => Self::Unchanged,
            Action::Live => Self::Live,
            // Whatever it is: it may have cost as much as a reload.
            Action::Reloaded | Action::Other => Self::Reloaded,
            Action::Started => Self::Started,
            Action::Upgraded => Self::Upgraded,
        }
    }
}

impl From<ReloadReason> for core_backend::ReloadReason {
    fn from(reason: ReloadReason) -> Self {
        match reason {
            ReloadReason::Start => Self::Start,
            ReloadReason::Upgrade => Self::Upgrade,
            ReloadReason::Repair => Self::Repair,
            ReloadReason::Listeners => Self::Listeners,
            ReloadReason::Options => Self::Options,
            ReloadReason::Ports => Self::Ports,
            ReloadReason::Late => Self::Late,
            ReloadReason::Zone => Self::Zone,
            ReloadReason::Endpoints => Self::Endpoints,
            ReloadReason::Global => Self::Global,
        }
    }
}

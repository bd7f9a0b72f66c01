//! The trait that proxies implement, and what they report.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;

use crate::desired::{Algorithm, Delta, DesiredState};
use crate::model::Protocol;
use crate::names::ServiceKey;
use crate::settings::Reserved;

/// What a backend can do. Planning asks this, never the backend's name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct Capabilities {
    /// The backend in words, for messages: `NGINX 1.28.3 (embedded)`.
    pub description: String,
    /// Whether it carries TCP.
    pub tcp: bool,
    /// Whether it carries UDP.
    pub udp: bool,
    /// Whether it has the algorithm `least_conn`.
    pub least_conn: bool,
    /// Whether it has the algorithm `least_time`.
    pub least_time: bool,
    /// Whether it spreads clients by consistent hashing of their addresses.
    pub client_ip: bool,
    /// Whether it observes the timeouts of Services: of attempts to connect, and of silence.
    pub timeouts: bool,
    /// Whether it resolves DNS names of upstream servers itself (ExternalName).
    pub dns_servers: bool,
    /// Whether changes of upstream servers reach it without a reload, by [`ProxyBackend::push`].
    pub live_servers: bool,
    /// Whether servers can be drained: no new connections, those that exist go on.
    pub drains: bool,
}

impl Capabilities {
    /// Whether it carries `protocol`.
    pub fn carries(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Tcp => self.tcp,
            Protocol::Udp => self.udp,
        }
    }

    /// Whether it has `algorithm`. Every backend has `round_robin`.
    pub fn has(&self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::RoundRobin => true,
            Algorithm::LeastConn => self.least_conn,
            Algorithm::LeastTime(_) => self.least_time,
            Algorithm::ClientIp => self.client_ip,
        }
    }
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            description: "a backend".to_owned(),
            tcp: true,
            udp: true,
            least_conn: true,
            least_time: false,
            client_ip: true,
            timeouts: true,
            dns_servers: true,
            live_servers: false,
            drains: false,
        }
    }
}

/// How a desired state was put into effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The proxy already served exactly this.
    Unchanged,
    /// Without a reload.
    Live,
    /// By a reload.
    Reloaded,
    /// By starting the proxy.
    Started,
    /// By upgrading the running proxy to another binary.
    Upgraded,
}

impl Action {
    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Live => "live",
            Self::Reloaded => "reloaded",
            Self::Started => "started",
            Self::Upgraded => "upgraded",
        }
    }
}

/// Why a proxy was reloaded. Of several causes of one reload the first in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReloadReason {
    /// After a start: from the servers' addresses, which it began with, to names whose addresses are pushed.
    Start,
    /// The same after an upgrade to another binary.
    Upgrade,
    /// It served something else than what was last confirmed, or nobody knows what.
    Repair,
    /// A listener is new, gone, or listens elsewhere.
    Listeners,
    /// Other options of a listener or an upstream, or servers pushed that were not before, or the other way round.
    Options,
    /// Servers have a port that none had before.
    Ports,
    /// Servers were pushed and the proxy did not take them in time.
    Late,
    /// The memory for servers became too small, or far too large.
    Zone,
    /// Servers came or went, and could not be pushed.
    Endpoints,
    /// What concerns the proxy as a whole: limits, workers, where it asks for servers.
    Global,
}

impl ReloadReason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Start,
        Self::Upgrade,
        Self::Repair,
        Self::Listeners,
        Self::Options,
        Self::Ports,
        Self::Late,
        Self::Zone,
        Self::Endpoints,
        Self::Global,
    ];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Upgrade => "upgrade",
            Self::Repair => "repair",
            Self::Listeners => "listeners",
            Self::Options => "options",
            Self::Ports => "ports",
            Self::Late => "late",
            Self::Zone => "zone",
            Self::Endpoints => "endpoints",
            Self::Global => "global",
        }
    }
}

/// What became of a Service, or listener, that a backend could not serve as desired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Instead {
    /// It is served as it last was.
    LastGood,
    /// It is not served.
    LeftOut,
}

/// Why a backend does not serve a Service as desired. The rest goes ahead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// A stable CamelCase word: `PortInUse`, `PermissionDenied`, `ConfigurationRefused`, `FileLimit`.
    pub code: &'static str,
    /// Why, in words for the Service's author; one line.
    pub message: String,
    /// What happens instead.
    pub instead: Instead,
    /// Whether trying again, unchanged, may help (a port that another process holds). The engine then does, with backoff.
    pub retry: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instead = match self.instead {
            Instead::LastGood => "it is served as it last was",
            Instead::LeftOut => "it is not served",
        };
        write!(f, "{}; {instead}", self.message)
    }
}

/// What a backend did with a desired state. Everything that [`ApplyReport::refused`] does not name is confirmed from the data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyReport {
    /// The desired state's generation.
    pub generation: u64,
    /// How it was put into effect.
    pub action: Action,
    /// Every reload since the last report, with its reason; also those of calls that failed.
    pub reloads: Vec<ReloadReason>,
    /// All Services that are not served as desired, also those refused before and not changed since.
    pub refused: BTreeMap<ServiceKey, Vec<Refusal>>,
}

/// Why a backend could not apply anything. What it served before it serves still, unless the error says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// Trying again, unchanged, may help. The engine does, with backoff.
    #[error("{0}")]
    Retry(String),
    /// Trying again unchanged cannot help; the next change of the desired state is tried.
    #[error("{0}")]
    Permanent(String),
}

/// Changes of servers that are on their way to the proxy without a reload (see [`ProxyBackend::push`]).
pub struct Push {
    /// The Services whose change is on its way. All others of the delta want an [`ProxyBackend::apply`].
    pub services: BTreeSet<ServiceKey>,
    /// Ends when the data plane has taken them all, or has had its time. Answers those that it has not taken: they want an
    /// [`ProxyBackend::apply`], which puts them right some other way.
    pub taken: Pin<Box<dyn Future<Output = BTreeSet<ServiceKey>> + Send>>,
}

impl Push {
    /// Nothing is on its way.
    pub fn nothing() -> Self {
        Self { services: BTreeSet::new(), taken: Box::pin(std::future::ready(BTreeSet::new())) }
    }
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push").field("services", &self.services).finish_non_exhaustive()
    }
}

/// What a backend sees of its proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Whether the proxy runs and answers with a configuration that LBEX wrote (contract section 6, health).
    pub healthy: bool,
    /// One line: what runs, or why it is not healthy.
    pub detail: String,
    /// Whether the proxy serves what was last applied. If not, the engine applies again.
    pub in_step: bool,
    /// The configuration that it answers with, as the backend names it.
    pub serving: Option<String>,
    /// Processes that only finish the connections they have.
    pub draining: u32,
    /// The connections that those hold, to clients and to servers: a client's TCP connection is two. Seconds old; `None`: not known.
    pub draining_connections: Option<u64>,
    /// How pushes of servers stand; `None` where there are none.
    pub push: Option<PushStanding>,
    /// How the APIs stand through which servers are changed; none where there are none.
    pub apis: Vec<ApiStanding>,
}

/// How the API of a proxy stands, through which LBEX changes servers. Counts are of what LBEX keeps in step there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiStanding {
    /// Where it is.
    pub url: String,
    /// Whether it answers and takes changes.
    pub answers: bool,
    /// Upstreams whose servers are as they should be.
    pub in_step: u64,
    /// Upstreams whose newest servers are on their way.
    pub behind: u64,
    /// Upstreams that the proxy does not have.
    pub missing: u64,
    /// Upstreams of which it refuses a change.
    pub refused: u64,
    /// Servers by the proxy's word for their state.
    pub servers: BTreeMap<&'static str, u64>,
    /// Connections that the servers have now.
    pub active: u64,
    /// Servers that were removed and have connections still.
    pub removed_busy: u64,
    /// How often since the start an upstream was put right that somebody else, or a restart of the proxy, had changed.
    pub drift: u64,
    /// Changes made since the start.
    pub changes: u64,
    /// Calls that failed since the start.
    pub failures: u64,
}

/// How pushes of servers stand (see [`ProxyBackend::push`]). A name stands for the servers of one listener that have one port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushStanding {
    /// Names that the proxy asks for.
    pub names: usize,
    /// Those of them whose newest addresses the proxy has not confirmed.
    pub behind: usize,
    /// Those that the proxy has stopped asking for.
    pub silent: usize,
    /// Questions of the proxy since the start, repeated ones included.
    pub questions: u64,
    /// Answers since the start, repeated ones included.
    pub answers: u64,
    /// Answers that had to be sent again since the start.
    pub repeated: u64,
    /// Messages since the start that were not the proxy's, or no questions.
    pub ignored: u64,
    /// Answers since the start that the system did not send at the first attempt.
    pub unsent: u64,
}

/// A proxy. Implementations order overlapping calls themselves.
#[async_trait]
pub trait ProxyBackend: Send + Sync {
    /// What it can do. Fixed for the life of the process.
    fn capabilities(&self) -> Capabilities;

    /// Ports of this host that it listens on itself, and that no Service can have.
    fn reserved(&self) -> Vec<Reserved> {
        Vec::new()
    }

    /// What an LBEX before this one last confirmed, at the start and before the first [`apply`](Self::apply). A proxy that runs
    /// goes on with what it has, which is newer; one that was restarted and would have to ask for its servers gets these. The default
    /// does nothing.
    fn remember(&self, last_good: &DesiredState) {
        let _ = last_good;
    }

    /// Sends changes of servers to the proxy at once, where it can take them without a reload; everything else of `delta` is left
    /// to [`apply`](Self::apply). Does not wait for anything, and may be called while an `apply` is in progress: the newer generation
    /// counts. The default pushes nothing.
    fn push(&self, delta: &Delta) -> Push {
        let _ = delta;
        Push::nothing()
    }

    /// Makes the proxy serve `desired`, starting it if needed. `delta` is what changed since the last call that returned `Ok`
    /// (all of it in the first), without what was pushed. A Service that changed and is again as it was then is not in it, whatever
    /// was pushed of it meanwhile. Idempotent. Returns when the data plane confirms it.
    async fn apply(&self, desired: &DesiredState, delta: &Delta) -> Result<ApplyReport, BackendError>;

    /// Looks at the proxy, changing nothing. Called every second; answers within one. An error says that there was no answer (the
    /// host is busy, or the proxy hangs): it counts only when several come in a row.
    async fn observe(&self) -> Result<Observed, BackendError>;

    /// What it measured of its proxy in the last [`observe`](Self::observe), by names of its own (`a-z`, `0-9`, `_`). The default
    /// measures nothing.
    fn measures(&self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    /// Ends when the backend knows of something that is worth an [`observe`](Self::observe) at once. The default never does.
    fn woken(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }

    /// Ends the proxy: no new connections, those that exist may go on for `drain` at the most. Without a call the proxy goes on
    /// when LBEX ends.
    async fn stop(&self, drain: Duration) -> Result<(), BackendError>;
}

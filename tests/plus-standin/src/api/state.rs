//! What the API knows: upstreams with their servers, generations, counters.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use super::{ApiError, Code, Server};

/// How many servers an upstream has room for unless it is told otherwise: what a zone of 64 KiB holds, about.
const ROOM: usize = 128;

/// What a peer is taken for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// It gets connections.
    #[default]
    Up,
    /// Taken out by hand.
    Down,
    /// Left out after failures.
    Unavail,
    /// Waiting for its first health check.
    Checking,
    /// It failed health checks.
    Unhealthy,
}

/// The live numbers of a peer, as far as a test sets them: the stand-in counts nothing itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its state, for a server that is not `down`.
    pub state: PeerState,
    /// Connections now.
    pub active: u64,
    /// Connections so far.
    pub connections: u64,
    /// Bytes sent to it.
    pub sent: u64,
    /// Bytes received from it.
    pub received: u64,
    /// Failed attempts.
    pub fails: u64,
    /// How often it became `unavail`.
    pub unavail: u64,
    /// Health checks so far.
    pub checks: u64,
    /// Those of them that failed.
    pub checks_failed: u64,
}

/// A stream upstream.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The name of its zone; `None`: it has none, and so is static.
    pub zone: Option<String>,
    /// Its servers, in the order of their ids.
    pub servers: Vec<Server>,
    /// How many servers its zone has room for. Default 128.
    pub room: usize,
    /// Live numbers by the server's id.
    pub peers: BTreeMap<u64, Peer>,
    next_id: u64,
}

impl Default for Upstream {
    fn default() -> Self {
        Self { zone: None, servers: Vec::new(), room: ROOM, peers: BTreeMap::new(), next_id: 0 }
    }
}

impl Upstream {
    /// An upstream with a zone of its own name and these servers, with ids from 0.
    pub fn with(name: &str, servers: impl IntoIterator<Item = Server>) -> Self {
        let mut this = Self { zone: Some(name.to_owned()), ..Self::default() };
        for server in servers {
            let id = this.take_id();
            this.servers.push(Server { id, ..server });
        }
        this
    }

    /// The next id, which nobody had before.
    pub fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id
    }

    pub(super) fn index(&self, id: &str) -> Result<usize, ApiError> {
        let number: u64 = id.parse().map_err(|_| Code::UpstreamBadServerId.because("invalid server ID"))?;
        let found = self.servers.iter().position(|server| server.id == number);
        found.ok_or_else(|| Code::UpstreamServerNotFound.because(format!("server with ID \"{number}\" does not exist")))
    }
}

/// The counters of a listener with a `status_zone`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone {
    /// Connections now.
    pub processing: u64,
    /// Connections so far.
    pub connections: u64,
    /// Sessions that ended well (2xx), by the client's fault (4xx), by the server's (5xx).
    pub sessions: [u64; 3],
    /// Connections that ended without a session.
    pub discarded: u64,
    /// Bytes received from clients.
    pub received: u64,
    /// Bytes sent to clients.
    pub sent: u64,
}

/// Everything that one NGINX Plus knows.
#[derive(Debug, Clone)]
pub struct State {
    /// The versions of the API. Default [`VERSIONS`](super::VERSIONS).
    pub versions: Vec<u32>,
    /// Whether the location has `write=on`. Default yes.
    pub write: bool,
    /// NGINX's version. Default `1.29.4`.
    pub version: String,
    /// The build. Default `nginx-plus-r36`.
    pub build: String,
    /// The address that it was asked at.
    pub address: String,
    /// Counts reloads, from 1.
    pub generation: u64,
    /// When this generation was loaded.
    pub loaded: SystemTime,
    /// The process id of a worker.
    pub pid: u32,
    /// That of the master.
    pub ppid: u32,
    /// Stream upstreams by name.
    pub upstreams: BTreeMap<String, Upstream>,
    /// Listeners' counters by the name of their `status_zone`.
    pub zones: BTreeMap<String, Zone>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            versions: super::VERSIONS.to_vec(),
            write: true,
            version: "1.29.4".to_owned(),
            build: "nginx-plus-r36".to_owned(),
            address: "127.0.0.1".to_owned(),
            generation: 1,
            loaded: SystemTime::now(),
            pid: std::process::id(),
            ppid: std::process::id(),
            upstreams: BTreeMap::new(),
            zones: BTreeMap::new(),
        }
    }
}

impl State {
    pub(super) fn upstream(&mut self, name: &str) -> Result<&mut Upstream, ApiError> {
        let found = self.upstreams.get_mut(name);
        let upstream = found.ok_or_else(|| Code::UpstreamNotFound.because("upstream not found"))?;
        match upstream.zone {
            Some(_) => Ok(upstream),
            None => Err(Code::UpstreamStatic.because("upstream is static")),
        }
    }

    /// The servers of an upstream; `None` if there is no such upstream.
    pub fn servers(&self, upstream: &str) -> Option<&[Server]> {
        self.upstreams.get(upstream).map(|upstream| upstream.servers.as_slice())
    }

    /// The configuration was loaded again.
    pub fn reloaded(&mut self) {
        self.generation += 1;
        self.loaded = SystemTime::now();
    }
}

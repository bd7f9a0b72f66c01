//! What the API of NGINX Plus says and is told, as far as LBEX uses it (`ngx_http_api_module`, stream upstreams).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A server of an upstream, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Server {
    /// Tells it from all others of its upstream, those with the same address too.
    pub id: u64,
    /// `IP:port`, IPv6 in brackets; anything else is none of LBEX's servers.
    pub server: String,
    /// Its share. NGINX's default: 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// The most connections at a time; 0: any number, NGINX's default.
    #[serde(default)]
    pub max_conns: u32,
    /// After how many failures it is left alone for `fail_timeout`. NGINX's default: 1.
    #[serde(default = "one")]
    pub max_fails: u32,
    /// As NGINX writes times. NGINX's default: `10s`.
    #[serde(default = "ten_seconds")]
    pub fail_timeout: String,
    /// As NGINX writes times. NGINX's default: `0s`.
    #[serde(default = "no_time")]
    pub slow_start: String,
    /// Used only while all others are unavailable. Cannot be changed.
    #[serde(default)]
    pub backup: bool,
    /// Takes no new connections; those that it has go on.
    #[serde(default)]
    pub down: bool,
    /// An SRV service; cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The server that NGINX made this one of, by resolving its name. Such a one comes and goes with its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u64>,
}

fn one() -> u32 {
    1
}

fn ten_seconds() -> String {
    "10s".to_owned()
}

fn no_time() -> String {
    "0s".to_owned()
}

impl Server {
    /// Its address, if it is one that LBEX could have given it and may keep: no backup, no name, no SRV service.
    pub fn address(&self) -> Option<SocketAddr> {
        if self.backup || self.service.is_some() || self.parent.is_some() { None } else { self.server.parse().ok() }
    }
}

/// How every server of LBEX is configured: one that failed is left alone for two seconds, as with the open-source backend.
pub const MAX_FAILS: u32 = 1;

/// See [`MAX_FAILS`]; as NGINX writes times.
pub const FAIL_TIMEOUT: &str = "2s";

/// A server to be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewServer {
    /// `IP:port`, IPv6 in brackets.
    pub server: String,
    /// See [`MAX_FAILS`].
    pub max_fails: u32,
    /// See [`FAIL_TIMEOUT`].
    pub fail_timeout: String,
}

impl NewServer {
    /// A server of LBEX.
    pub fn at(address: SocketAddr) -> Self {
        Self { server: address.to_string(), max_fails: MAX_FAILS, fail_timeout: FAIL_TIMEOUT.to_owned() }
    }
}

/// What is to change of a server; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Patch {
    /// See [`Server::weight`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// See [`Server::max_conns`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_conns: Option<u32>,
    /// See [`Server::max_fails`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_fails: Option<u32>,
    /// See [`Server::fail_timeout`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_timeout: Option<String>,
    /// See [`Server::slow_start`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<String>,
    /// See [`Server::down`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down: Option<bool>,
}

impl Patch {
    /// No new connections.
    pub fn down() -> Self {
        Self { down: Some(true), ..Self::default() }
    }

    /// What makes `server` one as LBEX would add it.
    pub fn to_right(server: &Server) -> Self {
        let time = |have: &str, wanted: &str| (parse_time(have) != parse_time(wanted)).then(|| wanted.to_owned());
        Self {
            weight: (server.weight != 1).then_some(1),
            max_conns: (server.max_conns != 0).then_some(0),
            max_fails: (server.max_fails != MAX_FAILS).then_some(MAX_FAILS),
            fail_timeout: time(&server.fail_timeout, FAIL_TIMEOUT),
            slow_start: time(&server.slow_start, "0s"),
            down: server.down.then_some(false),
        }
    }

    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Changes `server` as NGINX would.
    pub fn apply(&self, server: &mut Server) {
        let Self { weight, max_conns, max_fails, fail_timeout, slow_start, down } = self.clone();
        server.weight = weight.unwrap_or(server.weight);
        server.max_conns = max_conns.unwrap_or(server.max_conns);
        server.max_fails = max_fails.unwrap_or(server.max_fails);
        server.down = down.unwrap_or(server.down);
        if let Some(time) = fail_timeout {
            server.fail_timeout = time;
        }
        if let Some(time) = slow_start {
            server.slow_start = time;
        }
    }
}

/// A time as NGINX writes it: numbers with units (`1m30s`, `500ms`), or a number of seconds. `None`: it is none.
fn parse_time(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let after = rest.get(digits..)?;
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let millis = match after.get(..unit)?.trim() {
            "ms" => 1,
            "s" | "" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        sum = sum.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = after.get(unit..)?;
    }
    (!text.is_empty()).then_some(sum)
}

/// An upstream as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Upstream {
    /// Its servers.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Servers that were removed and have connections still.
    #[serde(default)]
    pub zombies: u64,
}

/// All upstreams by name.
pub type Upstreams = BTreeMap<String, Upstream>;

/// A server as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Peer {
    /// As in [`Server::id`].
    pub id: u64,
    /// As in [`Server::server`].
    pub server: String,
    /// As in [`Server::backup`].
    #[serde(default)]
    pub backup: bool,
    /// As in [`Server::weight`].
    #[serde(default = "one")]
    pub weight: u32,
    /// As in [`Server::max_conns`].
    #[serde(default)]
    pub max_conns: u32,
    /// Whether it takes connections.
    #[serde(default)]
    pub state: PeerState,
    /// Connections that it has now.
    #[serde(default)]
    pub active: u64,
}

/// Whether a server takes connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// It does.
    Up,
    /// It was told not to.
    Down,
    /// Connections to it failed.
    Unavail,
    /// NGINX is about to find out.
    Checking,
    /// A health check says that it does not.
    Unhealthy,
    /// Something that this LBEX does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl PeerState {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Up, Self::Down, Self::Unavail, Self::Checking, Self::Unhealthy, Self::Unknown];

    /// The API's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unavail => "unavail",
            Self::Checking => "checking",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
        }
    }
}

/// Which NGINX answers: `GET /nginx`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NginxInfo {
    /// The version of the open-source NGINX that it is made of.
    pub version: String,
    /// `nginx-plus-rNN`.
    #[serde(default)]
    pub build: String,
    /// Reloads since the start.
    #[serde(default)]
    pub generation: u64,
    /// When the configuration was loaded, as text.
    #[serde(default)]
    pub load_timestamp: String,
    /// The worker that answers.
    #[serde(default)]
    pub pid: u64,
    /// Its master: another one after a restart.
    #[serde(default)]
    pub ppid: u64,
}

/// An error as the API words it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// See [`ErrorBody`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ErrorDetail {
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// For people.
    #[serde(default)]
    pub text: String,
    /// For programs: `UpstreamNotFound`.
    #[serde(default)]
    pub code: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_nginx_writes_them() {
        for (text, millis) in [("2s", 2000), ("2", 2000), ("2000ms", 2000), ("1m30s", 90_000), ("1h", 3_600_000)] {
            assert_eq!(parse_time(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "2x", "99999999999999999999s", "2 days"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_left_out_has_nginxs_defaults_and_what_is_new_is_ignored() {
        let text = r#"{"id": 7, "server": "[fd00::1]:80", "invented_later": {"a": 1}}"#;
        let server: Server = serde_json::from_str(text).expect("a server");
        assert_eq!((server.weight, server.max_fails, server.fail_timeout.as_str()), (1, 1, "10s"));
        assert_eq!(server.address(), Some("[fd00::1]:80".parse().expect("an address")));
        let patch = Patch::to_right(&server);
        assert_eq!(serde_json::to_string(&patch).expect("JSON"), r#"{"fail_timeout":"2s"}"#);
        let peer = r#"{"id": 0, "server": "10.0.0.1:80", "state": "draining"}"#;
        assert_eq!(serde_json::from_str::<Peer>(peer).expect("a peer").state, PeerState::Unknown);
    }

    #[test]
    fn servers_that_cannot_be_made_right_have_no_address() {
        let of = |text: &str| serde_json::from_str::<Server>(text).expect("a server").address();
        assert_eq!(of(r#"{"id": 1, "server": "10.0.0.1:80", "backup": true}"#), None);
        assert_eq!(of(r#"{"id": 1, "server": "10.0.0.1:80", "parent": 0}"#), None);
        assert_eq!(of(r#"{"id": 1, "server": "db.example.com:80"}"#), None);
        assert_eq!(of(r#"{"id": 1, "server": "unix:/run/x"}"#), None);
    }
}

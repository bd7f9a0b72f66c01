//! Which NGINX LBEX runs, and what it can do (contract section 1).
//!
//! [`find`] looks, and writes nothing: what is missing is an error that names the package to install.
//! [`Candidate::install`] then puts an embedded NGINX into the prefix. Both end in an [`NginxBinary`].

mod error;
mod find;
mod install;
mod version;

pub(crate) use install::hex;

use std::path::{Path, PathBuf};

pub use error::BinaryError;
pub use find::{Candidate, find};
pub use version::{NginxVersion, VersionReport};

/// The oldest NGINX that LBEX runs on.
pub const OLDEST_VERSION: NginxVersion = NginxVersion::new(1, 18, 0);

/// Which NGINX to use: the value of `--nginx`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NginxChoice {
    /// The embedded one where this build carries one that runs on this host, else that of the system.
    #[default]
    Auto,
    /// The embedded one, or an error.
    Embedded,
    /// `nginx` in `PATH`, or in one of the folders where packages put it.
    System,
    /// This executable.
    Path(PathBuf),
}

impl std::str::FromStr for NginxChoice {
    type Err = String;

    /// `auto`, `embedded`, `system`, or a path (it has a `/` in it).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "embedded" => Ok(Self::Embedded),
            "system" => Ok(Self::System),
            path if path.contains('/') => Ok(Self::Path(PathBuf::from(path))),
            _ => Err(format!("`{text}` is none of auto, embedded, system, or a path such as /usr/sbin/nginx")),
        }
    }
}

impl std::fmt::Display for NginxChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Embedded => f.write_str("embedded"),
            Self::System => f.write_str("system"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How an NGINX has the stream module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamSupport {
    /// Compiled in: nothing to load.
    BuiltIn,
    /// A shared object: the configuration has to start with `load_module` of this path (Debian, Fedora, Alpine).
    Dynamic {
        /// Absolute path of `ngx_stream_module.so`.
        module: PathBuf,
    },
}

impl StreamSupport {
    /// What the configuration has to load, in this order.
    pub fn modules_to_load(&self) -> Vec<&Path> {
        match self {
            Self::BuiltIn => Vec::new(),
            Self::Dynamic { module } => vec![module],
        }
    }
}

/// What an NGINX can do beyond what every version since [`OLDEST_VERSION`] can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent yes/no properties of a binary")]
pub struct NginxCapabilities {
    /// The commercial NGINX Plus.
    pub plus: bool,
    /// `least_time` in a stream upstream: NGINX Plus, and open source from 1.31.0.
    pub least_time: bool,
    /// `server NAME resolve` and `resolver` inside a stream upstream: NGINX Plus, and open source from 1.27.3.
    pub upstream_resolve: bool,
    /// The stream realip module (`set_real_ip_from`).
    pub realip: bool,
    /// The command line flag `-e` (error log before the configuration is read): from 1.19.5.
    pub error_log_flag: bool,
    /// LBEX's change `immediate-push`: `resolver ADDRESS push=on`, asked again 1 ms after an answer of TTL 0 or "no such name".
    pub immediate_push: bool,
    /// LBEX's change `hash-by-address`: `hash KEY consistent` tells the addresses of one resolved name apart.
    pub hash_by_address: bool,
    /// LBEX's change `retry-after-change`: a pending connection attempt survives a change of its upstream.
    pub retry_after_change: bool,
    /// LBEX's change `quiet-when-empty`: clients of an upstream that LBEX has emptied cost no line in the error log.
    pub quiet_when_empty: bool,
    /// LBEX's change `move-udp-sessions`: a client's datagram never goes to a server that was removed from its upstream.
    pub move_udp_sessions: bool,
}

/// Where an NGINX comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Carried by LBEX, written into the prefix.
    Embedded,
    /// Installed on the host.
    System,
}

/// An NGINX that was looked at and is fit to serve: recent enough, with the stream module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NginxBinary {
    /// Absolute path of the executable.
    pub path: PathBuf,
    /// Embedded or installed.
    pub origin: Origin,
    /// For instance 1.28.3.
    pub version: NginxVersion,
    /// How it calls itself, for instance `nginx/1.29.4 (nginx-plus-r36)`.
    pub banner: String,
    /// The arguments of its `configure`, unquoted, as `nginx -V` tells them.
    pub configure_arguments: Vec<String>,
    /// How it has the stream module.
    pub stream: StreamSupport,
    /// What it can do.
    pub capabilities: NginxCapabilities,
}

impl std::fmt::Display for NginxBinary {
    /// For a log line: `nginx/1.28.3 at PATH`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.banner, self.path.display())
    }
}

//! Settings, parsed once and validated (contract section 2). Raw values come in three layers (command line, environment,
//! settings file), each value with its origin; [`lower`] turns them into [`Settings`], whose parts are passed by value to
//! whoever needs them. Nothing else reads flags or the environment.

mod addresses;
mod backend;
mod error;
mod file;
mod host;
mod lower;
mod lower_logging;
pub(crate) mod nearest;
mod plus;
mod raw;
mod setting;
mod table;
pub(crate) mod values;
mod variables;

#[cfg(all(test, feature = "backend-nginx"))]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use lbex_core::names::PoolName;
use lbex_core::selector::{All, Anti, ByName, InPool, ServiceSelector, Strict};
use lbex_core::settings::PlanSettings;

pub use self::error::{KeyHint, SettingError, SettingErrors};
pub use self::host::Host;
pub use self::lower::{lower, lower_for_plugins, lower_for_validate};
pub use self::raw::{Origin, RawSettings, RawValue};
pub use self::setting::{Group, Kind, Setting, find};
pub use self::table::SETTINGS;
pub use self::variables::Environment;
use crate::admin::AdminSettings;
use crate::logging::LogSettings;
use crate::registry::{Backends, Linked};

/// Everything that the controller, and `lbex render`, are told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--proxy`, `--kubeconfig`, `--manifests`, or none of them: where the state of the cluster comes from.
    pub source: SourceSettings,
    /// `--namespace`: the namespaces to watch; none: all.
    pub namespaces: Vec<String>,
    /// `--endpoints-api`. Default auto.
    pub endpoints_api: EndpointsApi,
    /// Which Services this instance serves.
    pub selection: SelectionSettings,
    /// What planning depends on. The capabilities are the default ones: whoever knows the backend fills them in. Where health
    /// or metrics have port 0 nothing is reserved for them: whoever binds them knows the port.
    pub planning: PlanSettings,
    /// `--mass-removal-hold`: how long a removal of most objects by one list is held, or another cluster is not believed. `None`:
    /// off, and with `--manifests`, whose files are the operator's own. Default 5 min.
    pub mass_removal_hold: Option<Duration>,
    /// `--backend`. Default nginx.
    pub backend: BackendSettings,
    /// Which NGINX, and where it lives.
    pub nginx: NginxSettings,
    /// Where health and metrics are served: `--health-check`, `--health-address`, `--health-port`, `--metrics-address`.
    pub admin: AdminSettings,
    /// `--reload-interval`: at most one reload in this time. Default 1 s; 10 ms to 10 min.
    pub reload_interval: Duration,
    /// `--stop-proxy-on-exit`. Default auto.
    pub stop_proxy_on_exit: StopProxy,
    /// How to log.
    pub logging: LogSettings,
    /// What the operator should know about these settings; to be logged once logging is set up.
    pub warnings: Vec<String>,
}

/// What `lbex validate` is told.
#[derive(Debug, Clone)]
pub struct ValidateSettings {
    /// The files and folders to look at.
    pub files: Vec<PathBuf>,
    /// `--namespace`: look at these namespaces only; none: all.
    pub namespaces: Vec<String>,
    /// Which Services this instance would serve.
    pub selection: SelectionSettings,
    /// What planning depends on; for the capabilities see [`Settings::planning`].
    pub planning: PlanSettings,
    /// As in [`Settings`].
    pub backend: BackendSettings,
    /// Which NGINX.
    pub nginx: NginxSettings,
    /// How to log.
    pub logging: LogSettings,
    /// As in [`Settings`].
    pub warnings: Vec<String>,
}

/// Where the state of the cluster comes from. One method only, nothing else is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSettings {
    /// A `kubectl proxy` at this URL, which has a scheme (`http` or `https`) and a host.
    Proxy(Uri),
    /// A kubeconfig file; the path is absolute, nobody has looked at the file yet.
    Kubeconfig(PathBuf),
    /// The service account of the Pod that LBEX runs in.
    InCluster,
    /// A file or folder of manifests; the path is absolute, nobody has looked at it yet.
    Manifests(PathBuf),
}

/// `--endpoints-api`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointsApi {
    /// EndpointSlices where the API server has them, else Endpoints.
    Auto,
    /// `discovery.k8s.io/v1` EndpointSlices.
    EndpointSlices,
    /// `v1` Endpoints.
    Endpoints,
}

/// `--service-name`, `--service-pool`, `--strict-affinity`, `--anti-affinity` (contract section 3).
#[derive(Debug, Clone)]
pub struct SelectionSettings {
    /// `--service-name`.
    pub service_name: Option<ByName>,
    /// `--service-pool`.
    pub pool: Option<PoolName>,
    /// What the pool means.
    pub affinity: Affinity,
}

/// How an instance's pool decides which Services it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// Services of the pool, and those of none.
    InPool,
    /// `--strict-affinity`: Services of exactly the pool.
    Strict,
    /// `--anti-affinity`: Services of any other pool, or none.
    Anti,
}

impl SelectionSettings {
    /// The selector that these settings describe.
    pub fn selector(&self) -> All {
        let pool: Box<dyn ServiceSelector> = match self.affinity {
            Affinity::InPool => Box::new(InPool(self.pool.clone())),
            Affinity::Strict => Box::new(Strict(self.pool.clone())),
            Affinity::Anti => Box::new(Anti(self.pool.clone())),
        };
        let name = self.service_name.clone().map(|name| Box::new(name) as Box<dyn ServiceSelector>);
        All(name.into_iter().chain([pool]).collect())
    }
}

/// Which NGINX, and where it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NginxSettings {
    /// `--nginx`. Default auto; embedded only in builds that have it; a path is absolute.
    #[cfg(feature = "backend-nginx")]
    pub choice: lbex_backend_nginx::binary::NginxChoice,
    /// `--nginx-prefix`: absolute, and plain enough to be written into a configuration as it is (no spaces, quotes, ...).
    /// Default `/var/lib/lbex` as root, else `$XDG_STATE_HOME/lbex`, else `~/.local/state/lbex`.
    pub prefix: PathBuf,
    /// `--start-nginx`. Default: LBEX does.
    #[cfg(feature = "backend-nginx")]
    pub starter: lbex_backend_nginx::process::Starter,
    /// `--worker-shutdown-timeout`; `None`: off, the default.
    pub worker_shutdown_timeout: Option<Duration>,
    /// `--endpoint-updates`. Default auto.
    #[cfg(feature = "backend-nginx")]
    pub endpoint_updates: lbex_backend_nginx::EndpointUpdates,
}

/// `--backend`, with what is only its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendSettings {
    /// The open-source NGINX.
    #[cfg(feature = "backend-nginx")]
    Nginx,
    /// NGINX Plus.
    #[cfg(feature = "backend-nginx-plus")]
    NginxPlus(PlusSettings),
    /// A shared library.
    #[cfg(feature = "plugins")]
    Plugin(PluginSettings),
    /// What somebody has linked into a binary of their own.
    Linked(LinkedSettings),
}

/// What only the backend `nginx-plus` reads.
#[cfg(feature = "backend-nginx-plus")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlusSettings {
    /// `--nginx-plus-api`, sorted, each once. Empty: LBEX runs an NGINX Plus of its own.
    pub apis: Vec<lbex_backend_nginx_plus::api::ApiUrl>,
    /// `--nginx-plus-ca`, `--nginx-plus-client-cert`, `--nginx-plus-client-key`, `--nginx-plus-token-file`,
    /// `--nginx-plus-password-file`; paths are absolute.
    pub files: lbex_backend_nginx_plus::api::AccessFiles,
    /// `--drain-timeout`; `None`: off, the default.
    pub drain: Option<Duration>,
}

/// Which plugin, and what it is handed.
#[cfg(feature = "plugins")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginSettings {
    /// The library.
    pub library: PluginLibrary,
    /// How long its calls may take.
    pub deadlines: crate::plugin::Deadlines,
    /// `--backend-config`: absolute, nobody has looked at it yet.
    pub config: Option<PathBuf>,
}

/// How a plugin's library is given.
#[cfg(feature = "plugins")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PluginLibrary {
    /// By its path, which is absolute.
    Path(PathBuf),
    /// By the plugin's name, to be looked for in these folders (`--plugin-dir`).
    Name(String, Vec<PathBuf>),
}

/// Which backend that somebody has linked in, and what it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedSettings {
    /// The backend.
    pub backend: Linked,
    /// `--backend-config`: absolute, nobody has looked at it yet.
    pub config: Option<PathBuf>,
}

/// What `lbex backends` and `lbex plugin check` are told.
#[derive(Debug, Clone)]
pub struct PluginsSettings {
    /// The backends that this binary has.
    pub backends: Backends,
    /// `--plugin-dir`.
    pub dirs: Vec<PathBuf>,
    /// `--backend-config`.
    pub config: Option<PathBuf>,
    /// Which NGINX.
    pub nginx: NginxSettings,
    /// How to log.
    pub logging: LogSettings,
    /// As in [`Settings`].
    pub warnings: Vec<String>,
}

/// `--stop-proxy-on-exit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopProxy {
    /// Where LBEX is the first process (PID 1) of a container.
    Auto,
    /// The proxy ends with LBEX.
    Yes,
    /// The proxy goes on without LBEX.
    No,
}

/// Lays the layers over each other: `flags` (the command line), the environment, and the settings file that `--config` or
/// `LBEX_CONFIG` names. Returns warnings too.
pub fn layers(flags: RawSettings, environment: &Environment) -> Result<(RawSettings, Vec<String>), SettingErrors> {
    let (variables, warnings) = variables::read(environment)?;
    let given = flags.over(variables);
    let config = find("config").and_then(|config| given.last(config)).cloned();
    match config {
        None => Ok((given, warnings)),
        Some(path) => Ok((given.over(file::read(&path)?), warnings)),
    }
}

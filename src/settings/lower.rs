//! Lowering: raw values in, validated settings out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lbex_core::addresses::EndpointRules;
use lbex_core::duration::LONGEST;
use lbex_core::model::Protocol;
use lbex_core::names::{Label, PoolName};
use lbex_core::selector::ByName;
use lbex_core::settings::{PlanSettings, PortRanges, Reserved};

#[cfg(feature = "backend-nginx")]
use lbex_backend_nginx::{EndpointUpdates, binary::NginxChoice, process::Starter};

use super::addresses;
use super::error::{SettingError, SettingErrors};
use super::host::Host;
use super::lower_logging::logging;
use super::raw::{Origin, RawSettings, RawValue};
use super::setting::{Setting, find};
use super::values::{
    class, duration, hold, is_plain, listen_address, network, or_off, path, port_or_any, proxy_url, socket_address,
    switch, word,
};
use super::variables::Environment;
use super::{
    Affinity, EndpointsApi, NginxSettings, PluginsSettings, SETTINGS, SelectionSettings, Settings, SourceSettings,
    StopProxy, ValidateSettings,
};
use crate::admin::AdminSettings;
use crate::registry::Backends;

/// Validates everything that the controller and `lbex render` are told. `warnings` are those found so far.
pub fn lower(
    raw: &RawSettings,
    environment: &Environment,
    host: Host,
    backends: &Backends,
    warnings: Vec<String>,
) -> Result<Settings, SettingErrors> {
    let mut reader = Reader::new(raw, backends, warnings);
    let admin = reader.admin(host);
    let source = reader.source();
    let files = matches!(source, SourceSettings::Manifests(_));
    let settings = Settings {
        source,
        namespaces: reader.namespaces(),
        endpoints_api: reader.one(
            "endpoints-api",
            word(&[
                ("auto", EndpointsApi::Auto),
                ("endpointslices", EndpointsApi::EndpointSlices),
                ("endpoints", EndpointsApi::Endpoints),
            ]),
        ),
        selection: reader.selection(),
        planning: reader.planning(host, &admin, files),
        mass_removal_hold: reader.one("mass-removal-hold", hold).filter(|_| !files),
        backend: reader.backend(),
        nginx: reader.nginx(environment, host),
        admin,
        reload_interval: reader.one("reload-interval", duration(Duration::from_millis(10)..=Duration::from_secs(600))),
        stop_proxy_on_exit: reader.one("stop-proxy-on-exit", |text| match text {
            "auto" => Ok(StopProxy::Auto),
            text => switch(text).map(|yes| if yes { StopProxy::Yes } else { StopProxy::No }),
        }),
        logging: logging(&mut reader, environment),
        warnings: Vec::new(),
    };
    let warnings = reader.finish()?;
    Ok(Settings { warnings, ..settings })
}

/// Validates what `lbex validate` is told: everything but the access to a cluster.
pub fn lower_for_validate(
    files: Vec<PathBuf>,
    raw: &RawSettings,
    environment: &Environment,
    host: Host,
    backends: &Backends,
    warnings: Vec<String>,
) -> Result<ValidateSettings, SettingErrors> {
    let mut reader = Reader::new(raw, backends, warnings);
    let admin = reader.admin(host);
    let settings = ValidateSettings {
        files,
        namespaces: reader.namespaces(),
        selection: reader.selection(),
        planning: reader.planning(host, &admin, true),
        backend: reader.backend(),
        nginx: reader.nginx(environment, host),
        logging: logging(&mut reader, environment),
        warnings: Vec::new(),
    };
    let warnings = reader.finish()?;
    Ok(ValidateSettings { warnings, ..settings })
}

/// Validates what `lbex backends` and `lbex plugin check` are told.
pub fn lower_for_plugins(
    raw: &RawSettings,
    environment: &Environment,
    host: Host,
    backends: &Backends,
    warnings: Vec<String>,
) -> Result<PluginsSettings, SettingErrors> {
    let mut reader = Reader::new(raw, backends, warnings);
    let settings = PluginsSettings {
        backends: backends.clone(),
        dirs: reader.plugin_dirs(),
        config: reader.maybe("backend-config", path),
        nginx: reader.nginx(environment, host),
        logging: logging(&mut reader, environment),
        warnings: Vec::new(),
    };
    let warnings = reader.finish()?;
    Ok(PluginsSettings { warnings, ..settings })
}

/// Reads values and gathers what is wrong with them, so that all of it is told at once.
pub(super) struct Reader<'a> {
    raw: &'a RawSettings,
    pub(super) backends: &'a Backends,
    pub(super) errors: Vec<SettingError>,
    warnings: Vec<String>,
}

pub(super) fn known(name: &str) -> &'static Setting {
    find(name).unwrap_or_else(|| panic!("the table of settings has {name}"))
}

impl<'a> Reader<'a> {
    /// Begins with what is wrong whatever the values are: settings of a part of LBEX that the binary is without. A default asks for
    /// nothing.
    fn new(raw: &'a RawSettings, backends: &'a Backends, warnings: Vec<String>) -> Self {
        let absent = SETTINGS.iter().filter(|setting| !backends.has(setting.part));
        let given = absent.filter_map(|setting| Some((setting, raw.last(setting)?)));
        let given = given.filter(|(setting, value)| Some(value.text.as_str()) != setting.default);
        let errors = given.map(|(setting, value)| SettingError::Absent { setting, value: value.clone() }).collect();
        Self { raw, backends, errors, warnings }
    }

    fn finish(self) -> Result<Vec<String>, SettingErrors> {
        if self.errors.is_empty() { Ok(self.warnings) } else { Err(SettingErrors(self.errors)) }
    }

    pub(super) fn given(&self, name: &str) -> Option<&RawValue> {
        self.raw.last(known(name))
    }

    pub(super) fn refuse(&mut self, setting: &'static Setting, value: &RawValue, reason: String) {
        self.errors.push(SettingError::Invalid { setting, value: value.clone(), reason });
    }

    /// The value of a setting without a default, if it is given and valid.
    pub(super) fn maybe<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let value = self.given(name)?.clone();
        parse(&value.text).map_err(|reason| self.refuse(known(name), &value, reason)).ok()
    }

    /// The value of a setting that has a default. The default stands in for one that is not valid, until the errors are told.
    pub(super) fn one<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        if let Some(value) = self.maybe(name, &parse) {
            return value;
        }
        let default = known(name).default.and_then(|text| parse(text).ok());
        default.unwrap_or_else(|| panic!("the table of settings has a valid default for {name}"))
    }

    /// The valid values of a setting that may be given more than once; each may be several, separated by commas.
    pub(super) fn each<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut values = Vec::new();
        for given in self.raw.get(known(name)) {
            for text in given.text.split(',').map(str::trim).filter(|t| !t.is_empty()) {
                match parse(text) {
                    Ok(value) => values.push(value),
                    Err(reason) => {
                        self.refuse(known(name), &RawValue::new(text, given.origin.clone()), reason);
                    }
                }
            }
        }
        values
    }

    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    fn source(&mut self) -> SourceSettings {
        let manifests = self.maybe("manifests", path);
        let proxy = self.maybe("proxy", proxy_url);
        let kubeconfig = self.maybe("kubeconfig", path);
        for other in ["proxy", "kubeconfig"] {
            self.exclude("manifests", other);
        }
        if let (Some(proxy), Some(kubeconfig)) = (self.given("proxy"), self.given("kubeconfig")) {
            let warning =
                format!("--kubeconfig ({}) is not used: --proxy ({}) goes before it", kubeconfig.origin, proxy.origin);
            self.warn(warning);
        }
        match (manifests, proxy, kubeconfig) {
            (Some(path), _, _) => SourceSettings::Manifests(path),
            (None, Some(url), _) => SourceSettings::Proxy(url),
            (None, None, Some(path)) => SourceSettings::Kubeconfig(path),
            (None, None, None) => SourceSettings::InCluster,
        }
    }

    /// Two settings of which one only may be given.
    pub(super) fn exclude(&mut self, one: &str, other: &str) {
        if let (Some(one_value), Some(other_value)) = (self.given(one).cloned(), self.given(other).cloned()) {
            let (one, other) = (known(one), known(other));
            self.errors.push(SettingError::Excluded { one, one_value, other, other_value });
        }
    }

    fn namespaces(&mut self) -> Vec<String> {
        let mut namespaces =
            self.each("namespace", |text| Label::new(text).map(|l| l.to_string()).map_err(|_| String::new()));
        namespaces.sort_unstable();
        namespaces.dedup();
        namespaces
    }

    fn selection(&mut self) -> SelectionSettings {
        let strict = self.one("strict-affinity", switch);
        let anti = self.one("anti-affinity", switch);
        if strict && anti {
            self.warn("--strict-affinity and --anti-affinity are both given: strict affinity is used");
        }
        let affinity = match (strict, anti) {
            (true, _) => Affinity::Strict,
            (false, true) => Affinity::Anti,
            (false, false) => Affinity::InPool,
        };
        SelectionSettings {
            service_name: self.maybe("service-name", |text| ByName::parse(text).map_err(|_| String::new())),
            pool: self.maybe("service-pool", |text| PoolName::new(text).map_err(|_| String::new())),
            affinity,
        }
    }

    /// `files`: the objects are those of manifest files, which are the operator's own.
    fn planning(&mut self, host: Host, admin: &AdminSettings, files: bool) -> PlanSettings {
        let allow = self.each("allow-endpoint-cidrs", network);
        let timeout = || duration(Duration::from_millis(1)..=LONGEST);
        let mut given = self.each("listen-address", listen_address);
        if given.is_empty() {
            given.push(None);
        }
        let (listen, warnings) = addresses::distinct(&given, host.ipv6);
        self.warnings.extend(warnings);
        PlanSettings {
            load_balancer_class: self.one("load-balancer-class", class),
            require_port: self.one("require-port", switch),
            allow_external_name: self.one("allow-external-name", switch),
            allowed_ports: self.one("allowed-ports", |text| PortRanges::parse(text).map_err(|e| e.to_string())),
            reserved: self.reserved(admin),
            endpoints: if files { EndpointRules::trusting() } else { EndpointRules::allowing(allow) },
            listen: listen.into(),
            connect_timeout: self.one("connect-timeout", timeout()),
            tcp_idle_timeout: self.one("tcp-idle-timeout", timeout()),
            udp_idle_timeout: self.one("udp-idle-timeout", timeout()),
            ..PlanSettings::default()
        }
    }

    fn nginx(&mut self, environment: &Environment, host: Host) -> NginxSettings {
        let prefix = match self.given("nginx-prefix") {
            Some(_) => self.maybe("nginx-prefix", |text| {
                path(text).and_then(|path| if is_plain(&path) { Ok(path) } else { Err(String::new()) })
            }),
            None => self.default_prefix(environment, host),
        };
        let timeout = or_off(duration(Duration::from_secs(1)..=LONGEST));
        NginxSettings {
            #[cfg(feature = "backend-nginx")]
            choice: self.nginx_choice(),
            prefix: prefix.unwrap_or_default(),
            #[cfg(feature = "backend-nginx")]
            starter: self.one("start-nginx", word(&[("self", Starter::Own), ("service", Starter::Service)])),
            worker_shutdown_timeout: self.one("worker-shutdown-timeout", timeout),
            #[cfg(feature = "backend-nginx")]
            endpoint_updates: self.one(
                "endpoint-updates",
                word(&[
                    ("auto", EndpointUpdates::Auto),
                    ("push", EndpointUpdates::Push),
                    ("reload", EndpointUpdates::Reload),
                ]),
            ),
        }
    }

    #[cfg(feature = "backend-nginx")]
    fn nginx_choice(&mut self) -> NginxChoice {
        self.one("nginx", |text| match text.parse().map_err(|_| String::new())? {
            NginxChoice::Embedded if !cfg!(feature = "embedded-nginx") => {
                Err("this build of LBEX has no NGINX in it".to_owned())
            }
            NginxChoice::Path(_) => path(text).map(NginxChoice::Path),
            choice => Ok(choice),
        })
    }

    fn default_prefix(&mut self, environment: &Environment, host: Host) -> Option<PathBuf> {
        let folder = |name| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let prefix = if host.root {
            PathBuf::from("/var/lib/lbex")
        } else if let Some(state) = folder("XDG_STATE_HOME") {
            state.join("lbex")
        } else if let Some(home) = folder("HOME") {
            home.join(".local/state/lbex")
        } else {
            self.errors.push(SettingError::NoPrefix);
            return None;
        };
        if is_plain(&prefix) {
            return Some(prefix);
        }
        let value = RawValue::new(prefix.to_string_lossy(), Origin::Default);
        self.refuse(known("nginx-prefix"), &value, String::new());
        None
    }

    fn admin(&mut self, host: Host) -> AdminSettings {
        let port = self.one("health-port", port_or_any);
        let address = self.maybe("health-address", listen_address).flatten();
        let addresses = address.map_or_else(|| addresses::all(host.ipv6), |address| vec![address]);
        let health = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        AdminSettings {
            health: if self.one("health-check", switch) { health } else { Vec::new() },
            metrics: self.one("metrics-address", or_off(socket_address)),
        }
    }

    /// What Services cannot have because LBEX itself listens there. Health and metrics cannot share a port either: looked at
    /// before anything is bound, so that the message can say what to change.
    fn reserved(&mut self, admin: &AdminSettings) -> Vec<Reserved> {
        let reserved = |address, what| Reserved { protocol: Protocol::Tcp, address, what };
        let mut all: Vec<_> = admin.health.iter().map(|a| reserved(*a, "health")).collect();
        if let Some(metrics) = admin.metrics.map(|a| reserved(a, "metrics")) {
            let (ip, port) = (metrics.address.ip(), metrics.address.port());
            if let Some(taken) = all.iter().find(|h| port != 0 && h.covers(Protocol::Tcp, ip, port)) {
                let (health, metrics) = (taken.address, metrics.address);
                self.errors.push(SettingError::SharedPort { health, metrics });
            }
            all.push(metrics);
        }
        all.retain(|r| r.address.port() != 0);
        all
    }
}

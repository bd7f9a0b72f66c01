//! Contract section 2, row by row: what each setting becomes, where it may come from, and what is said when it is wrong.

use std::path::PathBuf;
use std::time::Duration;

use lbex_backend_nginx::EndpointUpdates;
use lbex_backend_nginx::binary::NginxChoice;
use lbex_core::settings::PlanSettings;

use super::*;
use crate::logging::{Destination, Format, LogSettings, Severity};

const HOST: Host = Host { ipv6: true, root: true };

fn flags(flags: &[(&str, &str)]) -> RawSettings {
    let mut layer = RawSettings::default();
    for (name, value) in flags {
        layer.add(find(name).unwrap(), RawValue::new(*value, Origin::CommandLine));
    }
    layer
}

fn settings_of(given: &[(&str, &str)], variables: &[(&str, &str)], host: Host) -> Result<Settings, SettingErrors> {
    let environment = variables.iter().copied().collect();
    let (raw, warnings) = layers(flags(given), &environment)?;
    lower(&raw, &environment, host, &Backends::built_in(), warnings)
}

fn lowered(given: &[(&str, &str)]) -> Settings {
    settings_of(given, &[], HOST).unwrap()
}

fn refused(given: &[(&str, &str)]) -> String {
    settings_of(given, &[], HOST).unwrap_err().to_string()
}

/// A settings file in a folder of its own.
struct File(tempfile::TempDir, PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Self(folder, path)
    }

    fn path(&self) -> &str {
        self.1.to_str().unwrap()
    }

    /// Errors with the path of the file made short.
    fn refused(&self) -> String {
        refused(&[("config", self.path())]).replace(self.0.path().to_str().unwrap(), "FOLDER")
    }
}

#[test]
fn defaults() {
    let settings = lowered(&[]);
    assert_eq!(settings.source, SourceSettings::InCluster);
    assert!(settings.namespaces.is_empty());
    assert_eq!(settings.endpoints_api, EndpointsApi::Auto);
    assert!(settings.selection.service_name.is_none() && settings.selection.pool.is_none());
    assert_eq!(settings.selection.affinity, Affinity::InPool);
    assert_eq!(
        settings.nginx,
        NginxSettings {
            choice: NginxChoice::Auto,
            starter: lbex_backend_nginx::process::Starter::Own,
            prefix: "/var/lib/lbex".into(),
            worker_shutdown_timeout: None,
            endpoint_updates: EndpointUpdates::Auto
        }
    );
    assert_eq!(settings.admin.health, ["0.0.0.0:7331".parse().unwrap(), "[::]:7331".parse().unwrap()]);
    assert_eq!(settings.admin.metrics, Some("127.0.0.1:7332".parse().unwrap()));
    assert_eq!(settings.reload_interval, Duration::from_secs(1));
    assert_eq!(settings.stop_proxy_on_exit, StopProxy::Auto);
    assert_eq!(settings.logging, LogSettings::default());
    assert_eq!(settings.warnings, [""; 0]);
}

#[test]
fn defaults_of_planning_are_those_of_the_core() {
    let (planning, core) = (lowered(&[]).planning, PlanSettings::default());
    assert_eq!(planning.load_balancer_class, core.load_balancer_class);
    assert_eq!(planning.require_port, core.require_port);
    assert_eq!(planning.allow_external_name, core.allow_external_name);
    assert_eq!(planning.allowed_ports, core.allowed_ports);
    assert_eq!(planning.connect_timeout, core.connect_timeout);
    assert_eq!(planning.tcp_idle_timeout, core.tcp_idle_timeout);
    assert_eq!(planning.udp_idle_timeout, core.udp_idle_timeout);
}

#[test]
fn sources() {
    let source = |given: &[(&str, &str)]| lowered(given).source;
    assert_eq!(source(&[("proxy", "localhost:8001")]), SourceSettings::Proxy("http://localhost:8001".parse().unwrap()));
    assert_eq!(source(&[("kubeconfig", "/k")]), SourceSettings::Kubeconfig("/k".into()));
    assert_eq!(source(&[("manifests", "/m")]), SourceSettings::Manifests("/m".into()));
    // The original's scripts hand on variables that may be empty.
    assert_eq!(source(&[("proxy", ""), ("kubeconfig", ""), ("manifests", "")]), SourceSettings::InCluster);
    let both = lowered(&[("proxy", "localhost:8001"), ("kubeconfig", "/k")]);
    assert!(matches!(both.source, SourceSettings::Proxy(_)));
    assert_eq!(
        both.warnings,
        ["--kubeconfig (from the command line) is not used: --proxy (from the command line) goes before it"]
    );
}

#[test]
fn manifests_exclude_the_cluster_wherever_it_is_given() {
    assert_eq!(
        refused(&[("manifests", "/m"), ("proxy", "p:1")]),
        "--manifests (\"/m\" from the command line) and --proxy (\"p:1\" from the command line) exclude each other: give one \
         of them"
    );
    let error = settings_of(&[("manifests", "/m")], &[("LBEX_KUBECONFIG", "/k")], HOST).unwrap_err();
    assert!(
        error.to_string().contains("--kubeconfig (\"/k\" from variable LBEX_KUBECONFIG) exclude each other"),
        "{error}"
    );
}

#[test]
fn selection() {
    let affinity = |given: &[(&str, &str)]| lowered(given).selection.affinity;
    assert_eq!(affinity(&[("strict-affinity", "true")]), Affinity::Strict);
    assert_eq!(affinity(&[("anti-affinity", "1")]), Affinity::Anti);
    assert_eq!(affinity(&[("strict-affinity", "F"), ("anti-affinity", "False")]), Affinity::InPool);
    let both = lowered(&[("strict-affinity", "t"), ("anti-affinity", "T")]);
    assert_eq!(both.selection.affinity, Affinity::Strict);
    assert_eq!(both.warnings, ["--strict-affinity and --anti-affinity are both given: strict affinity is used"]);
    let named = lowered(&[("service-name", "kube-system/dns"), ("service-pool", "Edge_1.a")]).selection;
    assert_eq!(named.service_name, Some(ByName::parse("kube-system/dns").unwrap()));
    assert_eq!(named.pool.unwrap().as_str(), "Edge_1.a");
    assert_eq!(named.service_name.iter().count() + 1, lowered(&[("service-name", "dns")]).selection.selector().0.len());
}

#[test]
fn lists_are_lists_wherever_they_come_from() {
    let file = File::new("lbex.yaml", "namespace: [b, a]\n");
    let names = ["a", "b"];
    assert_eq!(lowered(&[("namespace", "b"), ("namespace", "a"), ("namespace", "a")]).namespaces, names);
    assert_eq!(lowered(&[("namespace", "b, a,")]).namespaces, names);
    assert_eq!(settings_of(&[], &[("LBEX_NAMESPACE", "b,a")], HOST).unwrap().namespaces, names);
    assert_eq!(lowered(&[("config", file.path())]).namespaces, names);
    // A layer above replaces the list, it does not add to it.
    assert_eq!(lowered(&[("config", file.path()), ("namespace", "c")]).namespaces, ["c"]);
}

#[test]
fn listen_addresses_and_ports() {
    let listen = |given: &[(&str, &str)], ipv6| {
        let settings = settings_of(given, &[], Host { ipv6, ..HOST }).unwrap();
        (settings.planning.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), settings.warnings)
    };
    assert_eq!(listen(&[], true).0, ["0.0.0.0", "::"]);
    assert_eq!(listen(&[], false).0, ["0.0.0.0"]);
    let (kept, warnings) = listen(&[("listen-address", "10.0.0.1"), ("listen-address", "0.0.0.0")], true);
    assert_eq!(kept, ["0.0.0.0"]);
    assert_eq!(warnings, ["--listen-address 10.0.0.1 is left out: 0.0.0.0, which is given too, covers it"]);
    let allowed = lowered(&[("allowed-ports", "53,80,443,8000-8999")]).planning.allowed_ports;
    assert!(allowed.contains(8500) && !allowed.contains(81));
}

#[test]
fn own_ports_are_reserved() {
    let reserved = |given: &[(&str, &str)]| {
        lowered(given).planning.reserved.iter().map(|r| format!("{} {}", r.what, r.address)).collect::<Vec<_>>()
    };
    assert_eq!(reserved(&[]), ["health 0.0.0.0:7331", "health [::]:7331", "metrics 127.0.0.1:7332"]);
    assert_eq!(
        reserved(&[("health-address", "10.0.0.1"), ("health-port", "80"), ("metrics-address", "off")]),
        ["health 10.0.0.1:80"]
    );
    assert_eq!(reserved(&[("health-check", "false")]), ["metrics 127.0.0.1:7332"]);
    assert_eq!(
        refused(&[("metrics-address", "127.0.0.1:7331")]),
        "--health-port (0.0.0.0:7331) and --metrics-address (127.0.0.1:7331) are one port of one address: change one of them"
    );
    assert_eq!(reserved(&[("health-port", "0"), ("metrics-address", "127.0.0.1:0")]), [""; 0]);
    assert!(lowered(&[("metrics-address", "127.0.0.1:7331"), ("health-check", "0")]).admin.health.is_empty());
}

#[test]
fn proxy_settings() {
    let settings = lowered(&[
        ("nginx", "/opt/nginx/sbin/nginx"),
        ("nginx-prefix", "/srv/lbex"),
        ("worker-shutdown-timeout", "1m30s"),
        ("reload-interval", "250ms"),
        ("stop-proxy-on-exit", "true"),
        ("connect-timeout", "500ms"),
        ("tcp-idle-timeout", "1h30m"),
        ("udp-idle-timeout", "5s"),
        ("backend", "nginx"),
        ("endpoint-updates", "reload"),
        ("endpoints-api", "endpoints"),
        ("load-balancer-class", "example.com/edge"),
        ("require-port", "false"),
        ("allow-external-name", "true"),
    ]);
    assert_eq!(
        settings.nginx,
        NginxSettings {
            choice: NginxChoice::Path("/opt/nginx/sbin/nginx".into()),
            starter: lbex_backend_nginx::process::Starter::Own,
            prefix: "/srv/lbex".into(),
            worker_shutdown_timeout: Some(Duration::from_secs(90)),
            endpoint_updates: EndpointUpdates::Reload,
        }
    );
    assert_eq!(settings.reload_interval, Duration::from_millis(250));
    assert_eq!(settings.stop_proxy_on_exit, StopProxy::Yes);
    assert_eq!(settings.endpoints_api, EndpointsApi::Endpoints);
    let planning = settings.planning;
    assert_eq!(planning.connect_timeout, Duration::from_millis(500));
    assert_eq!(planning.tcp_idle_timeout, Duration::from_secs(5400));
    assert_eq!(planning.udp_idle_timeout, Duration::from_secs(5));
    assert_eq!(planning.load_balancer_class, "example.com/edge");
    assert!(!planning.require_port && planning.allow_external_name);
    assert_eq!(lowered(&[("nginx", "system")]).nginx.choice, NginxChoice::System);
    assert_eq!(lowered(&[("stop-proxy-on-exit", "auto")]).stop_proxy_on_exit, StopProxy::Auto);
    assert_eq!(lowered(&[("stop-proxy-on-exit", "f")]).stop_proxy_on_exit, StopProxy::No);
}

#[cfg(feature = "embedded-nginx")]
#[test]
fn the_embedded_nginx_may_be_asked_for() {
    assert_eq!(lowered(&[("nginx", "embedded")]).nginx.choice, NginxChoice::Embedded);
}

#[test]
fn the_prefix_follows_the_user() {
    let user = Host { root: false, ..HOST };
    let prefix = |variables: &[(&str, &str)]| settings_of(&[], variables, user).map(|s| s.nginx.prefix);
    assert_eq!(prefix(&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")]), Ok("/x/lbex".into()));
    assert_eq!(prefix(&[("XDG_STATE_HOME", "x"), ("HOME", "/h")]), Ok("/h/.local/state/lbex".into()));
    assert_eq!(prefix(&[]), Err(SettingError::NoPrefix.into()));
    assert!(
        prefix(&[("HOME", "/h o m e")]).unwrap_err().to_string().contains("\"/h o m e/.local/state/lbex\" by default")
    );
    assert_eq!(settings_of(&[("nginx-prefix", "/p")], &[], user).unwrap().nginx.prefix, PathBuf::from("/p"));
}

#[test]
fn logging_flags() {
    let logging = |given: &[(&str, &str)]| lowered(given).logging;
    assert_eq!(logging(&[("v", "2"), ("log-format", "json")]).verbosity, 2);
    assert_eq!(logging(&[("log-format", "json")]).format, Format::Json);
    let folder = |stderr| Destination::Folder { folder: "/l".into(), stderr };
    assert_eq!(logging(&[("log_dir", "/l")]).destination, folder(Severity::Error));
    assert_eq!(logging(&[("log_dir", "/l"), ("stderrthreshold", "WARNING")]).destination, folder(Severity::Warning));
    assert_eq!(logging(&[("log_dir", "/l"), ("stderrthreshold", "3")]).destination, folder(Severity::Fatal));
    assert_eq!(logging(&[("log_dir", "/l"), ("stderrthreshold", "info")]).destination, folder(Severity::Everything));
    assert_eq!(logging(&[("log_dir", "/l"), ("alsologtostderr", "true")]).destination, folder(Severity::Everything));
    assert_eq!(logging(&[("logtostderr", "false")]).destination, Destination::Stderr);
    let stderr = lowered(&[("log_dir", "/l"), ("logtostderr", "true")]);
    assert_eq!(stderr.logging.destination, Destination::Stderr);
    assert_eq!(stderr.warnings, ["--log_dir is not used: --logtostderr sends the log to standard error only"]);
    assert!(!settings_of(&[], &[("NO_COLOR", "1")], HOST).unwrap().logging.colour);
    assert!(!settings_of(&[], &[("TERM", "dumb")], HOST).unwrap().logging.colour);
}

// A binary that is without something says that of its settings, whatever their value is.
#[cfg(all(feature = "backend-nginx", feature = "backend-nginx-plus", feature = "plugins"))]
#[test]
fn every_bad_value_is_told_with_its_setting_and_what_is_allowed() {
    let mut texts = Vec::new();
    for (name, value) in [
        ("proxy", "ftp://x"),
        ("endpoints-api", "slices"),
        ("namespace", "Default"),
        ("service-name", "a/b/c"),
        ("service-pool", "a b"),
        ("strict-affinity", "yes"),
        ("anti-affinity", ""),
        ("require-port", "2"),
        ("load-balancer-class", "lbex.io/"),
        ("allow-external-name", "on"),
        ("listen-address", "10.0.0.1:80"),
        ("allowed-ports", "53,8O"),
        ("nginx", "nginx"),
        ("nginx-prefix", "/a b"),
        ("connect-timeout", "0s"),
        ("tcp-idle-timeout", "60"),
        ("udp-idle-timeout", "366d"),
        ("endpoint-updates", "poll"),
        ("reload-interval", "0"),
        ("worker-shutdown-timeout", "on"),
        ("stop-proxy-on-exit", "maybe"),
        ("health-check", "x"),
        ("health-port", "99999"),
        ("health-address", "localhost"),
        ("metrics-address", "7332"),
        ("log-format", "xml"),
        ("v", "high"),
        ("vmodule", "engine"),
        ("logtostderr", "x"),
        ("alsologtostderr", "x"),
        ("stderrthreshold", "4"),
        ("log_backtrace_at", "engine.rs"),
        ("mass-removal-hold", "5x"),
        ("allow-endpoint-cidrs", "10.0.0.0/33"),
        ("drain-timeout", "later"),
        ("config", "/nowhere/lbex.yaml"),
        ("config", "/etc/hostname"),
    ] {
        let text = refused(&[(name, value)]);
        assert_eq!(text.lines().count(), 1, "{text}");
        texts.push(text);
    }
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn errors_name_where_the_value_came_from_and_come_all_at_once() {
    let file = File::new("lbex.yaml", "health_port: 70000\n");
    let error =
        settings_of(&[("config", file.path()), ("connect-timeout", "0s")], &[("LBEX_SERVICE_POOL", "no pool")], HOST);
    let text = error.unwrap_err().to_string().replace(file.path(), "FILE");
    insta::assert_snapshot!(text, @r#"
    --health-port: "70000" from key health_port of settings file FILE is not valid; allowed: a port from 1 to 65535, or 0 for any that is free
    --service-pool: "no pool" from variable LBEX_SERVICE_POOL is not valid; allowed: 1-63 of A-Z, a-z, 0-9, with '-', '_' and '.' inside
    --connect-timeout: "0s" from the command line is not valid (too short); allowed: a duration such as 500ms, 3s, 5m, 1h or 1h30m, from 1ms to 365d
    "#);
}

#[test]
fn hostile_text_stays_on_one_short_line() {
    let text = refused(&[("service-pool", &"x\n\u{1b}[2J".repeat(10_000))]);
    assert!(text.len() < 500 && !text.contains(['\n', '\u{1b}']), "{text}");
}

#[test]
#[cfg(feature = "plugins")]
fn plugins_are_given_by_path_or_by_name() {
    use super::{BackendSettings, PluginLibrary, PluginSettings};
    use crate::plugin::Deadlines;
    let plugin = |library, config: Option<&str>| {
        BackendSettings::Plugin(PluginSettings {
            library,
            deadlines: Deadlines::default(),
            config: config.map(Into::into),
        })
    };
    let given = lowered(&[("backend", "/opt/plugin.so"), ("backend-config", "/c")]).backend;
    assert_eq!(given, plugin(PluginLibrary::Path("/opt/plugin.so".into()), Some("/c")));
    let given = lowered(&[("backend", "./plugin.so")]).backend;
    assert_eq!(given, plugin(PluginLibrary::Path(std::path::absolute("plugin.so").unwrap()), None));
    let given = lowered(&[("backend", "my-proxy"), ("plugin-dir", "/p"), ("plugin-dir", "/q")]).backend;
    assert_eq!(given, plugin(PluginLibrary::Name("my-proxy".to_owned(), vec!["/p".into(), "/q".into()]), None));
    assert_eq!(lowered(&[("plugin-dir", "/p")]).backend, BackendSettings::Nginx, "a folder alone asks for nothing");
    for bad in ["My-Proxy", "plugin.so", "-x", "a b"] {
        let error = refused(&[("backend", bad)]);
        assert!(error.contains(", the path of a plugin with a '/' in it, or a plugin's name"), "{bad}: {error}");
        assert!(error.contains("allowed: nginx, "), "{bad}: {error}");
    }
    let error = refused(&[("backend-config", "/c")]);
    assert_eq!(
        error,
        "--backend-config: \"/c\" from the command line is not valid (LBEX's own backends read none); allowed: the path of a file"
    );
}

#[cfg(feature = "backend-nginx-plus")]
#[test]
fn nginx_plus_here_and_elsewhere() {
    let plus = |more: &[(&str, &str)]| {
        let settings = lowered(&[&[("backend", "nginx-plus")], more].concat());
        match settings.backend {
            BackendSettings::NginxPlus(plus) => (plus, settings.warnings),
            other => panic!("{more:?}: {other:?}"),
        }
    };
    let (here, warnings) = plus(&[("drain-timeout", "30s")]);
    assert_eq!((here.apis.len(), here.drain, warnings.len()), (0, Some(Duration::from_secs(30)), 0));
    assert_eq!(plus(&[("drain-timeout", "0s")]).0.drain, None);
    let (elsewhere, warnings) = plus(&[
        ("nginx-plus-api", "https://b:8443, http://a"),
        ("nginx-plus-api", "http://a/api"),
        ("nginx-plus-token-file", "/run/token"),
        ("nginx", "system"),
    ]);
    let urls: Vec<String> = elsewhere.apis.iter().map(ToString::to_string).collect();
    assert_eq!(urls, ["http://a/api", "https://b:8443/api"]);
    assert_eq!(warnings.len(), 2, "a token in the clear, and an NGINX that is not used: {warnings:?}");
    let mut texts = Vec::new();
    for more in [
        &[("nginx-plus-api", "10.0.0.1:80")][..],
        &[("nginx-plus-api", "http://u:p@a")],
        &[("nginx-plus-ca", "/ca")],
        &[("nginx-plus-api", "https://a"), ("nginx-plus-client-cert", "/cert")],
        &[("nginx-plus-api", "https://a"), ("nginx-plus-token-file", "/t"), ("nginx-plus-password-file", "/p")],
    ] {
        texts.push(refused(&[&[("backend", "nginx-plus")], more].concat()));
    }
    for own in [("drain-timeout", "30s"), ("nginx-plus-api", "http://a")] {
        texts.push(refused(&[own]));
    }
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn how_long_removals_are_held() {
    let minutes = |count: u64| Some(Duration::from_secs(60 * count));
    let cases = [("5m", minutes(5)), ("1h", minutes(60)), ("off", None), ("0", None), ("0s", None)];
    assert_eq!(lowered(&[]).mass_removal_hold, minutes(5));
    for (text, held) in cases {
        assert_eq!(lowered(&[("mass-removal-hold", text)]).mass_removal_hold, held, "{text}");
        let files = lowered(&[("mass-removal-hold", text), ("manifests", "/m")]);
        assert_eq!(files.mass_removal_hold, None, "files are the operator's");
    }
}

#[test]
fn endpoint_networks_are_allowed_beyond_those_that_everybody_may_use() {
    let refused = |given: &[(&str, &str)], address: &str| {
        lowered(given).planning.endpoints.refusal(address.parse().unwrap()).is_some()
    };
    assert!(refused(&[], "127.0.0.1") && refused(&[], "169.254.169.254") && !refused(&[], "10.0.0.1"));
    let two = [("allow-endpoint-cidrs", "127.0.9.1/24,fe80::1"), ("allow-endpoint-cidrs", "169.254.20.10")];
    assert!(!refused(&two, "127.0.9.200") && !refused(&two, "fe80::1") && !refused(&two, "169.254.20.10"));
    assert!(refused(&two, "127.0.0.1") && refused(&two, "169.254.169.254"));
    assert!(!refused(&[("manifests", "/m")], "127.0.0.1"));
}

#[test]
fn the_command_line_goes_before_variables_they_before_the_file_it_before_defaults() {
    let file = File::new("lbex.toml", "health-port = 1\nservice-pool = \"file\"\nmetrics_address = \"off\"\n");
    let variables = [
        ("LBEX_CONFIG", file.path()),
        ("LBEX_HEALTH_PORT", "2"),
        ("LBEX_SERVICE_POOL", "variable"),
        ("LBEX_PROXY", ""),
    ];
    let settings = settings_of(&[("health-port", "4"), ("health-port", "3")], &variables, HOST).unwrap();
    assert_eq!(settings.admin.health[0].port(), 3);
    assert_eq!(settings.selection.pool.unwrap().as_str(), "variable");
    assert_eq!(settings.admin.metrics, None);
    assert_eq!(settings.reload_interval, Duration::from_secs(1));
    // An empty flag takes back what is said below it, as in the original.
    let settings = settings_of(&[("service-pool", "")], &variables, HOST).unwrap();
    assert!(settings.selection.pool.is_none());
    let settings = settings_of(&[("config", "")], &variables, HOST).unwrap();
    assert_eq!(settings.admin.metrics, Some("127.0.0.1:7332".parse().unwrap()));
}

#[test]
fn settings_files_of_all_formats_say_the_same() {
    let yaml = "# comment\nservice-pool: edge\nlisten_address: [10.0.0.1, '::1']\nallowed-ports: [53, 8000-8999]\n\
                require-port: false\nmetrics-address: off\nreload-interval: 2s\nhealth-port: 80\nservice-name: ~\n\
                stop-proxy-on-exit: true\n";
    let toml = "service_pool = 'edge'\nlisten-address = ['10.0.0.1', '::1']\nallowed-ports = '53,8000-8999'\n\
                require-port = false\nmetrics-address = 'off'\nreload-interval = '2s'\nhealth-port = 80\n\
                stop-proxy-on-exit = 'true'\n";
    let json = r#"{"service-pool": "edge", "listen-address": ["10.0.0.1", "::1"], "allowed-ports": "53,8000-8999",
                "require-port": "false", "metrics-address": "off", "reload-interval": "2s", "health-port": "80",
                "service-name": null, "stop-proxy-on-exit": true}"#;
    for (name, text) in [("a.yaml", yaml), ("a.YML", yaml), ("a.toml", toml), ("a.json", json)] {
        let settings = lowered(&[("config", File::new(name, text).path())]);
        assert_eq!(settings.selection.pool.unwrap().as_str(), "edge", "{name}");
        assert_eq!(
            *settings.planning.listen,
            ["10.0.0.1".parse::<std::net::IpAddr>().unwrap(), "::1".parse().unwrap()]
        );
        assert_eq!(settings.planning.allowed_ports.to_string(), "53,8000-8999");
        assert!(!settings.planning.require_port);
        assert_eq!((settings.admin.metrics, settings.reload_interval), (None, Duration::from_secs(2)));
        assert_eq!(settings.admin.health[0].port(), 80);
        assert!(settings.selection.service_name.is_none());
        assert_eq!(settings.stop_proxy_on_exit, StopProxy::Yes);
    }
    for name in ["empty.yaml", "empty.toml"] {
        assert_eq!(lowered(&[("config", File::new(name, "# nothing\n").path())]).source, SourceSettings::InCluster);
    }
}

#[test]
fn every_key_of_a_file_is_a_flag() {
    for setting in SETTINGS.iter().filter(|s| !s.command_line_only && s.name != "config") {
        let text = if setting.many { format!("{}: [x]\n", setting.name) } else { format!("{}: 'x'\n", setting.name) };
        let given = RawValue::new(File::new("a.yaml", &text).path(), Origin::CommandLine);
        // The folder is gone by now: keep it.
        assert!(file::read(&given).is_err());
        let file = File::new("a.yaml", &text);
        let read = file::read(&RawValue::new(file.path(), Origin::CommandLine)).unwrap();
        assert_eq!(read.get(setting)[0].text, "x", "{}", setting.name);
    }
}

#[test]
fn what_is_wrong_with_a_file_is_told() {
    let mut texts = Vec::new();
    for (name, text) in [
        ("a.yaml", "service-pol: x\n"),
        ("a.yaml", "xyzzy: x\n"),
        ("a.yaml", "v: 2\n"),
        ("a.yaml", "config: other.yaml\n"),
        ("a.yaml", "service-pool: 0123\n"),
        ("a.yaml", "service-pool: 1.10\n"),
        ("a.yaml", "service-pool: true\n"),
        ("a.yaml", "service-pool: [a]\n"),
        ("a.yaml", "namespace: {a: b}\n"),
        ("a.yaml", "namespace: [1]\n"),
        ("a.yaml", "require-port: 1\n"),
        ("a.yaml", "reload-interval: 5\n"),
        ("a.yaml", "service-pool: a\nservice_pool: b\n"),
        ("a.yaml", "require-port: true\nrequired-port: false\n"),
        ("a.yaml", "a: [\n"),
        ("a.yaml", "- a\n"),
        ("a.yaml", "a: b\n---\nc: d\n"),
        ("a.toml", "service-pool = \n"),
        ("a.json", "{\"a\": }"),
        ("a.ini", "a=b"),
        ("lbex", "a: b"),
    ] {
        texts.push(format!("{:?}\n    {}", text, File::new(name, text).refused()));
    }
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn validate_looks_at_no_access_to_a_cluster() {
    let environment =
        [("LBEX_KUBECONFIG", "/k"), ("LBEX_MANIFESTS", "/m"), ("LBEX_SERVICE_POOL", "edge")].into_iter().collect();
    let (raw, warnings) = layers(flags(&[("namespace", "a")]), &environment).unwrap();
    let settings =
        lower_for_validate(vec!["/f".into()], &raw, &environment, HOST, &Backends::built_in(), warnings).unwrap();
    assert_eq!(settings.files, [PathBuf::from("/f")]);
    assert_eq!(settings.namespaces, ["a"]);
    assert_eq!(settings.selection.pool.unwrap().as_str(), "edge");
}

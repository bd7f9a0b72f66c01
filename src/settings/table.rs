//! The one table of settings. The command line, the environment, settings files, `--help` and error texts are all
//! made from it, so that nothing about a setting is written twice.

use super::setting::{Group, Kind, Setting};
use crate::registry::Part;

const BASE: Setting = Setting {
    name: "",
    aliases: &[],
    kind: Kind::Text,
    many: false,
    value_name: "",
    default: None,
    default_words: None,
    group: Group::General,
    help: "",
    allowed: "",
    part: Part::Every,
    command_line_only: false,
};

const SWITCH: Setting =
    Setting { kind: Kind::Switch, value_name: "BOOL", default: Some("false"), allowed: "true or false", ..BASE };

const TIMEOUT: Setting = Setting {
    kind: Kind::Duration,
    value_name: "DURATION",
    group: Group::Proxy,
    allowed: "a duration such as 500ms, 3s, 5m, 1h or 1h30m, from 1ms to 365d",
    ..BASE
};

/// Every setting, in the order of `--help`.
pub static SETTINGS: &[Setting] = &[
    Setting {
        name: "config",
        kind: Kind::File,
        value_name: "FILE",
        help: "Read settings from this file: YAML, TOML or JSON, told by its ending. Keys are the names of flags, repeatable \
               ones are lists. Variables and the command line go before it",
        allowed: "the path of a file that ends in .yaml, .yml, .toml or .json",
        ..BASE
    },
    Setting {
        name: "version",
        help: "Print version, commit, built-in backends and plugin ABI version, and exit",
        default: None,
        command_line_only: true,
        ..SWITCH
    },
    // Cluster access
    Setting {
        name: "proxy",
        value_name: "URL",
        group: Group::ClusterAccess,
        help: "Reach the API server through a `kubectl proxy` that runs there, for instance 127.0.0.1:8001. Goes before --kubeconfig",
        allowed: "host:port, or a URL that begins with http:// or https://",
        ..BASE
    },
    Setting {
        name: "kubeconfig",
        kind: Kind::File,
        value_name: "PATH",
        group: Group::ClusterAccess,
        help: "Reach the API server as this kubeconfig file says. Without --proxy, --kubeconfig and --manifests the service \
               account of the Pod that LBEX runs in is used; no other place is looked at, $KUBECONFIG and ~/.kube/config neither",
        allowed: "the path of a file",
        ..BASE
    },
    Setting {
        name: "manifests",
        kind: Kind::File,
        value_name: "PATH",
        group: Group::ClusterAccess,
        help: "Take Services, Nodes, EndpointSlices and Endpoints from a YAML or JSON file, or from those in a folder, and follow \
               their changes. Needs no cluster; not together with --proxy or --kubeconfig",
        allowed: "the path of a file or folder",
        ..BASE
    },
    Setting {
        name: "endpoints-api",
        kind: Kind::Choice(&["auto", "endpointslices", "endpoints"]),
        value_name: "API",
        default: Some("auto"),
        group: Group::ClusterAccess,
        help: "Which API endpoints are read from. auto: EndpointSlices where the API server has them, else Endpoints",
        allowed: "auto, endpointslices or endpoints",
        ..BASE
    },
    Setting {
        name: "mass-removal-hold",
        kind: Kind::Duration,
        value_name: "DURATION|off",
        default: Some("5m"),
        group: Group::ClusterAccess,
        help: "Where one complete list lacks more than half of 10 or more known Services, Nodes or endpoints, or another cluster \
               answers, go on with what was known for this long. SIGUSR1 ends that at once. off: believe every list",
        allowed: "off, or a duration up to 365d",
        ..BASE
    },
    // Which Services
    Setting {
        name: "namespace",
        many: true,
        value_name: "NS",
        default_words: Some("all"),
        group: Group::WhichServices,
        help: "Watch only this namespace. May be given more than once",
        allowed: "the name of a namespace: 1-63 of a-z, 0-9 and '-', beginning and ending with a letter or digit",
        ..BASE
    },
    Setting {
        name: "service-name",
        value_name: "NAME",
        group: Group::WhichServices,
        help: "Serve this one Service only: NAME in any namespace, or NAMESPACE/NAME",
        allowed: "NAME or NAMESPACE/NAME, each 1-63 of a-z, 0-9 and '-', beginning and ending with a letter or digit",
        ..BASE
    },
    Setting {
        name: "service-pool",
        value_name: "POOL",
        group: Group::WhichServices,
        help: "The pool that this instance belongs to: Services of this pool are served, and those of none",
        allowed: lbex_core::names::PoolName::ALLOWED,
        ..BASE
    },
    Setting {
        name: "strict-affinity",
        group: Group::WhichServices,
        help: "Serve only Services whose pool is exactly --service-pool. Goes before --anti-affinity",
        ..SWITCH
    },
    Setting {
        name: "anti-affinity",
        group: Group::WhichServices,
        help: "Serve only Services whose pool is not --service-pool",
        ..SWITCH
    },
    Setting {
        name: "require-port",
        aliases: &["required-port"],
        default: Some("true"),
        group: Group::WhichServices,
        help: "Serve a port of a Service only where an annotation says which port to listen on; false: else on the Service's own \
               port",
        ..SWITCH
    },
    Setting {
        name: "load-balancer-class",
        value_name: "CLASS",
        default: Some("lbex.io/lbex"),
        group: Group::WhichServices,
        help: "The spec.loadBalancerClass by which Services of type LoadBalancer ask for LBEX",
        allowed: "a name with an optional prefix, such as lbex.io/lbex",
        ..BASE
    },
    Setting {
        name: "allow-external-name",
        group: Group::WhichServices,
        help: "Serve Services of type ExternalName too. Whoever may write a Service can then reach any name that resolves",
        ..SWITCH
    },
    // Ports and addresses
    Setting {
        name: "listen-address",
        many: true,
        value_name: "ADDR",
        default_words: Some("0.0.0.0 and, where the host has IPv6, ::"),
        group: Group::Ports,
        help: "Listen on this address, IPv4 or IPv6. May be given more than once",
        allowed: "an IPv4 or IPv6 address of this host without a port, 0.0.0.0, :: or all",
        ..BASE
    },
    Setting {
        name: "allowed-ports",
        kind: Kind::Ports,
        value_name: "RANGES",
        default: Some("1-65535"),
        group: Group::Ports,
        help: "The ports that Services may claim, for instance 53,80,443,8000-8999",
        allowed: "ports from 1 to 65535 and ranges of them, separated by commas, such as 53,80,443,8000-8999",
        ..BASE
    },
    Setting {
        name: "allow-endpoint-cidrs",
        many: true,
        value_name: "CIDR",
        group: Group::Ports,
        help: "Send traffic to endpoints of the API server in this network, too, where they are loopback, link-local or a cloud's \
               metadata service, which are refused otherwise. May be given more than once",
        allowed: "a network such as 10.0.0.0/8 or fd00::/8, or an address",
        ..BASE
    },
    // Proxy
    Setting {
        name: "backend",
        // As LBEX itself is built; what a binary really has `crate::registry` says.
        kind: Kind::Choice(&["nginx", "nginx-plus"]),
        value_name: "NAME",
        default: Some("nginx"),
        group: Group::Proxy,
        help: "The proxy that carries the traffic: nginx, nginx-plus (on this host, or elsewhere: --nginx-plus-api), the path of a \
               plugin, or the name of one in --plugin-dir",
        allowed: "nginx, nginx-plus, the path of a plugin with a '/' in it, or a plugin's name: 1-64 of a-z, 0-9 and '-'",
        ..BASE
    },
    Setting {
        name: "nginx",
        kind: Kind::Choice(&["auto", "embedded", "system"]),
        value_name: "WHICH",
        default: Some("auto"),
        group: Group::Proxy,
        help: "Which NGINX: embedded (the one inside this binary), system (nginx from PATH, then from /usr/sbin and other usual \
               folders), the path of one, or auto: embedded where this build has it, else system",
        allowed: "auto, embedded, system, or a path with a '/' in it",
        part: Part::Nginx,
        ..BASE
    },
    Setting {
        name: "nginx-prefix",
        kind: Kind::Folder,
        value_name: "DIR",
        default_words: Some("/var/lib/lbex as root, else $XDG_STATE_HOME/lbex or ~/.local/state/lbex"),
        group: Group::Proxy,
        help: "The folder of LBEX's state and NGINX's files, one for each LBEX on a host",
        allowed: "the path of a folder, without spaces, control characters and any of \" ' ; { } $ # \\",
        ..BASE
    },
    Setting {
        name: "start-nginx",
        kind: Kind::Choice(&["self", "service"]),
        value_name: "BY",
        default: Some("self"),
        group: Group::Proxy,
        help: "Who starts NGINX. self: LBEX. service: `lbex proxy`, which runs with the same --nginx-prefix as a service of its own; LBEX \
               never does, so that a supervisor that ends one of the two does not end the other",
        allowed: "self or service",
        part: Part::Nginx,
        ..BASE
    },
    Setting {
        name: "connect-timeout",
        default: Some("3s"),
        help: "How long a connection to an endpoint may take. A Service may say otherwise by annotation",
        ..TIMEOUT
    },
    Setting {
        name: "tcp-idle-timeout",
        default: Some("1h"),
        help: "After how much silence a TCP connection ends. A Service may say otherwise by annotation",
        ..TIMEOUT
    },
    Setting {
        name: "udp-idle-timeout",
        default: Some("60s"),
        help: "After how much silence a UDP session ends. A Service may say otherwise by annotation",
        ..TIMEOUT
    },
    Setting {
        name: "endpoint-updates",
        kind: Kind::Choice(&["auto", "push", "reload"]),
        value_name: "HOW",
        default: Some("auto"),
        group: Group::Proxy,
        help: "How changes of endpoints reach NGINX. push: without a reload, at once with the embedded NGINX, within a second with \
               another from 1.27.3. reload: by reload. auto: push where NGINX can",
        allowed: "auto, push or reload",
        part: Part::Nginx,
        ..BASE
    },
    Setting {
        name: "reload-interval",
        default: Some("1s"),
        help: "The proxy is reloaded once in this time at the most; the first of several changes goes through at once",
        allowed: "a duration from 10ms to 10m",
        ..TIMEOUT
    },
    Setting {
        name: "worker-shutdown-timeout",
        value_name: "DURATION|off",
        default: Some("off"),
        help: "After a reload, end connections that stay on old workers for longer than this. off: they may stay for ever",
        allowed: "off, or a duration from 1s to 365d",
        ..TIMEOUT
    },
    Setting {
        name: "stop-proxy-on-exit",
        kind: Kind::AutoSwitch,
        value_name: "auto|BOOL",
        default: Some("auto"),
        group: Group::Proxy,
        help: "Whether the proxy ends with LBEX. auto: only where LBEX is the first process of a container",
        allowed: "auto, true or false",
        ..BASE
    },
    // NGINX Plus
    Setting {
        name: "drain-timeout",
        default: Some("off"),
        value_name: "DURATION|off",
        group: Group::Plus,
        help: "Endpoints that are gone get no new connections at once, and are removed from NGINX Plus when they have none left, or \
               after this time. off: they are removed at once; the connections that they have go on either way",
        allowed: "off, or a duration up to 365d",
        part: Part::NginxPlus,
        ..TIMEOUT
    },
    Setting {
        name: "nginx-plus-api",
        many: true,
        value_name: "URL",
        group: Group::Plus,
        help: "The API of an NGINX Plus elsewhere, for instance https://10.0.0.1:8443/api; may be given more than once. Upstreams \
               that exist there by name (PORT.PROTOCOL.NAMESPACE.SERVICE, such as 443.tcp.default.web) get the servers of their \
               Service; LBEX starts no NGINX and changes nothing else",
        allowed: "a URL that begins with http:// or https://, without user name, password and query; or unix:/PATH",
        part: Part::NginxPlus,
        ..BASE
    },
    Setting {
        name: "nginx-plus-ca",
        kind: Kind::File,
        value_name: "FILE",
        default_words: Some("the host's authorities"),
        group: Group::Plus,
        help: "The authorities (PEM) that may have signed the certificate of an API with https. This file and the next four are read \
               again when they change",
        allowed: "the path of a file",
        part: Part::NginxPlus,
        ..BASE
    },
    Setting {
        name: "nginx-plus-client-cert",
        kind: Kind::File,
        value_name: "FILE",
        group: Group::Plus,
        help: "The client certificate (PEM) that LBEX shows the API; with --nginx-plus-client-key",
        allowed: "the path of a file",
        part: Part::NginxPlus,
        ..BASE
    },
    Setting {
        name: "nginx-plus-client-key",
        kind: Kind::File,
        value_name: "FILE",
        group: Group::Plus,
        help: "The key (PEM) of --nginx-plus-client-cert",
        allowed: "the path of a file",
        part: Part::NginxPlus,
        ..BASE
    },
    Setting {
        name: "nginx-plus-token-file",
        kind: Kind::File,
        value_name: "FILE",
        group: Group::Plus,
        help: "A file with the bearer token that LBEX shows the API",
        allowed: "the path of a file",
        part: Part::NginxPlus,
        ..BASE
    },
    Setting {
        name: "nginx-plus-password-file",
        kind: Kind::File,
        value_name: "FILE",
        group: Group::Plus,
        help: "A file whose first line is NAME:PASSWORD, which LBEX shows the API (basic authentication)",
        allowed: "the path of a file",
        part: Part::NginxPlus,
        ..BASE
    },
    Setting {
        name: "plugin-dir",
        kind: Kind::Folder,
        many: true,
        value_name: "DIR",
        default_words: Some("/usr/local/lib/lbex/plugins and /usr/lib/lbex/plugins"),
        group: Group::Proxy,
        help: "Look for plugins in this folder: --backend NAME takes libNAME.so, liblbex_NAME.so or liblbex_plugin_NAME.so. May be given \
               more than once; the first that has it counts",
        allowed: "the path of a folder",
        part: Part::Plugins,
        ..BASE
    },
    Setting {
        name: "backend-config",
        kind: Kind::File,
        value_name: "FILE",
        group: Group::Proxy,
        help: "Hand this file to the backend that --backend names, where it is none of LBEX's own; what it may hold that one says",
        allowed: "the path of a file",
        part: Part::Others,
        ..BASE
    },
    // Health and metrics
    Setting {
        name: "health-check",
        default: Some("true"),
        group: Group::Health,
        help: "Serve the health endpoint",
        ..SWITCH
    },
    Setting {
        name: "health-port",
        kind: Kind::Number,
        value_name: "PORT",
        default: Some("7331"),
        group: Group::Health,
        help: "The port of the health endpoint: / (also for load balancers in front), /livez and /readyz",
        allowed: "a port from 1 to 65535, or 0 for any that is free",
        ..BASE
    },
    Setting {
        name: "health-address",
        value_name: "ADDR",
        default_words: Some("all"),
        group: Group::Health,
        help: "The address of the health endpoint",
        allowed: "an IPv4 or IPv6 address of this host without a port, 0.0.0.0, :: or all",
        ..BASE
    },
    Setting {
        name: "metrics-address",
        value_name: "ADDR:PORT|off",
        default: Some("127.0.0.1:7332"),
        group: Group::Health,
        help: "Serve Prometheus metrics at /metrics on this address and port. off: not at all",
        allowed: "off, or an address and a port such as 127.0.0.1:7332 or [::1]:7332",
        ..BASE
    },
    // Logging
    Setting {
        name: "log-format",
        kind: Kind::Choice(&["text", "json"]),
        value_name: "FORMAT",
        default: Some("text"),
        group: Group::Logging,
        help: "How log lines are written",
        allowed: "text or json",
        ..BASE
    },
    Setting {
        name: "v",
        kind: Kind::Number,
        value_name: "N",
        default: Some("0"),
        group: Group::Logging,
        help: "How much is logged. 0: what an operator wants to know; 1 to 3: also what LBEX does and why; 4 and 5: everything \
               LBEX does; 6: also everything that its libraries do",
        allowed: "a whole number",
        command_line_only: true,
        ..BASE
    },
    Setting {
        name: "vmodule",
        value_name: "P=N,...",
        group: Group::Logging,
        help: "-v for single source files: P is the name of a file without .rs, or a module such as lbex::engine, and may hold * \
               and ?. The first that matches counts",
        allowed: "PATTERN=N, separated by commas, such as engine=4,lbex::source::*=2",
        command_line_only: true,
        ..BASE
    },
    Setting {
        name: "log_dir",
        kind: Kind::Folder,
        value_name: "DIR",
        group: Group::Logging,
        help: "Write the log to files in this folder instead of standard error: lbex.YYYY-MM-DD.log, a new one each day (UTC), \
               14 of them kept",
        allowed: "the path of a folder that can be written to",
        command_line_only: true,
        ..BASE
    },
    Setting {
        name: "logtostderr",
        default: None,
        group: Group::Logging,
        help: "Write the log to standard error and not to files, whatever --log_dir says",
        command_line_only: true,
        ..SWITCH
    },
    Setting {
        name: "alsologtostderr",
        group: Group::Logging,
        help: "With --log_dir: write the log to standard error as well",
        command_line_only: true,
        ..SWITCH
    },
    Setting {
        name: "stderrthreshold",
        kind: Kind::Choice(&["INFO", "WARNING", "ERROR", "FATAL"]),
        value_name: "SEVERITY",
        default: Some("ERROR"),
        group: Group::Logging,
        help: "With --log_dir: what is this severe goes to standard error as well. By name or as 0 to 3",
        allowed: "INFO, WARNING, ERROR or FATAL, or 0 to 3",
        command_line_only: true,
        ..BASE
    },
    Setting {
        name: "log_backtrace_at",
        value_name: "FILE:N",
        group: Group::Logging,
        help: "Add a stack trace to what line N of this source file logs",
        allowed: "FILE:LINE, such as engine.rs:120",
        command_line_only: true,
        ..BASE
    },
];

//! The command line as clap knows it, made from the table of settings.

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser, ValueHint};
use clap::error::Error;
use clap::{Arg, ArgAction, Command};

use crate::registry::{Backends, Part};
use crate::settings::{Group, Kind, SETTINGS, Setting};

const ABOUT: &str = "Makes this host, with {proxy}, the external TCP and UDP load balancer of a Kubernetes cluster";

// Paragraphs are single lines here: they are wrapped when they are printed.
const EXAMPLES: &str = "\
Without a subcommand LBEX runs: it watches the cluster for Services that ask for it, and keeps {proxy} configured. A subcommand \
comes before its flags.

Examples:
  lbex --kubeconfig /etc/lbex/kubeconfig      Serve the Services of a cluster from outside
  lbex --proxy 127.0.0.1:8001                 The same through a running `kubectl proxy`
  lbex --manifests examples/quickstart        No cluster: Services from files
  lbex --service-pool edge --strict-affinity  Serve only Services whose pool is `edge`
  lbex --config /etc/lbex/lbex.yaml           Take settings from a file{render}
  lbex validate web.yaml                      Say what becomes of these Services, and what is wrong

Which Services: one asks for LBEX by the annotation kubernetes.io/loadbalancer-class: loadbalancer-lbex, and says by the \
annotation loadbalancer-port.lbex/PORTNAME: \"443\" where LBEX listens for its port of that name; or it is of type LoadBalancer \
and has loadBalancerClass lbex.io/lbex.

Flags may be written with one dash or two, and with - or _ between words. A BOOL flag alone means true; --flag=false and \
--flag false mean false. Durations: 500ms, 3s, 5m, 1h, 1h30m.

Every flag but -h, --version and those of glog (-v, --vmodule, --log_dir, ...) can also be given as a variable (LBEX_SERVICE_POOL \
for --service-pool; lists separated by commas) or as a key of the settings file. The command line goes before variables, they \
before the settings file. An empty variable counts as unset.

Exit codes: 0 ended as asked; 1 the cluster cannot be reached or refuses; 2 wrong usage or settings, {proxy} cannot be used, or the \
prefix or a port of LBEX's own is taken. lbex validate: 1 something is wrong with a Service, 2 a file cannot be read.";

const RENDER_EXAMPLE: &str = "\n  lbex render --manifests FOLDER              Print the configuration, touch nothing";

const VALIDATE_AFTER: &str = "\
For each Service: whether it is served, where, and what is wrong with it. Exit code 0: all is well; 1: something is wrong or \
gets a Warning; 2: a file cannot be read. A Service that does not ask for LBEX or is for another instance is nothing wrong.

Example:
  lbex validate --service-pool edge services/ nodes.yaml";

const PROXY_AFTER: &str = "\
For a supervisor that ends a service with all that it has started, such as systemd: NGINX belongs to this service, LBEX to another, \
and each can be restarted without the other. Takes the flags of the controller, of which --nginx-prefix, --worker-shutdown-timeout \
(how long connections may go on at the end) and those of logging count. It ends by SIGTERM or SIGINT, when NGINX has ended.

Example:
  lbex proxy --config /etc/lbex/lbex.yaml";

const RENDER_AFTER: &str = "\
Takes the flags of the controller. The configuration is printed as one stream, each file under a line '# file: NAME'. \
Exit code 1: a manifest file does not parse, or an object in one is not valid; the rest is printed.

Example:
  lbex render --manifests examples/quickstart --nginx system";

const BACKENDS_AFTER: &str = "\
For each: its name, version, and what it can do. Plugins are loaded for it, which runs code of theirs; one that is none, or not for \
this LBEX, is listed with the reason.

Example:
  lbex backends --plugin-dir ./target/release";

const CHECK_AFTER: &str = "\
Opens the plugin in a temporary folder and has it do everything that LBEX may ask for, with made-up Services: it may start its proxy. \
Exit code 0: it does all as it should; 1: it does not; 2: it cannot be loaded or opened at all.

Example:
  lbex plugin check ./libmyproxy.so --backend-config myproxy.toml";

/// What the shells that completions are made for are called.
pub(super) const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// What a command is of use to.
pub(super) fn part_of(command: &str) -> Part {
    match command {
        "proxy" | "render" => Part::Nginx,
        "plugin" => Part::Plugins,
        _ => Part::Every,
    }
}

/// Which command line.
#[derive(Clone, Copy)]
struct Of<'a> {
    /// What the binary has.
    backends: &'a Backends,
    /// With what is hidden: what is of no use with the backends, and what only LBEX itself asks for.
    hidden: bool,
}

impl Of<'_> {
    fn flags(self, applies: impl Fn(&Setting) -> bool) -> impl Iterator<Item = Arg> {
        let shown = move |setting: &&Setting| self.hidden || self.backends.has(setting.part);
        SETTINGS.iter().filter(move |setting| applies(setting)).filter(shown).map(move |s| flag(s, self.backends))
    }
}

/// The command line of a binary that has `backends`. What is of no use with them is known and not shown, so that the error for it can
/// say what is missing.
pub(super) fn command(backends: &Backends) -> Command {
    lbex(Of { backends, hidden: true })
}

/// The same without what is not shown: completions of some shells would show that too.
pub(super) fn shown(backends: &Backends) -> Command {
    lbex(Of { backends, hidden: false })
}

fn lbex(of: Of<'_>) -> Command {
    let commands = [proxy(of), end_proxy(of), render(of), validate(of), backends(of), plugin(of)];
    let commands = commands.into_iter().chain([completions(), man(), explain()]);
    let commands = commands.map(|command| {
        let there = of.backends.has(part_of(command.get_name())) && command.get_name() != END_PROXY;
        command.hide(!there)
    });
    Command::new("lbex")
        .about(words(ABOUT, of.backends))
        .after_help(words(EXAMPLES, of.backends))
        .override_usage("lbex [FLAGS]\n       lbex <COMMAND> [FLAGS]")
        .disable_version_flag(true)
        .args_conflicts_with_subcommands(true)
        .next_line_help(true)
        .term_width(100)
        .args(of.flags(|_| true))
        .subcommands(commands.filter(|command| of.hidden || !command.is_hide_set()))
}

/// Fills in what speaks of NGINX.
fn words(text: &str, backends: &Backends) -> String {
    let (proxy, render) = if backends.has(Part::Nginx) { ("NGINX", RENDER_EXAMPLE) } else { ("its proxy", "") };
    text.replace("{proxy}", proxy).replace("{render}", render)
}

fn proxy(of: Of<'_>) -> Command {
    Command::new("proxy")
        .about("Start NGINX whenever the LBEX with --start-nginx=service and this --nginx-prefix asks for it; drain it at the end")
        .after_help(PROXY_AFTER)
        .next_line_help(true)
        .args(of.flags(|s| s.name != "version"))
}

fn end_proxy(of: Of<'_>) -> Command {
    Command::new(END_PROXY).args(of.flags(|_| true))
}

fn render(of: Of<'_>) -> Command {
    Command::new("render")
        .about("Print the configuration that would be written, and touch nothing")
        .after_help(RENDER_AFTER)
        .next_line_help(true)
        .args(of.flags(|s| s.name != "version"))
}

fn validate(of: Of<'_>) -> Command {
    let applies = |s: &Setting| s.group != Group::ClusterAccess && s.name != "version";
    let files = Arg::new(FILES).value_name("FILES").num_args(1..).required(true).value_hint(ValueHint::AnyPath);
    Command::new("validate")
        .about("Say for each Service in manifest files what LBEX would make of it, and what is wrong with it")
        .after_help(VALIDATE_AFTER)
        .next_line_help(true)
        .arg(files.help("YAML or JSON files, or folders of them"))
        .args(of.flags(applies))
}

/// Flags of what concerns plugins only.
fn for_plugins(of: Of<'_>) -> impl Iterator<Item = Arg> {
    of.flags(|s| {
        s.group == Group::Logging
            || ["config", "plugin-dir", "backend-config", "nginx", "nginx-prefix"].contains(&s.name)
    })
}

fn backends(of: Of<'_>) -> Command {
    let (about, after) = if of.backends.has(Part::Plugins) {
        ("List the backends that are built in, and the plugins found in --plugin-dir", BACKENDS_AFTER)
    } else {
        ("List the backends that are built in", "For each: its name, and what it can do.")
    };
    Command::new("backends").about(about).after_help(after).next_line_help(true).args(for_plugins(of))
}

fn plugin(of: Of<'_>) -> Command {
    let library = Arg::new(LIBRARY).value_name("PATH").required(true).value_hint(ValueHint::FilePath);
    let check = Command::new("check")
        .about("Find out whether a library is a plugin that does as it should")
        .after_help(CHECK_AFTER)
        .next_line_help(true)
        .arg(library.help("The library"))
        .args(for_plugins(of));
    Command::new("plugin").about("For authors of plugins: check PATH").subcommand_required(true).subcommand(check)
}

fn completions() -> Command {
    Command::new("completions").about("Print completions of the command line for a shell").arg(
        Arg::new(SHELL).value_name("SHELL").required(true).value_parser(SHELLS).help("The shell to print them for"),
    )
}

fn man() -> Command {
    Command::new("man").about("Print the manual page")
}

fn explain() -> Command {
    Command::new("explain")
        .about("Say why a Service is served, or is not (not in this version yet: use validate)")
        .disable_help_flag(true)
        .arg(Arg::new("SERVICE").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true))
}

/// The name of the command that LBEX gives itself.
pub(crate) const END_PROXY: &str = "end-proxy";
/// The name of the argument with the files of `validate`.
pub(super) const FILES: &str = "FILES";
/// The name of the argument with the library of `plugin check`.
pub(super) const LIBRARY: &str = "LIBRARY";
/// The name of the argument with the shell of `completions`.
pub(super) const SHELL: &str = "SHELL";

fn flag(setting: &'static Setting, backends: &Backends) -> Arg {
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .value_name(setting.value_name)
        .action(ArgAction::Append)
        .allow_hyphen_values(true)
        .value_parser(Suggest(values(setting, backends)))
        .hide_possible_values(true)
        .value_hint(match setting.kind {
            Kind::File => ValueHint::FilePath,
            Kind::Folder => ValueHint::DirPath,
            _ => ValueHint::Other,
        })
        .hide(!backends.has(setting.part))
        .help(help(setting, backends));
    let arg = match setting.group.heading() {
        Some(heading) => arg.help_heading(heading),
        None => arg,
    };
    let arg = match setting.name {
        "v" => arg.short('v'),
        "version" => arg.short('V'),
        _ => arg,
    };
    if setting.kind.may_be_bare() {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        arg
    }
}

fn help(setting: &Setting, backends: &Backends) -> String {
    let also = match setting.aliases {
        [] => String::new(),
        names => format!(" (also --{})", names.join(", --")),
    };
    let (text, default) = match setting.name {
        BACKEND => (of_backend(backends), backends.first().map(|first| first.offer().name())),
        "version" => (setting.help.to_owned(), None),
        _ => (setting.help.to_owned(), setting.default.or(setting.default_words)),
    };
    match default {
        Some(default) => format!("{text}{also} [default: {default}]"),
        None => format!("{text}{also}"),
    }
}

/// The setting whose values are what the binary has.
const BACKEND: &str = "backend";

/// The help of [`BACKEND`].
fn of_backend(backends: &Backends) -> String {
    let named = backends.all().iter().map(|backend| match (backend.offer().name(), backend.offer().about()) {
        (name, "") => name.to_owned(),
        (name, about) => format!("{name} ({about})"),
    });
    let plugins = ["the path of a plugin", "or the name of one in --plugin-dir"].map(str::to_owned);
    let plugins = plugins.into_iter().filter(|_| backends.has(Part::Plugins));
    let all: Vec<String> = named.chain(plugins).collect();
    if all.is_empty() {
        return "The proxy that carries the traffic: this binary was built without any".to_owned();
    }
    format!("The proxy that carries the traffic: {}", all.join(", "))
}

/// What completions suggest.
fn values(setting: &Setting, backends: &Backends) -> Vec<&'static str> {
    match setting.kind {
        _ if setting.name == BACKEND => backends.all().iter().map(|backend| backend.offer().name()).collect(),
        Kind::Switch => vec!["true", "false"],
        Kind::AutoSwitch => vec!["auto", "true", "false"],
        Kind::Choice(words) => words.to_vec(),
        _ => Vec::new(),
    }
}

/// Takes any text (what is valid is decided later, with an error that says where a value came from), and suggests values to
/// completions.
#[derive(Clone)]
struct Suggest(Vec<&'static str>);

impl TypedValueParser for Suggest {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &std::ffi::OsStr) -> Result<String, Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let values = self.0.iter().map(PossibleValue::new);
        if self.0.is_empty() { None } else { Some(Box::new(values)) }
    }
}

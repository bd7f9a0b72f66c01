//! The command line from outside: arguments in, commands out.

use super::*;
use crate::settings::{Affinity, SourceSettings};

const HOST: Host = Host { ipv6: true, root: true };

fn parsed(line: &str) -> Result<Command, Failure> {
    let args = std::iter::once("lbex").chain(line.split_whitespace());
    parse_on(args, Around { environment: &Environment::default(), host: HOST, backends: &Backends::built_in() })
}

fn run_of(line: &str) -> Settings {
    match parsed(line) {
        Ok(Command::Run(settings)) => *settings,
        other => panic!("{line}: {other:?}"),
    }
}

fn failure(line: &str) -> String {
    let failure = parsed(line).expect_err(line);
    assert_eq!(failure.code(), 2, "{line}");
    failure.to_string()
}

fn printed_by(line: &str) -> String {
    match parsed(line) {
        Ok(Command::Print(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_originals_command_lines_work() {
    let settings = run_of(
        "--kubeconfig=/etc/kubeconfig --service-pool=edge --strict-affinity --anti-affinity=false --required-port=false \
         --health-check --health-port 7000 --logtostderr=true -v 2 --service-name=ntp",
    );
    assert_eq!(settings.source, SourceSettings::Kubeconfig("/etc/kubeconfig".into()));
    assert_eq!(settings.selection.affinity, Affinity::Strict);
    assert_eq!(settings.selection.pool.unwrap().as_str(), "edge");
    assert!(!settings.planning.require_port);
    assert_eq!(settings.admin.health[0].port(), 7000);
    assert_eq!(settings.logging.verbosity, 2);
    assert!(settings.selection.service_name.is_some());
}

#[test]
fn booleans_in_all_three_ways() {
    for (line, required) in [
        ("", true),
        ("--require-port", true),
        ("--require-port=false", false),
        ("--require-port false", false),
        ("-require_port F", false),
        ("--required-port=0", false),
        ("--require-port=false --require-port", true),
        ("--require-port false --namespace true", false),
    ] {
        assert_eq!(run_of(line).planning.require_port, required, "{line}");
    }
    assert!(failure("--require-port=").contains("--require-port: \"\" from the command line is not valid"));
    assert!(failure("--require-port=maybe").contains("allowed: true or false"));
    assert!(failure("--require-port maybe").contains("maybe"));
}

#[test]
fn values_may_look_like_flags() {
    assert!(failure("--service-pool --strict-affinity").contains("--service-pool: \"--strict-affinity\""));
    assert!(failure("--service-pool").contains("a value is required for '--service-pool <POOL>'"));
}

#[test]
fn subcommands_come_first_and_take_flags() {
    let Ok(Command::Render(settings)) = parsed("render --manifests /m --nginx system -v=1 --allowed-ports 80") else {
        panic!()
    };
    assert_eq!(settings.source, SourceSettings::Manifests("/m".into()));
    assert_eq!(settings.nginx.choice, lbex_backend_nginx::binary::NginxChoice::System);
    let Ok(Command::Validate(settings)) = parsed("validate a.yaml --service-pool x --strict-affinity false b") else {
        panic!()
    };
    assert_eq!(settings.files, [PathBuf::from("a.yaml"), "b".into()]);
    assert_eq!(settings.selection.pool.unwrap().as_str(), "x");
    let Ok(Command::Validate(settings)) = parsed("validate -- --a.yaml") else { panic!() };
    assert_eq!(settings.files, [PathBuf::from("--a.yaml")]);
    assert!(failure("validate").contains("<FILES>"));
    assert!(failure("validate a --kubeconfig x").contains("unexpected argument '--kubeconfig'"));
    assert!(failure("--service-pool x render").contains("a subcommand comes before its flags"));
    let no_boolean = failure("--strict-affinity maybe");
    assert!(["--strict-affinity", "'maybe'", "true or false"].iter().all(|w| no_boolean.contains(w)), "{no_boolean}");
    assert!(failure("explain default/web --proxy x").contains("not in this version yet"));
    assert!(failure("explain").contains("not in this version yet"));
}

#[test]
fn wrong_usage_says_what_was_meant() {
    assert!(failure("--service-pol=x").contains("a similar argument exists: '--service-pool'"));
    assert!(failure("-service-pol=x").contains("unexpected argument '--service-pol'"));
    assert!(failure("rendr").contains("render"));
    assert!(failure("-x").contains("unexpected argument '-x'"));
    assert!(!failure("--xyzzy").starts_with("error:"));
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_text() {
    use std::os::unix::ffi::OsStringExt;
    let args = [OsString::from("lbex"), "--service-pool".into(), OsString::from_vec(b"a\xffb".to_vec())];
    let failure = parse(args, std::iter::empty::<(&str, &str)>(), &Backends::built_in()).unwrap_err();
    assert_eq!((failure.code(), failure.to_string().as_str()), (2, "argument 2 (\"a\u{fffd}b\") is not valid UTF-8"));
}

#[test]
fn the_environment_is_read_and_warned_of() {
    let environment =
        [("LBEX_SERVICE_POOL", "edge"), ("LBEX_SERVICE_POL", "x"), ("LBEX_HEALTH_PORT", "tcp://10.0.0.1:7331")];
    let command = parse(["lbex", "--nginx-prefix", "/p"], environment, &Backends::built_in()).unwrap();
    let Command::Run(settings) = command else { panic!("{command:?}") };
    assert_eq!(settings.selection.pool.unwrap().as_str(), "edge");
    assert_eq!(settings.admin.health[0].port(), 7331);
    assert_eq!(settings.warnings, ["unknown variable LBEX_SERVICE_POL is ignored: did you mean LBEX_SERVICE_POOL?"]);
}

// Of LBEX as it is released.
#[cfg(all(feature = "backend-nginx-plus", feature = "plugins"))]
#[test]
fn help() {
    insta::assert_snapshot!(printed_by("--help"));
    assert_eq!(printed_by("-h"), printed_by("--help"));
    assert_eq!(printed_by("-help"), printed_by("--help"));
    assert!(printed_by("render --help").contains("--manifests <PATH>"));
    let validate = printed_by("help validate");
    assert!(validate.contains("<FILES>") && !validate.contains("--kubeconfig") && validate.contains("--service-pool"));
}

#[test]
fn version_goes_before_everything_else() {
    for line in ["--version", "-version", "-V", "--version=true --health-port=x"] {
        let text = printed_by(line);
        assert!(text.starts_with(&format!("lbex {}\ncommit: ", env!("CARGO_PKG_VERSION"))), "{text}");
        assert!(text.contains("\nbuilt-in backends: ") && text.contains("\nplugin ABI: "));
    }
    run_of("--version=false");
    assert!(failure("--version=x").contains("--version"));
}

// Of LBEX as it is released.
#[cfg(all(feature = "backend-nginx-plus", feature = "plugins"))]
#[test]
fn completions_and_the_manual_page_know_every_flag() {
    let page = printed_by("man");
    assert!(page.contains(".TH lbex 1"));
    for setting in SETTINGS {
        assert!(page.contains(&setting.name.replace('-', "\\-")), "manual page: {}", setting.name);
        for shell in ["bash", "zsh", "fish"] {
            assert!(printed_by(&format!("completions {shell}")).contains(setting.name), "{shell}: {}", setting.name);
        }
    }
    assert!(failure("completions tcsh").contains("bash"));
    assert!(failure("completions").contains("<SHELL>"));
}

#[test]
fn the_definition_is_sound() {
    definition::command(&Backends::built_in()).debug_assert();
    definition::shown(&Backends::built_in()).debug_assert();
}

//! Brings a command line as Go's flag packages take it into the one form that the parser sees: `--name=value`.

use crate::settings::values::BOOLEANS;
use crate::settings::{Kind, Setting, find};

/// Normalizes the arguments that follow the program's name. Pure.
///
/// - `-service-pool=x`, `--service_pool=x`, `--service-pool x` all become `--service-pool=x`.
/// - `--flag false` becomes `--flag=false` for booleans, with Go's words for true and false only: what follows a boolean
///   otherwise is not its value.
/// - `--required-port` becomes `--require-port`, `-v2` becomes `--v=2`.
///
/// The value of a flag is never touched, even where it looks like a flag; nor is anything after `--`, or anything unknown, but
/// that an unknown flag of several letters gets its second dash (so that it is not taken for several one-letter flags).
pub fn normalize(args: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut args = args.into_iter().peekable();
    let mut normal = Vec::new();
    while let Some(arg) = args.next() {
        if arg == "--" {
            normal.push(arg);
            break;
        }
        let Some(body) = flag_body(&arg) else {
            normal.push(arg);
            continue;
        };
        let (name, value) = body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value)));
        match (find(name), value) {
            (None, _) => normal.push(unknown(&arg, body)),
            (Some(setting), Some(value)) => normal.push(format!("--{}={value}", setting.name)),
            (Some(setting), None) => match args.next_if(|next| is_value(setting, next)) {
                Some(value) => normal.push(format!("--{}={value}", setting.name)),
                None => normal.push(format!("--{}", setting.name)),
            },
        }
    }
    normal.extend(args);
    normal
}

/// What stands behind one or two dashes, if this is a flag.
fn flag_body(arg: &str) -> Option<&str> {
    let body = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'))?;
    (!body.is_empty() && !body.starts_with(['-', '='])).then_some(body)
}

/// Whether `next`, the argument behind the flag of `setting`, is its value.
fn is_value(setting: &Setting, next: &str) -> bool {
    let boolean = BOOLEANS.iter().any(|(word, _)| *word == next);
    match setting.kind {
        Kind::Switch => boolean,
        Kind::AutoSwitch => boolean || next == "auto",
        _ => true,
    }
}

fn unknown(arg: &str, body: &str) -> String {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if arg.starts_with("--") {
        return arg.to_owned();
    }
    match body.strip_prefix('v') {
        Some(level) if is_number(level) => format!("--v={level}"),
        _ if body.chars().count() == 1 => arg.to_owned(),
        _ => format!("--{body}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::SETTINGS;

    fn normal(line: &str) -> String {
        normalize(line.split_whitespace().map(str::to_owned)).join(" ")
    }

    #[test]
    fn every_spelling_becomes_one() {
        for (line, wanted) in [
            ("--service-pool x", "--service-pool=x"),
            ("--service_pool=x", "--service-pool=x"),
            ("-service-pool=x", "--service-pool=x"),
            ("-service_pool x", "--service-pool=x"),
            ("--log-dir /x", "--log_dir=/x"),
            ("--required-port=false", "--require-port=false"),
            ("--required_port", "--require-port"),
            ("-v 2", "--v=2"),
            ("-v=2", "--v=2"),
            ("-v2", "--v=2"),
            ("--v=2", "--v=2"),
            ("-logtostderr", "--logtostderr"),
            ("-version", "--version"),
            ("-h", "-h"),
            ("-help", "--help"),
            ("--service-pol=x", "--service-pol=x"),
            ("-service-pol=x", "--service-pol=x"),
            ("---proxy", "---proxy"),
            ("-=x", "-=x"),
            ("- x", "- x"),
        ] {
            assert_eq!(normal(line), wanted, "{line}");
        }
    }

    #[test]
    fn a_boolean_takes_gos_words_and_nothing_else() {
        for (word, _) in BOOLEANS {
            assert_eq!(normal(&format!("--health-check {word} --proxy p")), format!("--health-check={word} --proxy=p"));
        }
        for line in ["--health-check yes", "--health-check auto", "--health-check", "--health-check --"] {
            assert_eq!(normal(line), line);
        }
        assert_eq!(normal("--stop-proxy-on-exit auto --health-check"), "--stop-proxy-on-exit=auto --health-check");
        assert_eq!(normal("validate --strict-affinity f.yaml"), "validate --strict-affinity f.yaml");
    }

    #[test]
    fn values_and_what_follows_two_dashes_are_not_touched() {
        assert_eq!(normal("--service-name -anti_affinity"), "--service-name=-anti_affinity");
        assert_eq!(normal("--service-name=-a_b=--c_d"), "--service-name=-a_b=--c_d");
        assert_eq!(normal("--config -- --proxy x"), "--config=-- --proxy=x");
        assert_eq!(normal("a_b -- --service_pool x -v2"), "a_b -- --service_pool x -v2");
        assert_eq!(normal("--proxy"), "--proxy");
    }

    fn argument() -> impl Strategy<Value = String> {
        let name = prop::sample::select(SETTINGS.iter().map(|s| s.name).collect::<Vec<_>>());
        let dashes = prop::sample::select(vec!["-", "--"]);
        let known = (dashes, name, any::<bool>(), prop::option::of("[-_=a-z0-9 ]{0,6}")).prop_map(
            |(dashes, name, under, value)| {
                let name = if under { name.replace('-', "_") } else { name.to_owned() };
                value.map_or_else(|| format!("{dashes}{name}"), |value| format!("{dashes}{name}={value}"))
            },
        );
        prop_oneof![4 => known, 2 => "[-_=a-z0-9]{0,6}", 1 => prop::sample::select(vec!["true", "F", "auto", "--", "-v3"]).prop_map(str::to_owned)]
    }

    proptest! {
        #[test]
        fn normalizing_twice_is_normalizing_once(args in prop::collection::vec(argument(), 0..8)) {
            let once = normalize(args);
            prop_assert_eq!(normalize(once.clone()), once);
        }

        #[test]
        fn what_follows_two_dashes_stays(tail in prop::collection::vec(".*", 0..6)) {
            let args: Vec<String> = ["--proxy=p", "--"].into_iter().map(str::to_owned).chain(tail).collect();
            prop_assert_eq!(normalize(args.clone()), args);
        }

        #[test]
        fn a_value_stays_whatever_it_is(index in 0..SETTINGS.len(), value in ".*", joined in any::<bool>()) {
            let setting = &SETTINGS[index];
            prop_assume!(!setting.kind.may_be_bare() || joined);
            let flag = format!("-{}", setting.name.replace('-', "_"));
            let args = if joined { vec![format!("{flag}={value}")] } else { vec![flag, value.clone()] };
            prop_assert_eq!(normalize(args), vec![format!("--{}={value}", setting.name)]);
        }

        #[test]
        fn what_is_no_flag_stays(args in prop::collection::vec("[^-].*", 0..6)) {
            prop_assert_eq!(normalize(args.clone()), args);
        }
    }
}

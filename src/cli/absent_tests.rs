//! What a binary says that is without some of LBEX, whatever this build has.

use super::*;
use crate::registry::tests::Mine;

fn failure(line: &str, backends: &Backends) -> String {
    let args = std::iter::once("lbex").chain(line.split_whitespace());
    let host = Host { ipv6: true, root: true };
    let failure = parse_on(args, Around { environment: &Environment::default(), host, backends }).expect_err(line);
    assert_eq!(failure.code(), 2, "{line}");
    failure.to_string()
}

#[test]
fn a_binary_without_any_backend_says_so() {
    let none = Backends::none();
    assert_eq!(
        failure("--manifests /m", &none),
        "--backend: not given, and this binary has none that it takes by itself; allowed: nothing, since this binary has no backend \
         at all"
    );
    assert_eq!(
        failure("validate /m --backend nginx-plus", &none),
        "--backend: \"nginx-plus\" from the command line is not valid (this binary is without the backend nginx-plus, which the Cargo \
         feature backend-nginx-plus brings); allowed: nothing, since this binary has no backend at all"
    );
    assert!(
        failure("--backend ./x.so", &none)
            .contains("(this binary loads no plugins, which the Cargo feature plugins brings)")
    );
    assert!(failure("--backend haproxy", &none).contains("(this binary loads no plugins, "));
    assert!(failure("--backend Ha", &none).contains("\"Ha\" from the command line is not valid; allowed"));
}

#[test]
fn settings_and_commands_of_what_is_not_there_are_refused_and_defaults_are_not() {
    let none = Backends::none();
    let all = failure(
        "--nginx system --nginx-plus-api http://a --plugin-dir /p --backend-config /c --start-nginx self",
        &none,
    );
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 5, "{all}");
    for (line, flag) in lines.iter().zip(["--nginx:", "--nginx-plus-api:", "--plugin-dir:", "--backend-config:"]) {
        assert!(line.starts_with(flag) && line.contains("from the command line is of no use: this binary "), "{all}");
    }
    let backends = failure("backends --plugin-dir /p", &none);
    assert!(backends.starts_with("--plugin-dir: \"/p\" from the command line is of no use: "), "{backends}");
    for (command, missing) in
        [("proxy", "backend-nginx"), ("render --manifests /m", "backend-nginx"), ("plugin check /x", "plugins")]
    {
        let text = failure(command, &none);
        let name = command.split(' ').next().unwrap_or_default();
        assert!(text.starts_with(&format!("lbex {name} is of no use: this binary ")), "{text}");
        assert!(text.ends_with(&format!("the Cargo feature {missing} brings")), "{text}");
    }
}

#[test]
fn one_setting_of_what_is_not_there_is_one_error() {
    let mine = Backends::none().with(Mine("mine"));
    let text = failure("--nginx-plus-api http://a --backend mine", &mine);
    assert_eq!(
        text,
        "--nginx-plus-api: \"http://a\" from the command line is of no use: this binary is without the backend nginx-plus, which the \
         Cargo feature backend-nginx-plus brings; leave it out"
    );
}

#[test]
fn what_is_not_there_is_shown_nowhere() {
    let none = Backends::none();
    let shown = |line: &str| {
        let args = std::iter::once("lbex").chain(line.split_whitespace());
        match parse(args, std::iter::empty::<(&str, &str)>(), &none) {
            Ok(Command::Print(text)) => text.replace("\\-", "-"),
            other => panic!("{line}: {other:?}"),
        }
    };
    for line in ["--help", "validate --help", "man", "completions bash", "completions zsh", "completions fish"] {
        let text = shown(line);
        for absent in
            ["nginx-plus", "--start-nginx", "plugin-dir", "plugin check", "lbex render", "with NGINX", "end-proxy"]
        {
            assert!(!text.contains(absent), "lbex {line} speaks of {absent}:\n{text}");
        }
    }
    assert!(shown("--version").contains("\nbuilt-in backends: none\nplugin ABI: none: this binary loads no plugins\n"));
}

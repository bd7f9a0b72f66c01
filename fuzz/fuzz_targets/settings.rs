//! Flags, variables and a settings file with anything in them: they are settings, or an error in words, and never a panic.
#![no_main]

use std::sync::LazyLock;

use lbex::cli;
use lbex_fuzz::Scratch;
use libfuzzer_sys::fuzz_target;

static SCRATCH: LazyLock<Scratch> = LazyLock::new(|| Scratch::new().expect("a folder"));

// The first character says what the rest is: a settings file of one of three kinds, or flags and variables.
fuzz_target!(|text: &str| {
    let mut rest = text.chars();
    let Some(kind) = rest.next() else { return };
    let rest = rest.as_str();
    let (mut args, mut variables) = (vec!["lbex".to_owned()], Vec::new());
    match ["yaml", "toml", "json"].get(kind as usize % 5) {
        Some(ending) => {
            let path = SCRATCH.write(&format!("settings.{ending}"), rest.as_bytes()).expect("a file");
            args.extend(["--config".to_owned(), path.display().to_string()]);
        }
        None => {
            for word in rest.split('\0') {
                match word.split_once('=').filter(|(name, _)| name.starts_with("LBEX_")) {
                    Some((name, value)) => variables.push((name.to_owned(), value.to_owned())),
                    None => args.push(word.to_owned()),
                }
            }
        }
    }
    if let Err(failure) = cli::parse(args, variables) {
        assert!(!failure.to_string().is_empty());
    }
});

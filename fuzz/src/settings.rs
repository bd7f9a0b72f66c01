//! Flags, variables and a settings file with anything in them: they are settings, or an error in words, and never a panic.

use lbex::cli;
use lbex::registry::Backends;

use super::write;

/// The first character says what the rest is: a settings file of one of three kinds, or flags and variables.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut rest = text.chars();
    let Some(kind) = rest.next() else { return };
    let rest = rest.as_str();
    let (mut args, mut variables) = (vec!["lbex".to_owned()], Vec::new());
    match ["yaml", "toml", "json"].get(kind as usize % 5) {
        Some(ending) => {
            let path = write(&format!("settings.{ending}"), rest.as_bytes());
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
    if let Err(failure) = cli::parse(args, variables, &Backends::built_in()) {
        assert!(!failure.to_string().is_empty());
    }
}

//! `lbex plugin check`: what it finds good, and that it sees what is not.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;

use crate::support::{binary, example_c, faulty};

/// Exit code and what is printed.
fn check(library: &std::path::Path, folder: &Scratch, config: &str) -> Result<(Option<i32>, String)> {
    let file = folder.join("config");
    std::fs::write(&file, config)?;
    let mut command = Command::new(binary());
    command.args(["plugin", "check"]).arg(library).arg(format!("--backend-config={}", file.display()));
    let output = command.output().context("failed to run LBEX")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.code(), text))
}

#[test]
fn the_example_in_c_passes_everything() -> Result<()> {
    let folder = Scratch::new("check")?;
    let library = example_c(folder.path())?;
    let (code, text) = check(&library, &folder, &format!("{}\n", folder.join("desired.json").display()))?;
    ensure!(code == Some(0), "{text}");
    for case in ["1,000 Services", "members that it does not know", "what is no document", "closed and opened"] {
        ensure!(text.lines().any(|line| line.starts_with("passed  ") && line.contains(case)), "{case}: {text}");
    }
    ensure!(text.contains("\nall ") && !text.contains("FAILED"), "{text}");
    Ok(())
}

#[test]
fn what_is_wrong_is_seen() -> Result<()> {
    let folder = Scratch::new("check")?;
    let library = faulty(folder.path(), &[])?;
    for (fault, says) in [
        ("none none", "FAILED  the same again changes nothing: the same document again makes it do something: Started"),
        ("none none", "FAILED  what is no document is refused and does no harm: "),
        (
            "none none",
            "FAILED  members that it does not know are ignored: its report is about revision \"not this one\"",
        ),
        ("apply garbage", "FAILED  it applies a desired state, and sees it: its reply to apply is not a document"),
        ("apply revision", "its report is about revision \"mine\""),
        ("apply partial", "it returned 1, and its report refuses 0 Service(s)"),
        ("apply retry", "it answers code 2: not now, please"),
        ("apply nowhere", "apply: its reply (100 bytes at 0x1000) cannot be read"),
        ("observe schema", "its reply to observe is not a document lbex.observation/1"),
        ("stop panic", "FAILED  it ends its proxy: stop returned 100: index out of bounds"),
    ] {
        let (code, text) = check(&library, &folder, fault)?;
        ensure!(code == Some(1) && text.contains(says), "{fault}: {code:?} {text}");
    }
    let (code, text) = check(&library, &folder, "table none")?;
    ensure!(code == Some(2) && text.contains("no backend"), "{code:?} {text}");
    Ok(())
}

//! `lbex plugin check`: what it finds good, and which of its checks sees which fault.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex::plugin::{Deadlines, check};
use lbex_test_harness::Scratch;

use crate::support::{PATIENT, SHORT, binary, example_c, faulty};

/// What is run for this library with this configuration: exit code and what is printed.
fn printed(library: &Path, folder: &Scratch, config: &str) -> Result<(Option<i32>, String)> {
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
    let (code, text) = printed(&library, &folder, &format!("{}\n", folder.join("desired.json").display()))?;
    ensure!(code == Some(0), "{text}");
    for case in ["1,000 Services", "members that it does not know", "what is no document", "closed and opened"] {
        ensure!(text.lines().any(|line| line.starts_with("passed  ") && line.contains(case)), "{case}: {text}");
    }
    ensure!(text.contains("\nall ") && !text.contains("FAILED"), "{text}");
    Ok(())
}

/// A fault, the one check that sees it, and what that says.
const SEEN_BY_ONE: [(&str, &str, &str); 14] = [
    ("apply eager", "the same again changes nothing", "the same document again makes it do something: Reloaded"),
    ("apply naive", "members that it does not know are ignored", "its report is about revision \"not this one\""),
    ("apply gullible", "what is no document is refused and does no harm", "its report is about revision \"\""),
    ("live late", "its calls return in their time", "apply took "),
    ("live panic", "servers change live", "apply returned 100: index out of bounds"),
    (
        "apply whole",
        "a port that is taken keeps nothing else from being served",
        "because of one port it refuses 3 of 3",
    ),
    ("apply few", "1,000 Services", "no room"),
    ("apply deaf", "a call that is cancelled returns, and the next one is not", "nor soon after it was cancelled"),
    (
        "apply sticky",
        "a call that is cancelled returns, and the next one is not",
        "afterwards it answers code 2: cancelled",
    ),
    (
        "open remembers",
        "it is closed and opened, and goes on",
        "it has revision Some(\"check-1\") before it was given any",
    ),
    ("stop panic", "it ends its proxy", "stop returned 100: index out of bounds"),
    ("observe slow", "its calls return in their time", "observe took "),
    ("apply dances", "its documents are as their schemas say", "the action of its report is none of lbex.report/1"),
    ("apply typo", "its documents are as their schemas say", "lbex.report/1 has no member \"refusals\""),
];

/// A fault that is to be late has little time for what it is late with. All else has much, so that a busy machine makes no fault of its
/// own.
fn deadlines(fault: &str) -> Deadlines {
    match fault {
        "live late" => Deadlines { push: SHORT.push, ..PATIENT },
        "observe slow" => Deadlines { observe: SHORT.observe, ..PATIENT },
        // It sleeps for 1.5 s.
        "apply deaf" => Deadlines { grace: Duration::from_millis(700), ..PATIENT },
        _ => PATIENT,
    }
}

#[tokio::test]
async fn each_fault_is_seen_by_the_check_that_is_about_it_and_by_no_other() -> Result<()> {
    let folder = Scratch::new("check")?;
    let library = faulty(folder.path(), &[])?;
    let file = folder.join("config");
    std::fs::write(&file, "none none\n")?;
    let good = check::run(&library, Some(&file), PATIENT).await?;
    ensure!(good.passed(), "without a fault: {good}");
    let mut others = Vec::new();
    for (fault, seen_by, says) in SEEN_BY_ONE {
        std::fs::write(&file, format!("{fault}\n"))?;
        let text = check::run(&library, Some(&file), deadlines(fault)).await?.to_string();
        let failed: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("FAILED  ")).collect();
        let as_it_should = matches!(failed[..], [one] if one.starts_with(seen_by) && one.contains(says));
        if !as_it_should {
            others.push(format!("{fault}: {failed:#?}"));
        }
    }
    ensure!(others.is_empty(), "{}", others.join("\n"));
    Ok(())
}

#[test]
fn what_breaks_a_plugin_is_seen_and_the_rest_is_tried() -> Result<()> {
    let folder = Scratch::new("check")?;
    let library = faulty(folder.path(), &[])?;
    for (fault, says) in [
        ("apply garbage", "FAILED  it applies a desired state, and sees it: its reply to apply is not a document"),
        ("apply revision", "its report is about revision \"mine\""),
        ("apply contradiction", "it returned 1, and its report refuses 0 Service(s)"),
        ("apply word", "its report cannot be believed: it refuses default/web with the code"),
        ("apply retry", "it answers code 2: not now, please"),
        ("apply nowhere", "apply: its reply (100 bytes at 0x1000) cannot be read"),
        ("observe revision", "FAILED  it looks at its proxy before anything is applied: it has revision \"made-up\""),
        ("observe schema", "its reply to observe is not a document lbex.observation/1"),
        (
            "observe measures",
            "FAILED  its documents are as their schemas say: a measure is called \"\"; allowed: 1 to 64",
        ),
    ] {
        let (code, text) = printed(&library, &folder, fault)?;
        ensure!(code == Some(1) && text.contains(says), "{fault}: {code:?} {text}");
    }
    Ok(())
}

#[test]
fn what_is_no_plugin_or_does_not_open_fails_the_check_that_is_about_that() -> Result<()> {
    let says = |defines: &[&str], config: &str| -> Result<(Option<i32>, String)> {
        let folder = Scratch::new("check")?;
        printed(&faulty(folder.path(), defines)?, &folder, config)
    };
    for (define, why) in [
        ("-DFAULT_MAJOR=9", "is built for plugin ABI 9.1"),
        ("-DFAULT_MAGIC=42", "is not a plugin for LBEX"),
        ("-DFAULT_NO_OPEN", "it exports no function lbex_plugin_open"),
        ("-DFAULT_SIZE=24", "its struct lbex_plugin_info has 24 bytes"),
        ("-DFAULT_CAPABILITIES=\"{}\"", "its capabilities are not a document lbex.capabilities/1"),
    ] {
        let (code, text) = says(&[define], "")?;
        let line = text.lines().find(|line| line.starts_with("FAILED  it loads, and says what it is: "));
        ensure!(code == Some(1) && line.is_some_and(|line| line.contains(why)), "{define}: {code:?} {text}");
    }
    for (fault, why) in [("table none", "no backend"), ("table small", "has 16 bytes"), ("open invalid", "never")] {
        let (code, text) = says(&[], fault)?;
        let line = text.lines().find(|line| line.starts_with("FAILED  it opens, and says what it can do: "));
        ensure!(code == Some(1) && line.is_some_and(|line| line.contains(why)), "{fault}: {code:?} {text}");
    }
    let folder = Scratch::new("check")?;
    let (code, text) = printed(&folder.join("libnowhere.so"), &folder, "")?;
    ensure!(code == Some(2) && text.contains("No such file"), "{code:?} {text}");
    Ok(())
}

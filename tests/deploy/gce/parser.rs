//! Every call is one that the real `gcloud` takes. Where it is not installed, the stand-in, which knows each command's flags, is what
//! the calls were checked by; the test says which it was.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Project;

/// The real gcloud, wherever the PATH of whoever runs the tests has it.
fn real() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("gcloud")).find(|program| program.is_file())
}

/// All calls of a life.
fn calls() -> Result<Vec<String>> {
    let project = Project::new()?;
    project.add("http-health-checks", "mylbex-healthcheck", "")?;
    project.up(&["--ingress-cidr=192.0.2.0/24,198.51.100.0/24"])?.succeeded()?;
    project.up(&["--lbex-version=0.9.0"])?.succeeded()?;
    project.down()?.succeeded()?;
    let mut calls: Vec<String> = project.take_calls()?.into_iter().map(|call| call[2..].to_owned()).collect();
    calls.retain(|call| call.starts_with("gcloud "));
    // Those of the page that somebody types.
    let page = std::fs::read_to_string(super::root().join("docs/install-gce.md"))?;
    calls.extend(
        page.lines().filter(|line| line.starts_with("gcloud ") && !line.ends_with("--version")).map(str::to_owned),
    );
    calls.sort();
    calls.dedup();
    ensure!(calls.len() > 25, "only {} calls", calls.len());
    Ok(calls)
}

/// What the real gcloud's own parser says of each command, without credentials and network.
fn parsed(gcloud: &PathBuf, commands: &[String]) -> Result<Vec<Value>> {
    let folder = lbex_test_harness::Scratch::new("gcloud")?;
    let file = folder.join("commands.json");
    let list: Vec<Value> = commands.iter().map(|command| json!({"command_string": command})).collect();
    std::fs::write(&file, json!(list).to_string())?;
    let mut command = std::process::Command::new(gcloud);
    command.args(["meta", "lint-gcloud-commands"]).arg(format!("--commands-file={}", file.display()));
    command.env("CLOUDSDK_CONFIG", folder.join("config")).env("CLOUDSDK_CORE_DISABLE_PROMPTS", "1");
    let run = super::output(&mut command)?.succeeded()?;
    let verdicts: Vec<Value> =
        serde_json::from_str(&run.stdout).with_context(|| run.stdout.chars().take(500).collect::<String>())?;
    ensure!(verdicts.len() == commands.len(), "{} verdicts on {} commands", verdicts.len(), commands.len());
    Ok(verdicts)
}

#[test]
fn every_call_is_one_that_gcloud_knows() -> Result<()> {
    // The stand-in has refused what it does not know with exit code 2.
    let mut commands = calls()?;
    let Some(gcloud) = real() else {
        eprintln!("gcloud is not installed: {} calls were checked by its stand-in", commands.len());
        return Ok(());
    };
    // The parser can say no.
    let wrong = [
        "gcloud compute networks subnets create x --bogus=1",
        "gcloud compute health-checks create http x --port=many",
    ];
    let known = commands.len();
    commands.extend(wrong.map(str::to_owned));
    let verdicts = parsed(&gcloud, &commands)?;
    for (n, (verdict, command)) in verdicts.iter().zip(&commands).enumerate() {
        ensure!(verdict["success"] == json!(n < known), "{command}: {}", verdict["error_message"]);
    }
    eprintln!("{known} calls were checked by the parser of {}", gcloud.display());
    Ok(())
}

/// The filter of a call, without its quotes.
fn filter(call: &str) -> Option<&str> {
    let (_, rest) = call.split_once("--filter=")?;
    rest.strip_prefix('\'').map_or_else(|| rest.split(' ').next(), |rest| rest.split('\'').next())
}

/// By gcloud's own code: each filter finds the one thing (or the things of one kind) that it is for, and no neighbour's. Where gcloud is
/// not installed, what the stand-in makes of filters has to do (`life.rs`).
#[test]
fn every_filter_finds_what_it_is_for_and_no_neighbour() -> Result<()> {
    let calls = calls()?;
    let mut questions = Vec::new();
    let mut expected = Vec::new();
    for call in calls.iter().filter(|call| !call.contains("tags.items")) {
        let Some(filter) = filter(call) else { continue };
        // The names that are in the filter: `name~"^(a|b)$"`.
        let pattern = filter.split_once("^(").and_then(|(_, rest)| rest.split_once(")$")).context(filter.to_owned())?.0;
        let pattern = pattern.replace("[.]", ".").replace("(-[0-9a-f]{10})?", "-0123456789");
        let wanted: Vec<String> = pattern.split('|').map(str::to_owned).collect();
        let mut names = wanted.clone();
        for name in &wanted {
            names.extend([format!("other-{name}"), format!("{name}-2"), format!("x{name}"), format!("{name}x")]);
        }
        questions.push(json!({"filter": filter, "compute": call.starts_with("gcloud compute "), "names": names}));
        expected.push(wanted);
    }
    ensure!(questions.len() >= 10, "only {} filters", questions.len());
    let Some(gcloud) = real() else {
        eprintln!("gcloud is not installed: {} filters were evaluated by its stand-in", questions.len());
        return Ok(());
    };
    let program = gcloud.canonicalize()?;
    let sdk = program.parent().and_then(std::path::Path::parent).context("gcloud is in no folder")?;
    let bundled = sdk.join("platform/bundledpythonunix/bin/python3");
    let python = if bundled.is_file() { bundled } else { lbex_test_harness::programs::find("python3")? };
    let input = lbex_test_harness::Scratch::new("filters")?;
    std::fs::write(input.join("questions"), json!(questions).to_string())?;
    let mut command = std::process::Command::new(python);
    command.arg(super::root().join("tests/deploy/gce/filters.py")).arg(sdk.join("lib"));
    command.stdin(std::fs::File::open(input.join("questions"))?).env("CLOUDSDK_CONFIG", input.join("config"));
    let run = super::output(&mut command)?.succeeded()?;
    let found: Vec<Vec<String>> = serde_json::from_str(&run.stdout)?;
    for ((found, expected), question) in found.iter().zip(&expected).zip(&questions) {
        ensure!(found == expected, "{} finds {found:?}, not {expected:?}", question["filter"]);
    }
    eprintln!("{} filters were evaluated by the code of {}", found.len(), gcloud.display());
    Ok(())
}

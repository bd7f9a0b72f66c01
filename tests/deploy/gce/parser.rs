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

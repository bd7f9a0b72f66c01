//! The chart `deploy/helm/lbex` and the manifests rendered from it: by helm, for the API server's own schemas and its admission, and
//! with LBEX run as the rendered Pods would be.

mod render;
mod schemas;
mod serve;
mod server;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::programs;
use serde_json::Value;

/// Where the tests install it.
const NAMESPACE: &str = "lbex-system";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn chart() -> PathBuf {
    root().join("deploy/helm/lbex")
}

/// The sets of values beside the chart.
fn value_files() -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(chart().join("ci"))?.flatten().map(|file| file.path()).collect();
    files.sort();
    ensure!(files.len() >= 6, "only {} sets of values", files.len());
    Ok(files)
}

/// Runs helm; fails with what it says.
fn helm(arguments: &[&str]) -> Result<String> {
    let output = Command::new(programs::find("helm")?).args(arguments).output().context("failed to run helm")?;
    ensure!(output.status.success(), "helm {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// What the chart makes of the arguments, for instance `["--set", "kind=Deployment"]`.
fn template(release: &str, arguments: &[&str]) -> Result<String> {
    let chart = chart().display().to_string();
    let first = ["template", release, &chart, "--namespace", NAMESPACE];
    helm(&first.into_iter().chain(arguments.iter().copied()).collect::<Vec<_>>())
}

/// The objects of a list as `kubectl -o json` prints it, or of one object.
fn objects(json: &str) -> Result<Vec<Value>> {
    let value: Value = serde_json::from_str(json).context("kubectl did not print JSON")?;
    Ok(value["items"].as_array().cloned().unwrap_or_else(|| vec![value]))
}

//! Credential plugins: programs that a kubeconfig names (`exec`), which print a token or a client certificate.
//!
//! LBEX runs them itself rather than leave it to the crate `kube`, which runs them several times over for one client, without a
//! time limit, on the terminal, and loses `installHint`.

use std::io;
use std::process::{Output, Stdio};
use std::time::{Duration, SystemTime};

use ::kube::config::{AuthInfo, ExecAuthCluster, ExecConfig, ExecInteractiveMode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lbex_core::names::Quoted;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use super::Renewal;

/// How long a plugin may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Credentials are renewed so long before they end.
const MARGIN: Duration = Duration::from_secs(60);
/// The versions of the protocol between client and plugin.
const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// What is wrong with a plugin, and what to do.
#[derive(Debug)]
pub(super) struct ExecError {
    pub(super) problem: String,
    pub(super) remedy: String,
}

impl ExecError {
    fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    api_version: Option<String>,
    kind: Option<String>,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    expiration_timestamp: Option<String>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

/// Runs the plugin and writes what it answers into `auth`. Returns when to run it again.
pub(super) async fn run(
    exec: &ExecConfig,
    cluster: Option<ExecAuthCluster>,
    auth: &mut AuthInfo,
) -> Result<Option<Renewal>, ExecError> {
    let command = exec.command.as_deref().filter(|c| !c.is_empty()).ok_or_else(|| {
        ExecError::new("its credential plugin (exec) has no command", "give the plugin's program as `command`")
    })?;
    let version = exec.api_version.as_deref().unwrap_or_default();
    if !VERSIONS.contains(&version) {
        let problem = format!("its credential plugin {command} has the apiVersion {}", Quoted(version));
        return Err(ExecError::new(problem, format!("allowed: {}", VERSIONS.join(", "))));
    }
    if exec.interactive_mode == Some(ExecInteractiveMode::Always) {
        let problem = format!("its credential plugin {command} wants a terminal (interactiveMode: Always)");
        return Err(ExecError::new(problem, "LBEX has none: use credentials that need nobody at a keyboard"));
    }
    let output = output(exec, command, version, cluster).await?;
    let answer = answer(command, version, &output)?;
    take(command, answer, auth)
}

async fn output(
    exec: &ExecConfig,
    command: &str,
    version: &str,
    cluster: Option<ExecAuthCluster>,
) -> Result<Output, ExecError> {
    let info = json!({
        "apiVersion": version, "kind": "ExecCredential",
        "spec": { "interactive": false, "cluster": cluster },
    });
    let mut process = tokio::process::Command::new(command);
    process.args(exec.args.iter().flatten()).env("KUBERNETES_EXEC_INFO", info.to_string());
    for variable in crate::supervisor::VARIABLES {
        process.env_remove(variable);
    }
    for variable in exec.env.iter().flatten() {
        if let (Some(name), Some(value)) = (variable.get("name"), variable.get("value")) {
            process.env(name, value);
        }
    }
    process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let hint = exec.install_hint.as_deref().unwrap_or("install it, or give its full path").trim();
    match tokio::time::timeout(LIMIT, process.output()).await {
        Err(_) => {
            let problem = format!("its credential plugin {command} did not end within {} s", LIMIT.as_secs());
            Err(ExecError::new(problem, "run it by hand to see what it waits for"))
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            Err(ExecError::new(format!("its credential plugin {command} is not there"), hint))
        }
        Ok(Err(error)) => Err(ExecError::new(format!("its credential plugin {command} cannot be run: {error}"), hint)),
        Ok(Ok(output)) => Ok(output),
    }
}

fn answer(command: &str, version: &str, output: &Output) -> Result<Answer, ExecError> {
    let by_hand = format!("run {command} by hand, as the user that LBEX runs as");
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        // The end says why.
        let tail: String = said.trim().chars().rev().take(Quoted::LIMIT * 4).collect();
        let tail: String = tail.chars().rev().collect();
        let problem = format!("its credential plugin {command} failed ({}): {}", output.status, tail.escape_debug());
        return Err(ExecError::new(problem, by_hand));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout).map_err(|error| {
        // The place, never the text: that may be a token.
        let place = format!("line {}, column {}", error.line(), error.column());
        ExecError::new(format!("its credential plugin {command} printed no ExecCredential ({place})"), &by_hand)
    })?;
    let (kind, answered) = (answer.kind.as_deref(), answer.api_version.as_deref());
    if kind != Some("ExecCredential") || answered != Some(version) {
        let found = format!("{} {}", Quoted(answered.unwrap_or_default()), Quoted(kind.unwrap_or_default()));
        let problem = format!("its credential plugin {command} printed {found}, not an ExecCredential of {version}");
        return Err(ExecError::new(problem, "set `apiVersion` of the plugin to what it speaks"));
    }
    Ok(answer)
}

fn take(command: &str, answer: Answer, auth: &mut AuthInfo) -> Result<Option<Renewal>, ExecError> {
    let incomplete = |what: &str| {
        let problem = format!("its credential plugin {command} answered {what}");
        ExecError::new(problem, "a token, or a client certificate with its key, is needed")
    };
    let status = answer.status.ok_or_else(|| incomplete("without a status"))?;
    let token = status.token.filter(|token| !token.is_empty());
    match (status.client_certificate_data, status.client_key_data) {
        (Some(certificate), Some(key)) => {
            auth.client_certificate_data = Some(STANDARD.encode(certificate));
            auth.client_key_data = Some(SecretString::from(STANDARD.encode(key)));
        }
        (None, None) if token.is_some() => {}
        (None, None) => return Err(incomplete("with neither a token nor a certificate")),
        _ => return Err(incomplete("with only one of certificate and key")),
    }
    auth.token = token.map(SecretString::from);
    let Some(text) = status.expiration_timestamp else { return Ok(None) };
    let end: jiff::Timestamp =
        text.parse().map_err(|_| incomplete(&format!("with the expirationTimestamp {}", Quoted(&text))))?;
    Ok(Some(Renewal::at(SystemTime::from(end) - MARGIN)))
}

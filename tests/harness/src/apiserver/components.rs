//! What may run beside the API server: controller manager, scheduler, kwok.

use std::process::Command;

use anyhow::{Context, Result};

use super::{ApiServer, Builder};
use crate::process::Process;
use crate::programs;

/// Starts what `options` ask for. None of them listens on a port.
pub(super) fn start(server: &ApiServer, options: &Builder) -> Result<Vec<Process>> {
    let mut processes = Vec::new();
    if let Some(controllers) = &options.controllers {
        processes.push(run(server, "kube-controller-manager", |command| {
            command
                .arg(format!("--controllers={controllers}"))
                .arg(format!("--service-account-private-key-file={}", server.pki.service_account_key.display()))
                .arg(format!("--root-ca-file={}", server.pki.ca.display()))
                .args(["--leader-elect=false", "--secure-port=0"]);
        })?);
    }
    if options.scheduler {
        processes.push(run(server, "kube-scheduler", |command| {
            command.args(["--leader-elect=false", "--secure-port=0"]);
        })?);
    }
    if let Some(cidr) = &options.kwok {
        let stages = server.scratch.join("kwok.yaml");
        std::fs::write(&stages, include_str!("kwok-stages.yaml"))
            .with_context(|| format!("failed to write {}", stages.display()))?;
        processes.push(run(server, "kwok", |command| {
            command
                .arg(format!("--config={}", stages.display()))
                .args(["--manage-all-nodes=true", "--node-lease-duration-seconds=40"])
                .arg(format!("--cidr={cidr}"));
        })?);
    }
    Ok(processes)
}

fn run(server: &ApiServer, name: &str, add: impl FnOnce(&mut Command)) -> Result<Process> {
    let mut command = Command::new(programs::find(name)?);
    command.arg(format!("--kubeconfig={}", server.kubeconfig.display()));
    add(&mut command);
    Process::start(name, &command, &server.scratch.join(format!("{name}.log")))
}

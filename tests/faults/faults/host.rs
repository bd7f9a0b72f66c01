//! The host lacks something: a port, files that may be opened.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use lbex_test_harness::objects::{service, slice};
use lbex_test_harness::programs;
use lbex_test_harness::wait::{SOON, eventually};

use super::Fault;
use crate::services::Life;
use crate::world::World;

/// A Service's port is another process's. The Service is refused, until the port is free.
#[derive(Default)]
pub(super) struct PortTaken(Option<TcpListener>);

#[async_trait]
impl Fault for PortTaken {
    async fn inject(&mut self, world: &World) -> Result<()> {
        let port = *world.spare_ports.first().context("no spare port")?;
        self.0 = Some(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?);
        let server = &world.of(Life::Moving)[1].servers[0];
        let one = slice("taken-1", "taken").tcp("tcp", server.port()).ready(server.address().ip(), "n");
        world.cluster.put(&one).await?;
        let taken = service("taken").ask().lbex("upstream-type", "pod").cluster_ip().tcp("tcp", 1000, 0);
        world.cluster.put(&taken.listen("tcp", port)).await
    }

    async fn heal(&mut self, _world: &World) -> Result<()> {
        self.0 = None;
        Ok(())
    }
}

/// LBEX may open no more files than it has, until it may again.
pub(super) struct NoFiles;

#[async_trait]
impl Fault for NoFiles {
    async fn inject(&mut self, world: &World) -> Result<()> {
        let lbex = world.lbex().await;
        // One that is only beginning could not even find its NGINX, and ends.
        eventually("LBEX runs", SOON, || lbex.get("/livez")).await?;
        let open = std::fs::read_dir(format!("/proc/{}/fd", lbex.pid()))?.count();
        // Only the soft limit: LBEX is root and could raise it itself, when it looks.
        limit_files(lbex.pid(), &format!("{open}:"))
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        let lbex = world.lbex().await;
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", lbex.pid()))?;
        let line = limits.lines().find(|line| line.starts_with("Max open files")).context("no limit on files")?;
        let hard = line.split_ascii_whitespace().nth(4).context("no hard limit")?;
        limit_files(lbex.pid(), &format!("{hard}:"))
    }
}

fn limit_files(pid: u32, limit: &str) -> Result<()> {
    // As whoever it belongs to: another user's takes a right that root need not have.
    let user = std::fs::metadata(format!("/proc/{pid}"))?.uid();
    let mut command = Command::new(programs::find("setpriv")?);
    command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()]);
    command.arg(programs::find("prlimit")?).args([format!("--pid={pid}"), format!("--nofile={limit}")]);
    let output = command.output()?;
    ensure!(output.status.success(), "prlimit: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

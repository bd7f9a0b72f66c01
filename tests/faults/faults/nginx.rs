//! NGINX's processes are killed, stopped, reloaded.

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use lbex_test_harness::nginx::NginxProcess;
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::Signal;

use super::Fault;
use crate::world::World;

fn serves(process: &NginxProcess) -> bool {
    !process.is_master() && !process.is_shutting_down()
}

/// The master alone: its workers go on, until LBEX starts another NGINX.
pub(super) struct MasterKilled;

#[async_trait]
impl Fault for MasterKilled {
    async fn inject(&mut self, world: &World) -> Result<()> {
        world.signal_nginx(Signal::SIGKILL, NginxProcess::is_master)
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        eventually("another NGINX runs", SOON * 2, || async {
            let master = world.nginx().into_iter().find(NginxProcess::is_master).context("no master")?;
            let children = format!("/proc/{0}/task/{0}/children", master.pid);
            ensure!(!std::fs::read_to_string(children)?.is_empty(), "it has no workers yet");
            Ok(())
        })
        .await
    }
}

/// One worker: the master starts another one.
pub(super) struct WorkerKilled;

#[async_trait]
impl Fault for WorkerKilled {
    async fn inject(&mut self, world: &World) -> Result<()> {
        let first = world.nginx().into_iter().find(serves).map(|process| process.pid);
        world.signal_nginx(Signal::SIGKILL, |process| Some(process.pid) == first)
    }
}

/// All workers, and not the master.
pub(super) struct WorkersKilled;

#[async_trait]
impl Fault for WorkersKilled {
    async fn inject(&mut self, world: &World) -> Result<()> {
        world.signal_nginx(Signal::SIGKILL, |process| !process.is_master())
    }
}

/// All of it.
pub(super) struct GroupKilled;

#[async_trait]
impl Fault for GroupKilled {
    async fn inject(&mut self, world: &World) -> Result<()> {
        world.signal_nginx(Signal::SIGKILL, NginxProcess::is_master)?;
        world.signal_nginx(Signal::SIGKILL, |_| true)
    }
}

/// SIGSTOP to one worker, and SIGCONT.
pub(super) struct WorkerStopped;

#[async_trait]
impl Fault for WorkerStopped {
    async fn inject(&mut self, world: &World) -> Result<()> {
        let first = world.nginx().into_iter().find(serves).map(|process| process.pid);
        world.signal_nginx(Signal::SIGSTOP, |process| Some(process.pid) == first)
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        world.signal_nginx(Signal::SIGCONT, |_| true)
    }
}

/// SIGHUP to the master.
pub(super) struct ReloadedByHand;

#[async_trait]
impl Fault for ReloadedByHand {
    async fn inject(&mut self, world: &World) -> Result<()> {
        world.signal_nginx(Signal::SIGHUP, NginxProcess::is_master)
    }
}

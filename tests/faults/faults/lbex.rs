//! LBEX itself is away.

use std::time::Duration;

use anyhow::{Result, ensure};
use async_trait::async_trait;
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::Signal;

use super::Fault;
use crate::world::World;

/// `kill -9`; then it is started again.
pub(super) struct Killed;

#[async_trait]
impl Fault for Killed {
    async fn inject(&mut self, world: &World) -> Result<()> {
        world.take_lbex_away(async |lbex| lbex.kill().await).await
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        world.bring_lbex_back().await
    }
}

/// SIGTERM, as a supervisor does it; then it is started again.
pub(super) struct Terminated;

#[async_trait]
impl Fault for Terminated {
    async fn inject(&mut self, world: &World) -> Result<()> {
        world.take_lbex_away(async |lbex| lbex.terminate().await.map(drop)).await
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        world.bring_lbex_back().await
    }
}

/// SIGSTOP and SIGCONT.
pub(super) struct Stopped;

#[async_trait]
impl Fault for Stopped {
    async fn inject(&mut self, world: &World) -> Result<()> {
        world.lbex().await.signal(Signal::SIGSTOP)
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        world.lbex().await.signal(Signal::SIGCONT)
    }
}

/// Killed at moments that are spread over what it does in its first second.
pub(super) struct KilledAgainAndAgain;

#[async_trait]
impl Fault for KilledAgainAndAgain {
    async fn inject(&mut self, world: &World) -> Result<()> {
        for moment in [20, 60, 120, 250, 500, 900] {
            Killed.inject(world).await?;
            Killed.heal(world).await?;
            tokio::time::sleep(Duration::from_millis(moment)).await;
        }
        Ok(())
    }
}

/// Everything on the host is gone at once; then LBEX is started, and nothing else.
pub(super) struct Rebooted;

#[async_trait]
impl Fault for Rebooted {
    async fn inject(&mut self, world: &World) -> Result<()> {
        Killed.inject(world).await?;
        eventually("NGINX is gone", SOON, || async {
            world.signal_nginx(Signal::SIGKILL, |_| true)?;
            ensure!(world.nginx().is_empty(), "{:?}", world.nginx());
            Ok(())
        })
        .await
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        world.bring_lbex_back().await
    }
}

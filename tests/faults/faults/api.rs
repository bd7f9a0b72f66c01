//! The API server is away.

use anyhow::Result;
use async_trait::async_trait;

use super::Fault;
use crate::world::World;

/// `kill -9`; then it is started again.
pub(super) struct Killed;

#[async_trait]
impl Fault for Killed {
    async fn inject(&mut self, world: &World) -> Result<()> {
        world.cluster.server()?.write().await.stop();
        Ok(())
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        world.cluster.server()?.write().await.start_again().await
    }
}

/// SIGSTOP: connections are accepted (the kernel does it) and nothing answers.
pub(super) struct Stopped;

#[async_trait]
impl Fault for Stopped {
    async fn inject(&mut self, world: &World) -> Result<()> {
        world.cluster.server()?.write().await.pause()
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        world.cluster.server()?.write().await.resume()
    }
}

/// Nothing gets through to it.
pub(super) struct Cut;

#[async_trait]
impl Fault for Cut {
    async fn inject(&mut self, world: &World) -> Result<()> {
        world.cluster.link.cut();
        Ok(())
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        world.cluster.link.mend();
        Ok(())
    }
}

/// Nothing gets through, and meanwhile etcd is compacted: watches cannot go on where they ended.
pub(super) struct HistoryGone;

#[async_trait]
impl Fault for HistoryGone {
    async fn inject(&mut self, world: &World) -> Result<()> {
        Cut.inject(world).await
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        world.cluster.server()?.read().await.compact().await?;
        Cut.heal(world).await
    }
}

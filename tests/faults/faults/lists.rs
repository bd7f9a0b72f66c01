//! The API server's lists are complete and wrong.

use anyhow::Result;
use async_trait::async_trait;

use super::Fault;
use crate::world::World;

/// Lists that lack what is there, until they are right again.
pub(super) enum Lie {
    Empty,
    Halved,
}

#[async_trait]
impl Fault for Lie {
    async fn inject(&mut self, world: &World) -> Result<()> {
        // Of three objects two are left out: of some kinds there are few, and half is not most.
        let halved = matches!(self, Self::Halved);
        world.cluster.lie(|index| halved && index % 3 == 0).await?;
        world.cluster.liar()?.expire();
        Ok(())
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        tell_the_truth(world).await
    }
}

/// The same objects, as those of a cluster with another identity.
pub(super) struct AnotherCluster;

#[async_trait]
impl Fault for AnotherCluster {
    async fn inject(&mut self, world: &World) -> Result<()> {
        world.cluster.liar()?.set_identity("second");
        world.cluster.lie(|index| index == 0).await?;
        world.cluster.liar()?.expire();
        Ok(())
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        world.cluster.liar()?.set_identity("first");
        tell_the_truth(world).await
    }
}

/// Versions go back, and most of the objects are not there yet; then somebody writes them again.
pub(super) struct OlderBackup;

#[async_trait]
impl Fault for OlderBackup {
    async fn inject(&mut self, world: &World) -> Result<()> {
        world.cluster.lie(|index| index % 3 == 0).await?;
        let liar = world.cluster.liar()?;
        liar.set_version(10);
        liar.disconnect();
        Ok(())
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        tell_the_truth(world).await
    }
}

async fn tell_the_truth(world: &World) -> Result<()> {
    world.cluster.lie(|_| true).await?;
    world.cluster.liar()?.expire();
    Ok(())
}

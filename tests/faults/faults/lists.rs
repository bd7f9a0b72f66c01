//! The API server's lists are complete and wrong.

use anyhow::Result;
use async_trait::async_trait;

use super::Fault;
use crate::world::World;

/// Lists that lack what is there, until they are right again.
pub(super) enum Lie {
    Empty,
    LacksMost,
}

#[async_trait]
impl Fault for Lie {
    async fn inject(&mut self, world: &World) -> Result<()> {
        let some = matches!(self, Self::LacksMost);
        world.cluster.lie(|index| some && index % 4 == 0).await?;
        world.cluster.liar()?.expire();
        Ok(())
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        world.cluster.tell_the_truth().await
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
        world.cluster.tell_the_truth().await
    }
}

/// Versions go back, and most of the objects are not there yet; then somebody writes them again.
pub(super) struct OlderBackup;

#[async_trait]
impl Fault for OlderBackup {
    async fn inject(&mut self, world: &World) -> Result<()> {
        world.cluster.lie(|index| index % 4 == 0).await?;
        let liar = world.cluster.liar()?;
        liar.set_version(10);
        liar.disconnect();
        Ok(())
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        world.cluster.tell_the_truth().await
    }
}

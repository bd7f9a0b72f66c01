//! The objects change more than they should.

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use lbex_test_harness::objects::{Service, slice};
use tokio::time::{Instant, interval, sleep};

use super::Fault;
use crate::services::{Life, put_nodes};
use crate::world::World;

/// How long a storm lasts.
const STORM: Duration = Duration::from_millis(1_500);

/// Endpoints of all Services that may change become not ready and ready again, all at once, as when a node flaps.
pub(super) struct Flap;

#[async_trait]
impl Fault for Flap {
    async fn inject(&mut self, world: &World) -> Result<()> {
        for _ in 0..5 {
            for served in world.of(Life::Changing) {
                world.cluster.put(&served.slice(&[0])).await?;
            }
            sleep(Duration::from_millis(100)).await;
            for served in world.of(Life::Changing) {
                world.cluster.put(&served.whole()).await?;
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

/// All nodes are not Ready, until they are.
pub(super) struct NodesFlap;

#[async_trait]
impl Fault for NodesFlap {
    async fn inject(&mut self, world: &World) -> Result<()> {
        put_nodes(&world.netns, &world.cluster, false).await
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        put_nodes(&world.netns, &world.cluster, true).await
    }
}

/// Services are created and deleted, 100 times a second, as far as the API server takes that many.
pub(super) struct Storm;

#[async_trait]
impl Fault for Storm {
    async fn inject(&mut self, world: &World) -> Result<()> {
        let server = &world.of(Life::Moving)[0].servers[0];
        let objects = |port: u16| -> (Service, _) {
            let name = format!("storm{port}");
            let slice = slice(&format!("{name}-1"), &name).tcp("tcp", server.port()).ready(server.address().ip(), "n");
            let service = lbex_test_harness::objects::service(&name).ask().lbex("upstream-type", "pod").cluster_ip();
            (service.tcp("tcp", 1000, 0).listen("tcp", port), slice)
        };
        let mut tick = interval(Duration::from_millis(10));
        let begin = Instant::now();
        let mut there: Vec<u16> = Vec::new();
        // The first one is for another fault.
        let ports = &world.spare_ports[1..];
        for port in ports.iter().copied().cycle() {
            tick.tick().await;
            // Half of them are there at a time.
            if there.len() > ports.len() / 2 || begin.elapsed() > STORM {
                let Some(oldest) = (!there.is_empty()).then(|| there.remove(0)) else { return Ok(()) };
                world.cluster.delete("Service", &format!("storm{oldest}")).await?;
                world.cluster.delete("EndpointSlice", &format!("storm{oldest}-1")).await?;
            }
            if begin.elapsed() < STORM && !there.contains(&port) {
                let (service, slice) = objects(port);
                world.cluster.put(&service).await?;
                world.cluster.put(&slice).await?;
                there.push(port);
            }
        }
        Ok(())
    }
}

/// The endpoints of one Service change 100 times a second, as far as the API server takes that many.
pub(super) struct Hot;

#[async_trait]
impl Fault for Hot {
    async fn inject(&mut self, world: &World) -> Result<()> {
        let hot = world.of(Life::Changing)[0];
        let mut tick = interval(Duration::from_millis(10));
        let begin = Instant::now();
        for ready in [&[0][..], &[0, 1], &[0, 2], &[0, 1, 2]].into_iter().cycle() {
            tick.tick().await;
            world.cluster.put(&hot.slice(ready)).await?;
            if begin.elapsed() > STORM {
                break;
            }
        }
        Ok(())
    }
}

/// An annotation that takes a reload is there, and is not, again and again.
pub(super) struct BackAndForth;

#[async_trait]
impl Fault for BackAndForth {
    async fn inject(&mut self, world: &World) -> Result<()> {
        let edited = world.of(Life::Changing)[1];
        for _ in 0..10 {
            world.cluster.put(&edited.service().lbex("algorithm", "least_conn")).await?;
            sleep(Duration::from_millis(70)).await;
            world.cluster.put(&edited.service()).await?;
            sleep(Duration::from_millis(70)).await;
        }
        Ok(())
    }
}

//! LBEX was away, and what the API server says then is wrong.

use anyhow::{Result, ensure};
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::Signal;

use crate::{Clients, MANY, World};

impl World {
    /// Waits until LBEX has saved what it knows of the cluster.
    pub(crate) async fn inventory_is_saved(&self) -> Result<()> {
        let file = self.lbex.prefix().join("state/last-good.json");
        eventually("the inventory is saved", SOON, || async {
            let text = std::fs::read_to_string(&file)?;
            ensure!(text.contains("default/s11") && text.contains("\"inventory\"") && text.contains("first"), "{text}");
            Ok(())
        })
        .await
    }

    /// Waits for that, ends LBEX, lets `meanwhile` happen, and starts it again.
    async fn restart(&mut self, meanwhile: impl FnOnce(&Self)) -> Result<()> {
        self.inventory_is_saved().await?;
        self.lbex.terminate().await?;
        meanwhile(self);
        self.lbex.start_again()?;
        self.lbex.wait_healthy().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_restored_empty_while_lbex_was_away_stops_no_traffic() -> Result<()> {
    let mut world = World::start(&[]).await?;
    let clients = Clients::of(&world);
    let nginx = world.lbex.nginx_pid()?;
    world.restart(World::lose_everything).await?;
    world.held("service", MANY).await?;
    world.held("endpoints", MANY).await?;
    world.lbex.wait_log("12 of 12 Services that were known before the restart", SOON).await?;
    world.all_answer().await?;
    world.recover();
    world.held("service", 0).await?;
    world.held("endpoints", 0).await?;
    world.all_answer().await?;
    clients.were_all_answered().await?;
    ensure!(world.lbex.nginx_pid()? == nginx, "another NGINX");

    // The same again, and the operator says that it is so.
    world.restart(World::lose_everything).await?;
    world.held("service", MANY).await?;
    world.lbex.signal(Signal::SIGUSR1)?;
    world.all_refuse().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_after_a_restart_is_not_served_until_the_operator_says_so() -> Result<()> {
    let mut world = World::start(&[]).await?;
    let clients = Clients::of(&world);
    world
        .restart(|world| {
            world.api.set_identity("second");
            world.lose_everything();
        })
        .await?;
    world.metric_is("lbex_cluster_held", &[], 1.0).await?;
    world.all_answer().await?;
    clients.were_all_answered().await?;
    world.lbex.signal(Signal::SIGUSR1)?;
    world.all_refuse().await
}

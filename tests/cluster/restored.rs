//! A real API server whose storage was lost, or put back from a backup: traffic goes on until the operator says that it is right.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::objects::Objects;
use lbex_test_harness::wait::eventually;
use nix::sys::signal::Signal;

use crate::common::{Cluster, Served, Steady, tcp_is};

/// How long LBEX may take to follow an API server that is back.
const AGAIN: Duration = Duration::from_secs(60);

async fn metric_is(lbex: &Lbex, name: &str, labels: &[(&str, &str)], expected: f64) -> Result<()> {
    eventually(name, AGAIN, || async {
        let seen = lbex.metric(name, labels).await?;
        ensure!(seen == Some(expected), "{seen:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn storage_that_is_lost_is_another_cluster() -> Result<()> {
    let mut server = ApiServer::start().await?;
    let cluster = Cluster::on(&server).await?;
    let kept = cluster.serve("kept", |service| service).await?;
    let lbex = cluster.start(&["--reload-interval=100ms"]).await?;
    tcp_is(kept.port, "kept").await?;
    let steady = Steady::start(kept.port, "kept");
    server.lose_everything().await?;
    metric_is(&lbex, "lbex_cluster_held", &[], 1.0).await?;
    lbex.wait_log("another cluster answers", AGAIN).await?;
    tcp_is(kept.port, "kept").await?;
    lbex.wait_healthy().await?;
    steady.finish().await?;
    lbex.signal(Signal::SIGUSR1)?;
    tcp_is(kept.port, "refused").await
}

#[tokio::test]
async fn an_old_backup_removes_nothing_at_once() -> Result<()> {
    let mut server = ApiServer::start().await?;
    let cluster = Cluster::on(&server).await?;
    let kept = cluster.serve("kept", |service| service).await?;
    let backup = server.save().await?;
    // The client's connections ended with the server.
    let cluster = Cluster { objects: Objects::new(server.client().await?, cluster.namespace()), ..cluster };
    let mut newer: Vec<Served> = Vec::new();
    for n in 0..12 {
        newer.push(cluster.serve(&format!("newer-{n}"), |service| service).await?);
    }
    let lbex = cluster.start(&["--reload-interval=100ms"]).await?;
    tcp_is(kept.port, "kept").await?;
    tcp_is(newer[11].port, "newer-11").await?;
    let steady = Steady::start(newer[11].port, "newer-11");
    server.restore(&backup).await?;
    metric_is(&lbex, "lbex_removals_held", &[("kind", "service")], 12.0).await?;
    metric_is(&lbex, "lbex_cluster_held", &[], 0.0).await?;
    tcp_is(newer[0].port, "newer-0").await?;
    steady.finish().await?;
    lbex.signal(Signal::SIGUSR1)?;
    tcp_is(newer[11].port, "refused").await?;
    tcp_is(kept.port, "kept").await
}

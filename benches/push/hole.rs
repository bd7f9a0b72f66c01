//! One of four endpoints is black-holed while others come and go: how many of the clients that NGINX first sends there get an
//! answer nevertheless.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lbex_test_harness::lbex::Lbex;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::endpoints::{BlackHole, COUNT, HOLE};
use super::measure::seen;
use super::prober::Prober;
use super::systems::reloads;
use crate::common::proxy::local;

/// How long NGINX tries to reach an endpoint before it takes the next.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

/// How many clients connect at the same time. NGINX leaves the black hole alone for 2 s once it knows it, so that only those that
/// connect at about the same time meet it.
const CLIENTS: usize = 32;

/// A client's pause between two connections.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a client waits for an answer.
const LIMIT: Duration = Duration::from_secs(10);

/// How many connections came to what.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) connections: usize,
    /// Those that NGINX first sent to the black hole: they took that long.
    pub(crate) met: usize,
    /// Those without an answer.
    pub(crate) failed: usize,
    pub(crate) changes: usize,
    pub(crate) reloads: f64,
}

/// Changes one of four endpoints for that long, with that pause.
pub(crate) async fn run(cluster: &Cluster, lbex: &Lbex, port: u16, time: Duration, period: Duration) -> Result<Tally> {
    let _hole = BlackHole::open(port)?;
    let listener = local(cluster.listener);
    let before = reloads(lbex).await?;
    cluster.set_endpoints(&[0, 1, 2, HOLE]).await?;
    let prober = Prober::start(listener)?;
    seen(&prober, 2).await.with_context(|| lbex.log_tail())?;
    prober.finish()?;

    let stop = CancellationToken::new();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let stop = stop.clone();
        clients.spawn(async move {
            let mut tally = Tally::default();
            while !stop.is_cancelled() {
                let begin = Instant::now();
                let answer = timeout(LIMIT, ask(listener)).await;
                tally.connections += 1;
                tally.met += usize::from(begin.elapsed() >= CONNECT_TIMEOUT.mul_f64(0.9));
                tally.failed += usize::from(!matches!(answer, Ok(Ok(text)) if !text.is_empty()));
                sleep(PAUSE).await;
            }
            tally
        });
    }
    let begin = Instant::now();
    let mut sum = Tally::default();
    while begin.elapsed() < time {
        sum.changes += 1;
        cluster.set_endpoints(&[0, 1, 2 + sum.changes % (COUNT - 2), HOLE]).await?;
        sleep(period).await;
    }
    stop.cancel();
    while let Some(tally) = clients.join_next().await {
        let tally = tally.context("a client has panicked")?;
        sum.connections += tally.connections;
        sum.met += tally.met;
        sum.failed += tally.failed;
    }
    sum.reloads = reloads(lbex).await? - before;
    Ok(sum)
}

async fn ask(listener: std::net::SocketAddr) -> std::io::Result<String> {
    let mut text = String::new();
    TcpStream::connect(listener).await?.read_to_string(&mut text).await?;
    Ok(text)
}

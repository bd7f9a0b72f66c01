//! Changes at a steady rate, and how long each takes to be seen: by a bare watcher, and in traffic.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::wait::eventually;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::cluster::{Cluster, SLICE};
use super::endpoints::COUNT;
use super::prober::{Answer, Prober};
use super::systems::reloads;
use super::usage::Processor;
use super::watcher::Watcher;
use crate::common::proxy::{PATIENCE, local};
use crate::common::stats::Samples;

/// How long after the last change an endpoint that is gone may still be seen.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// What came of a number of changes.
pub(crate) struct Run {
    /// From before the write to the first connection that the new endpoint answers.
    pub(crate) added: Samples,
    /// From before the write to the last connection that the endpoint which is gone answers.
    pub(crate) removed: Samples,
    /// From before the write to what a bare watcher is told.
    pub(crate) watched: Samples,
    /// What it took, the connections of the client included.
    pub(crate) used: Processor,
    pub(crate) reloads: f64,
    pub(crate) connections: usize,
    pub(crate) failed: usize,
}

/// A change.
#[derive(Debug, Clone, Copy)]
struct Change {
    begun: Instant,
    endpoint: usize,
}

/// Moves the Service from endpoint to endpoint, `changes` times, one after each `period`.
pub(crate) async fn run(cluster: &Cluster, lbex: &Lbex, changes: usize, period: Duration) -> Result<Run> {
    let prober = Prober::start(local(cluster.listener))?;
    let first = eventually("the client sees somebody", PATIENCE, || async { prober.seen().context("nobody") }).await?;
    let watcher = Watcher::start(&cluster.server, &cluster.version().await?, SLICE, changes).await?;
    let (used, reloaded) = (Processor::of(lbex)?, reloads(lbex).await?);

    let mut made = Vec::with_capacity(changes);
    let mut clock = interval(period);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 1..=changes {
        clock.tick().await;
        let endpoint = (first + number) % COUNT;
        prober.expect(endpoint);
        made.push(Change { begun: Instant::now(), endpoint });
        cluster.set_endpoints(&[endpoint]).await?;
    }
    let last = made.last().context("no changes")?.endpoint;
    seen(&prober, last).await.with_context(|| lbex.log_tail())?;
    sleep(AFTERWARDS).await;

    let used = Processor::of(lbex)?.since(used);
    let reloads = reloads(lbex).await? - reloaded;
    let told = watcher.finish().await?;
    let answers = prober.finish()?;
    let (added, removed) = times(&made, &answers)?;
    Ok(Run {
        added,
        removed,
        watched: made.iter().zip(told).map(|(change, told)| told - change.begun).collect(),
        used,
        reloads,
        connections: answers.len(),
        failed: answers.iter().filter(|answer| answer.from.is_none()).count(),
    })
}

/// Waits until the client is answered by that endpoint.
pub(crate) async fn seen(prober: &Prober, endpoint: usize) -> Result<()> {
    prober.expect(endpoint);
    eventually(&format!("endpoint {endpoint} answers"), PATIENCE, || async {
        ensure!(prober.seen() == Some(endpoint), "{:?} does", prober.seen());
        Ok(())
    })
    .await
}

/// For each change, when the client saw it, or a later one in its place; and when it last saw one before it.
fn times(changes: &[Change], answers: &[Answer]) -> Result<(Samples, Samples)> {
    // Which change had the endpoint in when it answered: the newest by then.
    let of = |answer: &Answer| {
        let mut begun = changes.iter().enumerate().filter(|(_, change)| change.begun < answer.done);
        begun.rfind(|(_, change)| Some(change.endpoint) == answer.from).map(|(number, _)| number)
    };
    let seen: Vec<(Option<usize>, Instant)> =
        answers.iter().filter(|answer| answer.from.is_some()).map(|answer| (of(answer), answer.done)).collect();
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for (number, change) in changes.iter().enumerate() {
        let is_new = |of: Option<usize>| of.is_some_and(|of| of >= number);
        let first = seen.iter().find(|(of, _)| is_new(*of)).context("a change was never seen")?.1;
        let last = seen.iter().rfind(|(of, _)| !is_new(*of)).map_or(change.begun, |(_, done)| *done);
        added.push(first - change.begun);
        removed.push(last.saturating_duration_since(change.begun));
    }
    Ok((added.into_iter().collect(), removed.into_iter().collect()))
}

//! Every fault of `plugins/faulty` while LBEX follows hundreds of Services that change all the time: LBEX lives, the failure has its
//! name in the log, in a metric and, where the proxy is concerned, on the health endpoint; planning, health and metrics go on; and when
//! the fault is over the plugin has in the end what is desired.
//!
//! One LBEX goes through several faults, one after the other, and several LBEXes share the table. `LBEX_PLUGIN_FAULT='apply garbage'` has
//! that one alone; `LBEX_TEST_LONG=1` has 1,000 Services.

mod crash;
mod short;
mod table;
mod world;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use lbex_test_harness::lbex::{Builder, Lbex, Samples};
use lbex_test_harness::wait::{SOON, eventually};

use crate::support::binary;
use table::{FAULTS, Fault, HANGS, Seen};
use world::{Changing, World};

/// How many LBEXes go through the table.
const LANES: usize = 9;

fn services() -> usize {
    if std::env::var_os("LBEX_TEST_LONG").is_some() { 1000 } else { 300 }
}

/// An LBEX with the faulty plugin, whose Services change.
struct Lane {
    changing: Changing,
    lbex: Lbex,
}

impl Lane {
    async fn start(builder: Builder, more: &[&str]) -> Result<Self> {
        let world = World::new(services())?;
        let lbex = builder.args(world.flags()).args(more).start().await?;
        lbex.wait_healthy().await?;
        let lane = Self { changing: Changing::start(world), lbex };
        lane.is_whole().await?;
        Ok(lane)
    }

    /// From now on the plugin does this; empty: all as it should.
    async fn does(&self, fault: &str) -> Result<()> {
        let folder = self.changing.world.lock().await.prefix().join("plugins/faulty");
        std::fs::write(folder.join("fault.next"), fault)?;
        Ok(std::fs::rename(folder.join("fault.next"), folder.join("fault"))?)
    }

    /// The fault comes, is seen, harms nothing else, and goes.
    async fn goes_through(&self, fault: &Fault) -> Result<()> {
        if fault.seen == Seen::OutOfStep {
            // Falling out of step is told, and to be out of it is not.
            self.is_looked_at().await?;
        }
        let (mark, before) = (self.lbex.log_mark(), self.samples().await?);
        self.does(fault.does).await?;
        if !fault.says.is_empty() {
            self.lbex.wait_log_since(mark, fault.says, SOON).await.context("the log names it")?;
        }
        eventually("it is seen", SOON, || self.is_seen(fault.seen, &before)).await?;
        self.goes_on().await.context("all else goes on")?;
        let before = self.samples().await?;
        self.does("").await?;
        if fault.seen == Seen::Permanent {
            // LBEX tries again with the next change, and is_whole has none.
            eventually("the next change is applied", SOON, || self.has_applied(&before)).await?;
        }
        self.is_whole().await.context("the fault is over")
    }

    async fn has_applied(&self, before: &Samples) -> Result<()> {
        let applies = |samples: &Samples| samples.sum("lbex_apply_duration_seconds_count", &[]).unwrap_or_default();
        let (before, now) = (applies(before), applies(&self.samples().await?));
        ensure!(now > before, "{now} applies, and {before} before");
        Ok(())
    }

    async fn samples(&self) -> Result<Samples> {
        Ok(Samples::parse(&self.lbex.metrics().await?))
    }

    async fn is_seen(&self, seen: Seen, before: &Samples) -> Result<()> {
        let (name, labels): (&str, &[(&str, &str)]) = match seen {
            Seen::Retried => ("lbex_apply_failures_total", &[("retry", "true")]),
            Seen::Permanent => ("lbex_apply_failures_total", &[("retry", "false")]),
            Seen::Late => ("lbex_late_pushes_total", &[]),
            Seen::Unhealthy => {
                let answer = self.lbex.get("/").await?;
                ensure!(answer.status == 503 && answer.body.contains("faulty"), "{} {}", answer.status, answer.body);
                ensure!(self.samples().await?.sum("lbex_proxy_healthy", &[]) == Some(0.0), "the metric says healthy");
                return Ok(());
            }
            Seen::Harmless | Seen::OutOfStep => {
                let answer = self.lbex.get("/").await?;
                ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
                return Ok(());
            }
        };
        let (before, now) = (before.sum(name, labels), self.samples().await?.sum(name, labels));
        ensure!(now.unwrap_or_default() > before.unwrap_or_default(), "{name} was {before:?}, and is {now:?}");
        Ok(())
    }

    /// LBEX has looked at the proxy now that all is well.
    async fn is_looked_at(&self) -> Result<()> {
        let looks = async || self.lbex.metric("lbex_plugin_measure", &[("name", "looks")]).await?.context("no look");
        let before = looks().await.unwrap_or_default();
        eventually("another look", SOON, || async {
            let now = looks().await?;
            ensure!(now > before, "{now} looks, and {before} before");
            anyhow::Ok(())
        })
        .await
    }

    /// Changes are planned, and health and metrics answer, whatever the plugin does.
    async fn goes_on(&self) -> Result<()> {
        let generation = async || self.lbex.metric("lbex_desired_generation", &[]).await?.context("no metric");
        let before = generation().await?;
        eventually("changes are planned", SOON, || async {
            let now = generation().await?;
            ensure!(now >= before + 3.0, "generation {now}, and {before} before");
            anyhow::Ok(())
        })
        .await?;
        ensure!(self.lbex.get("/livez").await?.status == 200, "/livez says no");
        ensure!([200, 503].contains(&self.lbex.get("/").await?.status), "health does not answer");
        let measures = self.lbex.metrics().await?.matches("\nlbex_plugin_measure{").count();
        ensure!(measures <= 100, "{measures} measures are shown");
        self.changing.ensure_goes_on()
    }

    /// Nothing changes for a moment: the plugin has everything as it is desired, and the proxy is healthy.
    async fn is_whole(&self) -> Result<()> {
        let world = self.changing.world.lock().await;
        eventually("the plugin has what is desired", SOON, || async { world.ensure_served() }).await?;
        self.lbex.wait_healthy().await
    }
}

/// The faults that are asked for.
fn chosen(table: &'static [Fault]) -> Vec<&'static Fault> {
    let only = std::env::var("LBEX_PLUGIN_FAULT").ok();
    table.iter().filter(|fault| only.as_ref().is_none_or(|only| fault.does == only)).collect()
}

/// One LBEX goes through these; which could not be got over, and why.
async fn go_through(builder: Builder, faults: Vec<&'static Fault>) -> Result<Vec<String>> {
    if faults.is_empty() {
        return Ok(Vec::new());
    }
    let lane = Lane::start(builder, &[]).await?;
    let mut failed = Vec::new();
    for fault in faults {
        if let Err(error) = lane.goes_through(fault).await {
            failed.push(format!("{}: {error:#}", fault.does));
            lane.does("").await?;
            lane.goes_on().await?;
            lane.is_whole().await.with_context(|| format!("after {}", fault.does))?;
        }
    }
    let ended = lane.lbex.terminate().await?;
    ensure!(ended.status.success(), "{ended:?}");
    Ok(failed)
}

#[tokio::test]
async fn every_fault_is_named_and_got_over() -> Result<()> {
    let mut lanes: Vec<(Builder, Vec<&Fault>)> = (0..LANES).map(|_| (Lbex::builder(binary()), Vec::new())).collect();
    for (number, fault) in chosen(FAULTS).into_iter().enumerate() {
        lanes[number % LANES].1.push(fault);
    }
    lanes.push((short::builder()?, chosen(HANGS)));
    let done = join_all(lanes.into_iter().map(|(builder, faults)| go_through(builder, faults))).await;
    let failed: Vec<String> = done.into_iter().collect::<Result<Vec<_>>>()?.concat();
    ensure!(failed.is_empty(), "{} fault(s) were not got over:\n{}", failed.len(), failed.join("\n"));
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_cannot_be_ended_keeps_lbex_no_longer_than_it_has_time() -> Result<()> {
    for (fault, says) in [
        ("stop hang", "stop did not return within"),
        ("stop retry", "its proxy was not ended: not now, please"),
        ("stop panic", "stop panicked: index out of bounds"),
    ] {
        let more = ["--stop-proxy-on-exit=true", "--worker-shutdown-timeout=1s"];
        let lane = Lane::start(short::builder()?, &more).await?;
        lane.does(fault).await?;
        let mark = lane.lbex.log_mark();
        let ended = lane.lbex.terminate().await?;
        ensure!(!ended.status.success(), "{fault}: {ended:?}");
        lane.lbex.wait_log_since(mark, says, SOON).await.with_context(|| fault.to_owned())?;
    }
    Ok(())
}

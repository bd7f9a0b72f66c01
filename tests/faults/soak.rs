//! Many changes and many clients for a long time: nobody fails, and nothing grows.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use lbex_test_harness::nginx::NginxProcess;

use crate::alone::real;
use crate::services::{Life, Served};
use crate::settle::{is_as_planned, nothing_is_left};
use crate::traffic::Rate;
use crate::verdict::all_is_explained;
use crate::world::{World, inside};

/// For how many seconds. Without it the test takes as long as it needs to show that all of it works.
const SECONDS: &str = "LBEX_SOAK_SECONDS";

/// Without [`SECONDS`].
const USUAL: u64 = 10;

/// Changes of endpoints and Services a minute.
const CHANGES: u32 = 300;

/// Of so many changes one is that of a Service.
const SERVICES: u64 = 5;

/// Clients.
const RATE: Rate = Rate { connections: 200, held: 2 };

/// What may be used at the end, as a multiple of what was used when everything had been used once, in percent.
const GROWTH: u64 = 150;

/// What LBEX and NGINX use.
#[derive(Clone, Copy)]
struct Use {
    /// Resident memory in bytes: of LBEX, and of NGINX's master and the workers that serve.
    lbex: u64,
    nginx: u64,
    /// Workers that only finish their connections.
    old_workers: usize,
    reloads: f64,
    pushes: f64,
    /// Files that LBEX has open.
    files: usize,
}

impl std::fmt::Display for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lbex, nginx, old_workers, reloads, pushes, files } = self;
        let kib = |bytes: &u64| bytes / 1024;
        write!(f, "{reloads} reloads, {pushes} changes pushed; LBEX has {} KiB and {files} files open, ", kib(lbex))?;
        write!(f, "NGINX {} KiB and {old_workers} old workers", kib(nginx))
    }
}

impl Use {
    async fn of(world: &World) -> Result<Self> {
        let lbex = world.lbex().await;
        let count = async |name: &str, labels: &[(&str, &str)]| -> Result<f64> {
            Ok(lbex.metric(name, labels).await?.unwrap_or_default())
        };
        let (old, serving): (Vec<_>, Vec<_>) = world.nginx().into_iter().partition(NginxProcess::is_shutting_down);
        Ok(Self {
            lbex: lbex.resident_bytes()?,
            nginx: serving.iter().filter_map(|process| resident(process.pid)).sum(),
            old_workers: old.len(),
            reloads: count("lbex_apply_duration_seconds_count", &[("action", "reloaded")]).await?,
            pushes: count("lbex_push_duration_seconds_count", &[]).await?,
            files: std::fs::read_dir(format!("/proc/{}/fd", lbex.pid()))?.count(),
        })
    }
}

/// The resident memory of a process that may just end, in bytes.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

#[test]
fn nobody_fails_and_nothing_grows() -> Result<()> {
    let seconds = match std::env::var_os(SECONDS) {
        Some(value) => {
            let parsed = value.to_str().and_then(|value| value.parse().ok());
            parsed.with_context(|| format!("{SECONDS} is no number: {}", value.display()))?
        }
        None => USUAL,
    };
    inside(|netns| async move {
        // Old workers end with the connections they have: those of this test stay as long as it does.
        let mut world = World::start(&netns, real().await?, RATE).await?;
        let end = Instant::now() + Duration::from_secs(seconds);
        // Everything has been used once after that.
        change_until(&world, Instant::now() + Duration::from_secs(seconds / 5)).await?;
        let first = Use::of(&world).await?;
        eprintln!("after {:?}: {first}", world.begin.elapsed());
        change_until(&world, end).await?;
        let last = Use::of(&world).await?;
        is_as_planned(&world).await?;
        let (counts, records) = world.traffic.finish()?;
        eprintln!("after {:?}: {last}\n{counts}", world.begin.elapsed());
        all_is_explained(counts, &records, &world.windows, world.begin)?;
        nothing_is_left(&world).await?;
        eprintln!("after the last connection: {}", Use::of(&world).await?);
        for (what, before, after) in [("LBEX", first.lbex, last.lbex), ("NGINX", first.nginx, last.nginx)] {
            ensure!(after <= before * GROWTH / 100, "{what} uses {after} bytes, {before} before");
        }
        ensure!(last.files <= first.files + 10, "LBEX has {} files open, {} before", last.files, first.files);
        Ok(())
    })
}

/// Changes endpoints and Services, evenly.
async fn change_until(world: &World, end: Instant) -> Result<()> {
    let mut tick = tokio::time::interval(Duration::from_secs(60) / CHANGES);
    let (changing, moving) = (world.of(Life::Changing), world.of(Life::Moving));
    let mut there = vec![false; moving.len()];
    for number in 0.. {
        tick.tick().await;
        if Instant::now() >= end {
            return Ok(());
        }
        let index = usize::try_from(number)?;
        if number % SERVICES == 0 {
            let which = index % moving.len();
            there[which] = !there[which];
            put_or_delete(world, moving[which], there[which]).await?;
        } else {
            let ready: &[usize] = [&[0, 1][..], &[0, 2], &[0], &[0, 1, 2]][index / changing.len() % 4];
            world.cluster.put(&changing[index % changing.len()].slice(ready)).await?;
        }
    }
    Ok(())
}

async fn put_or_delete(world: &World, served: &Served, there: bool) -> Result<()> {
    if there {
        world.cluster.put(&served.service()).await?;
        return world.cluster.put(&served.whole()).await;
    }
    world.cluster.delete("Service", &served.name).await?;
    world.cluster.delete("EndpointSlice", &format!("{}-1", served.name)).await
}

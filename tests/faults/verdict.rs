//! A schedule in a world, from start to end, and what is to be said about it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::netns::Netns;
use lbex_test_harness::nginx::processes_of;

use crate::excuses::Windows;
use crate::schedule::Schedule;
use crate::settle::{is_as_planned, nothing_is_left};
use crate::traffic::{Counts, Rate, Record};
use crate::world::{Kind, World};

/// Enough that something is always on its way, little enough for several worlds on two processors.
const RATE: Rate = Rate { connections: 80, held: 1 };

/// How many lines of each log are told where a schedule fails.
const LINES: usize = 120;

/// Runs a schedule. `told`: what else is to be true in the end.
pub(crate) async fn run(
    name: &str,
    netns: &Arc<Netns>,
    kind: Kind,
    schedule: &Schedule,
    told: impl AsyncFnOnce(&World) -> Result<()>,
) -> Result<()> {
    let mut world = World::start(netns, kind, RATE).await.context("the world did not start")?;
    let outcome = outcome(&mut world, name, schedule, told).await;
    let kept = keep(name, schedule, &world).await;
    outcome.with_context(|| format!("{name}:\n{schedule}{kept}"))?;
    let World { lbex, disk, .. } = world;
    drop(lbex);
    let folder = disk.folder().to_owned();
    drop(disk);
    ensure!(!folder.exists() && processes_of(&folder).is_empty(), "{} is left", folder.display());
    Ok(())
}

async fn outcome(
    world: &mut World,
    name: &str,
    schedule: &Schedule,
    told: impl AsyncFnOnce(&World) -> Result<()>,
) -> Result<()> {
    let settled = async {
        schedule.run(world).await?;
        is_as_planned(world).await?;
        told(world).await
    };
    let settled = settled.await;
    let (counts, records) = world.traffic.finish()?;
    eprintln!("{name}: {counts}, within {:?}", world.begin.elapsed());
    // What clients saw is worth knowing also where something else is wrong.
    let explained = all_is_explained(counts, &records, &world.windows, world.begin);
    match (settled, explained) {
        (Err(error), Err(more)) => Err(error.context(format!("{more:#}"))),
        (settled, explained) => settled.and(explained),
    }?;
    nothing_is_left(world).await
}

/// Whether the faults explain what clients saw.
pub(crate) fn all_is_explained(counts: Counts, records: &[Record], windows: &Windows, begin: Instant) -> Result<()> {
    let unexplained: Vec<_> = records.iter().filter(|record| !windows.explain(record)).collect();
    let lines: Vec<_> = unexplained.iter().take(20).map(|record| record.told(begin)).collect();
    ensure!(lines.is_empty(), "no fault explains {} of these ({counts}):\n{}", unexplained.len(), lines.join("\n"));
    ensure!(counts.right > 0, "nobody was served");
    Ok(())
}

/// Keeps the logs of a world; says where.
async fn keep(name: &str, schedule: &Schedule, world: &World) -> String {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name.replace(' ', "-"));
    let log = world.lbex().await.log();
    let nginx = std::fs::read_to_string(world.disk.prefix().join("logs/error.log")).unwrap_or_default();
    let written = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(folder.join("schedule"), schedule.to_string()))
        .and_then(|()| std::fs::write(folder.join("lbex.log"), &log))
        .and_then(|()| std::fs::write(folder.join("nginx.log"), &nginx));
    let kept = match written {
        Ok(()) => format!("logs: {}", folder.display()),
        Err(error) => format!("the logs are lost: {error}"),
    };
    // Where this runs the folder may be out of reach afterwards.
    format!("{kept}\nLBEX's log ends with:\n{}\nNGINX's log ends with:\n{}\n", end(&log), end(&nginx))
}

/// The last lines of a log.
fn end(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

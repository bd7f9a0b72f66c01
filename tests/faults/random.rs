//! Several faults at once, as a seed says.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};

use crate::alone::real;
use crate::faults::Needs;
use crate::schedule::Schedule;
use crate::verdict::run;
use crate::world::{Kind, inside};

/// One seed, to be replayed.
const SEED: &str = "LBEX_FAULT_SEED";

/// How many seeds are tried.
const SEEDS: &str = "LBEX_FAULT_SEEDS";

/// How many without [`SEEDS`].
const USUAL: u64 = 10;

/// How many worlds there are at one time.
const LANES: u64 = 2;

/// Of so many seeds one is for a real API server, which is slower, and one for an LBEX of an ordinary user.
const KINDS: u64 = 4;

fn number(variable: &str) -> Result<Option<u64>> {
    let Some(value) = std::env::var_os(variable) else { return Ok(None) };
    let parsed = value.to_str().and_then(|value| value.parse().ok());
    parsed.map(Some).with_context(|| format!("{variable} is no number: {}", value.display()))
}

#[test]
fn schedules() -> Result<()> {
    let seeds = match number(SEED)? {
        Some(seed) => seed..seed + 1,
        None => 0..number(SEEDS)?.unwrap_or(USUAL),
    };
    let next = AtomicU64::new(seeds.start);
    let failures: Vec<_> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(|| lane(&next, seeds.end))).collect();
        let ended = lanes.into_iter().map(|lane| lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ended.flatten().collect()
    });
    if failures.is_empty() {
        return Ok(());
    }
    for (seed, error) in &failures {
        eprintln!("{error:#}\n{SEED}={seed} replays this one\n");
    }
    bail!("{} of {} schedules failed", failures.len(), seeds.end - seeds.start)
}

/// Takes seeds until there are none left; answers those that failed.
fn lane(next: &AtomicU64, end: u64) -> Vec<(u64, anyhow::Error)> {
    let mut failures = Vec::new();
    loop {
        let seed = next.fetch_add(1, Ordering::SeqCst);
        if seed >= end {
            return failures;
        }
        if let Err(error) = one(seed) {
            failures.push((seed, error));
        }
    }
}

fn one(seed: u64) -> Result<()> {
    let needs = match seed % KINDS {
        3 => Needs::Real,
        1 => Needs::User,
        _ => Needs::Scripted,
    };
    let schedule = Schedule::random(seed, needs);
    inside(|netns| async move {
        let kind = match needs {
            Needs::Real => real().await?,
            Needs::User => Kind::OfUser,
            _ => Kind::Scripted,
        };
        run(&format!("seed {seed}"), &netns, kind, &schedule, async |_| Ok(())).await
    })
}

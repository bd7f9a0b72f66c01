//! The simulation's tests.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};

use super::broken::Broken;
use super::run::{run, run_all};

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

/// How many seconds of processors this process has had.
fn processor_time() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("this process's usage");
    let seconds = |time: TimeVal| Duration::from_micros(time.num_microseconds().unsigned_abs()).as_secs_f64();
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// How many seeds are named that break something.
const NAMED: usize = 10;
/// How much of what happened is told.
const LINES: usize = 60;

fn report(found: &BTreeMap<u64, String>) {
    let Some(seed) = found.keys().next() else { return };
    let all: Vec<String> = found.iter().map(|(seed, what)| format!("seed {seed}: {what}")).collect();
    let trace = run(*seed, None, true).trace;
    let last = trace.len().saturating_sub(LINES);
    panic!(
        "{}\nThe last of what happened with seed {seed}:\n{}\nLBEX_SIM_SEED={seed} cargo test --lib simulation_of_many -- --nocapture \
         tells all of it",
        all.join("\n"),
        trace[last..].join("\n")
    )
}

/// `LBEX_SIM_SEED=n` replays one schedule and tells all of it; `LBEX_SIM_SEEDS=n` runs as many, from `LBEX_SIM_FIRST=n` on.
#[test]
fn simulation_of_many_schedules() {
    if let Some(seed) = number("LBEX_SIM_SEED") {
        let outcome = run(seed, None, true);
        println!("{}", outcome.trace.join("\n"));
        assert_eq!(outcome.broken, None);
        return;
    }
    let (begin, spent) = (std::time::Instant::now(), processor_time());
    let (first, seeds) = (number("LBEX_SIM_FIRST").unwrap_or(0), number("LBEX_SIM_SEEDS").unwrap_or(300));
    report(&run_all(first..first + seeds, None, NAMED));
    let (took, spent) = (begin.elapsed().as_secs_f64(), processor_time() - spent);
    #[allow(clippy::cast_precision_loss)] // as precise as anybody reads it
    let rate = seeds as f64 / spent;
    println!("{seeds} schedules in {took:.1} s: {rate:.0} in a second of one processor");
}

#[test]
fn simulation_of_a_seed_is_the_same_each_time() {
    for seed in 0..20 {
        let (first, again) = (run(seed, None, true), run(seed, None, true));
        let differs = first.trace.iter().zip(&again.trace).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first, again);
    }
}

fn is_found(broken: Broken) {
    let found = run_all(0..2000, Some(broken), 1);
    let (seed, what) = found.first_key_value().unwrap_or_else(|| panic!("{broken:?} was not found"));
    assert_eq!(run(*seed, None, false).broken, None, "seed {seed} says nothing about {broken:?}");
    println!("{broken:?} is found by seed {seed}: {what}");
}

#[test]
fn simulation_finds_each_way_to_break_lbex() {
    Broken::ALL.into_iter().for_each(is_found);
}

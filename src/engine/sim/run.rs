//! Runs schedules: one, or many on all processors.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::broken::Broken;
use super::life::live;
use super::state::{Event, Sim, State};
use crate::engine::testing::metrics;
use crate::publish::Metrics;

/// What came of a schedule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The first invariant that did not hold.
    pub(super) broken: Option<String>,
    /// What happened, if it was to be told.
    pub(super) trace: Vec<String>,
}

/// Runs the schedule of a seed.
pub(super) fn run(seed: u64, broken: Option<Broken>, traced: bool) -> Outcome {
    run_with(seed, broken, traced, &metrics())
}

fn run_with(seed: u64, broken: Option<Broken>, traced: bool, metrics: &Arc<Metrics>) -> Outcome {
    let sim = Sim::new(State::new(seed, broken, traced));
    sim.with(|state| state.schedule(state.now() + 200, Event::Step));
    while live(&sim, metrics) {
        sim.with(State::without_lbex);
    }
    sim.with(|state| Outcome { broken: state.eye.broken.take(), trace: state.take_trace() })
}

impl State {
    /// What happens until LBEX starts again.
    fn without_lbex(&mut self) {
        self.clock = None;
        let starts = self.time + [0, 50, 3_000, 20_000][self.dice.usize(0..4)];
        self.schedule(starts, Event::LbexStarts);
        while let Some(at) = self.next() {
            self.time = self.time.max(at);
            match self.due(at) {
                Some(Event::LbexStarts) | None => return,
                Some(event) => drop(self.happens(event, false)),
            }
        }
    }
}

/// Runs the schedules of many seeds until so many have broken something: each seed with what that is.
pub(super) fn run_all(seeds: std::ops::Range<u64>, broken: Option<Broken>, enough: usize) -> BTreeMap<u64, String> {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new(BTreeMap::new());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        let metrics = metrics();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || found.lock().unwrap().len() >= enough {
                return;
            }
            if let Some(what) = run_with(seed, broken, false, &metrics).broken {
                found.lock().unwrap().insert(seed, what);
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    found.into_inner().unwrap()
}

//! One life of LBEX within a schedule.

use std::sync::Arc;
use std::time::Duration;

use lbex_core::addresses::HostAddresses;
use lbex_core::hold::Hold;
use lbex_core::planner::Planner;
use lbex_core::snapshot::Change;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backend::SimBackend;
use super::broken::{Between, Broken};
use super::disk::SimStore;
use super::follow::follow;
use super::objects::NAMESPACES;
use super::script::{End, Then};
use super::state::{Life, Sim, rules};
use crate::admin::HealthState;
use crate::engine::{Ended, Engine, Pace, Removals};
use crate::publish::{Metrics, ObjectKind};
use crate::source::SourceEvent;
use crate::source::kube::simulated::gather;
use crate::state::{LastGood, Remembered, Scope, fit};

/// How the engine takes it when it is asked to end: it has to, within this many ms.
const STOPS_WITHIN: u64 = 12_000;
/// For how long something has to be so before health must say so, in ms.
const SETTLED: u64 = 14_000;

struct Running {
    sim: Sim,
    health: Arc<HealthState>,
    metrics: Arc<Metrics>,
    engine: JoinHandle<Ended>,
    stop: CancellationToken,
}

/// Runs LBEX until the script ends it; false: the schedule is over.
pub(super) fn live(sim: &Sim, metrics: &Arc<Metrics>) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            sim.with(|state| state.fail(format!("no runtime: {error}")));
            return false;
        }
    };
    let goes_on = runtime.block_on(async {
        let running = start(sim, metrics);
        running.conduct().await
    });
    // All that runs ends at once, wherever it is.
    drop(runtime);
    sim.with(|state| {
        if goes_on && state.life.leaves_serving && !state.proxy.alive {
            state.fail("the proxy ended with LBEX".to_owned());
        }
        state.followers.clear();
        state.clock = None;
        state.settle();
    });
    goes_on
}

fn start(sim: &Sim, metrics: &Arc<Metrics>) -> Running {
    let rules = rules();
    let (interval, namespaces, saved, remembered) = sim.with(|state| {
        state.clock = Some(Instant::now());
        let saved = state.disk.saved.as_ref();
        let remembered = saved.map_or_else(Remembered::default, |(saved, _)| Remembered {
            cluster: saved.cluster.clone(),
            inventory: saved.inventory.clone(),
        });
        let saved = saved.map(|(saved, plan)| (fit(&saved.desired, &rules.settings).0, *plan));
        state.eye_begins(&remembered);
        let number = state.life.number + 1;
        state.life = Life { number, begin: state.time, saved: saved.clone(), ..Life::default() };
        state.note(|| format!("LBEX starts, with a last good state: {}", saved.is_some()));
        (state.setup.interval, state.setup.namespaces, saved.map(|(saved, _)| saved), remembered)
    });
    let events = follow_all(sim, namespaces);
    let backend = Between::new(Arc::new(SimBackend(sim.clone())), sim.with(|state| state.broken));
    let at_once = sim.with(|state| state.breaks(Broken::ReloadsAtOnce));
    let (health, stop) = (Arc::new(HealthState::new()), CancellationToken::new());
    let engine = Engine {
        planner: Planner::new(rules),
        removals: removals(sim, &remembered, metrics),
        host: watch::channel(HostAddresses::default()).1,
        source: events,
        backend: Arc::new(backend),
        pace: Pace { reload_interval: Duration::from_millis(if at_once { 0 } else { interval }) },
        saved,
        last_good: LastGood::start(SimStore(sim.clone()), Scope::default(), remembered, metrics.clone()),
        health: health.clone(),
        metrics: metrics.clone(),
    };
    let engine = tokio::spawn(engine.run(stop.clone()));
    Running { sim: sim.clone(), health, metrics: metrics.clone(), engine, stop }
}

/// The hold, with the eye on it.
fn removals(sim: &Sim, remembered: &Remembered, metrics: &Arc<Metrics>) -> Removals {
    let (limit, mut release, broken) = sim.with(|state| (state.setup.hold, state.release.clone(), state.broken));
    if broken == Some(Broken::IgnoresTheOperator) {
        release = Arc::default();
    }
    let metrics =
        if broken == Some(Broken::HoldsInSilence) { crate::engine::testing::metrics() } else { metrics.clone() };
    let limit = match broken {
        Some(Broken::NeverHolds) => None,
        Some(Broken::HoldsForEver) => limit.map(|_| u64::MAX),
        Some(Broken::LetsGoEarly) => limit.map(|limit| limit / 2),
        _ => limit,
    };
    let inventory = remembered.inventory.clone().filter(|_| broken != Some(Broken::ForgetsWhatWasKnown));
    let cluster = remembered.cluster.as_deref().map(Into::into);
    let hold = Hold::new(limit.map(Duration::from_millis), cluster, inventory);
    let mut removals = Removals::new(hold, release, metrics);
    let sim = sim.clone();
    removals.witness = Some(Box::new(move |saw, passed| sim.with(|state| state.saw(saw, passed))));
    removals
}

/// The source: followers, the gatherer, and the tap where the eye listens.
fn follow_all(sim: &Sim, namespaces: bool) -> mpsc::Receiver<SourceEvent> {
    let mut parts = vec![(ObjectKind::Node, None)];
    let of: Vec<Option<Arc<str>>> =
        if namespaces { NAMESPACES.iter().map(|n| Some(Arc::from(*n))).collect() } else { vec![None] };
    for namespace in of {
        parts.extend([(ObjectKind::Service, namespace.clone()), (ObjectKind::Endpoints, namespace)]);
    }
    let (sender, gathered) = mpsc::channel(crate::source::QUEUE);
    for (scope, (mouth, part)) in gather(&parts, sender).into_iter().zip(parts).enumerate() {
        let changed = Arc::new(Notify::new());
        sim.with(|state| state.followers.push(changed.clone()));
        tokio::spawn(follow(sim.clone(), scope, part, mouth, changed));
    }
    let (sender, events) = mpsc::channel(crate::source::QUEUE);
    tokio::spawn(tap(sim.clone(), gathered, sender));
    events
}

async fn tap(sim: Sim, mut gathered: mpsc::Receiver<SourceEvent>, events: mpsc::Sender<SourceEvent>) {
    let mut first = true;
    while let Some(mut event) = gathered.recv().await {
        let early = std::mem::take(&mut first) && sim.with(|state| state.breaks(Broken::SyncsEarly));
        sim.with(|state| {
            state.note(|| format!("the source says {}", in_words(&event)));
            state.told(&event);
            if early {
                state.told(&SourceEvent::Synced);
            }
            lose(state, &mut event);
        });
        if matches!(event, SourceEvent::Trouble(_)) && sim.with(|state| state.breaks(Broken::EndsWithTheApiServer)) {
            return;
        }
        if events.send(event).await.is_err() || (early && events.send(SourceEvent::Synced).await.is_err()) {
            return;
        }
    }
}

/// Loses a change on the way, where that is what is broken.
fn lose(state: &mut super::state::State, event: &mut SourceEvent) {
    let SourceEvent::Changes(changes) = event else { return };
    let single = |change: &Change| super::objects::single(change).is_some();
    if changes.iter().all(single) && state.breaks(Broken::LosesChanges) && state.dice.u8(0..4) == 0 {
        changes.pop();
    }
}

fn in_words(event: &SourceEvent) -> String {
    match event {
        SourceEvent::Changes(changes) => format!("{} change(s)", changes.len()),
        SourceEvent::Cluster(identity) => format!("that this is the cluster {identity:?}"),
        SourceEvent::Synced => "that the first lists are complete".to_owned(),
        SourceEvent::Trouble(trouble) => trouble.to_string(),
        SourceEvent::Recovered(recovered) => recovered.to_string(),
    }
}

impl Running {
    /// Lets happen what happens, until LBEX ends; false: the schedule is over.
    async fn conduct(mut self) -> bool {
        let wake = self.sim.with(|state| state.wake.clone());
        loop {
            let until = self.sim.with(|state| state.next().map(|at| state.instant(at)));
            let until = until.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                ended = &mut self.engine => {
                    self.sim.with(|state| state.fail(format!("LBEX ended by itself: {ended:?}")));
                    return false;
                }
                () = wake.notified() => {}
                () = tokio::time::sleep_until(until) => {}
            }
            while let Some(event) = self.sim.with(|state| state.due(state.now())) {
                self.check_health();
                match self.sim.with(|state| state.happens(event, true)) {
                    Then::Goes => {}
                    Then::Over => {
                        self.sim.with(super::state::State::check_end);
                        self.check_end();
                        return false;
                    }
                    Then::Ends(how) => return self.end(how).await,
                }
            }
            if self.sim.with(|state| state.eye.broken.is_some()) {
                return false;
            }
        }
    }

    async fn end(mut self, how: End) -> bool {
        self.sim.note(|| format!("LBEX is {}", if how == End::Killed { "killed" } else { "asked to end" }));
        self.sim.with(|state| {
            // It need not try again what failed.
            state.life.owed.clear();
            state.life.released_by = None;
            state.life.leaves_serving = state.proxy.alive;
        });
        if how == End::Stopped {
            self.stop.cancel();
            let begin = self.sim.with(|state| state.now());
            loop {
                let until = self.sim.with(|state| state.next().map(|at| state.instant(at)));
                tokio::select! {
                    biased;
                    ended = &mut self.engine => {
                        if !matches!(ended, Ok(Ended::Stopped)) {
                            self.sim.with(|state| state.fail(format!("LBEX was asked to end and ended so: {ended:?}")));
                        }
                        break;
                    }
                    () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
                    () = tokio::time::sleep(Duration::from_millis(STOPS_WITHIN)) => {}
                }
                self.sim.with(|state| {
                    // What is on its way arrives; the script waits.
                    let now = state.now();
                    while let Some(event) = state.due(now) {
                        if matches!(event, super::state::Event::Step) {
                            state.schedule(now + 1000, event);
                        } else {
                            let _: Then = state.happens(event, false);
                        }
                    }
                    if state.now() > begin + STOPS_WITHIN {
                        state.fail("LBEX was asked to end and does not".to_owned());
                    }
                });
                if self.sim.with(|state| state.eye.broken.is_some()) {
                    return false;
                }
            }
        }
        self.sim.with(|state| {
            state.time = state.now();
            // Its timers are gone with it.
            state.clock = Some(Instant::now());
        });
        true
    }

    /// Health has to tell what has been so for long.
    fn check_health(&self) {
        let (health, live) = (self.health.healthy().ok, self.health.live().ok);
        let (beats, says_held) = (self.health.beats(), self.metrics.says_held());
        self.sim.with(|state| {
            let now = state.now();
            let (until, _) = state.faults.observe;
            let since = state.proxy.since.max(until).max(state.life.begin);
            if now >= since + SETTLED && health != state.proxy.alive {
                state.fail(format!("health says {health} while the proxy lives: {}", state.proxy.alive));
            }
            if !live || (beats + 2) * 1000 < now - state.life.begin {
                state.fail(format!("the loop made {beats} rounds in {} ms", now - state.life.begin));
            }
            let doubted = state.eye.belief.doubted();
            if beats > 0 && says_held != doubted {
                state.fail(format!("the metrics say that these are held: {says_held:?}, and these are: {doubted:?}"));
            }
        });
    }

    fn check_end(&self) {
        self.check_health();
        let ready = self.health.ready();
        self.sim.with(|state| {
            if !ready.ok {
                state.fail(format!("in the end LBEX is not ready: {}", ready.line));
            }
            if state.life.late_reloads > 0 {
                state.fail("something was reloaded long after all was well".to_owned());
            }
        });
    }
}

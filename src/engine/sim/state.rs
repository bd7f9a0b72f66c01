//! Everything that a schedule simulates, behind one lock: the cluster, the proxy, the disk, the faults, and the eye on them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use lbex_core::desired::{DesiredState, ServiceConfig};
use lbex_core::names::ServiceKey;
use lbex_core::planner::Rules;
use lbex_core::selector::All;
use lbex_core::settings::PlanSettings;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::broken::Broken;
use super::cluster::Cluster;
use super::disk::Disk;
use super::eye::Eye;
use super::follow::{Connection, Lying};
use super::proxy::{Proxy, Put, Served, Taken};

/// What happens at its time.
#[derive(Debug)]
pub(super) enum Event {
    /// The next step of the script.
    Step,
    Put(Put),
    Taken(Taken),
    StartedByOthers,
    LbexStarts,
}

/// What goes wrong, and until when.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Applies fail; whether for good.
    pub(super) apply: (u64, bool),
    /// Listeners of these Services that are not there yet cannot be made.
    pub(super) blocked: BTreeMap<ServiceKey, u64>,
    /// Looks get an error, or (true) no answer.
    pub(super) observe: (u64, bool),
    /// Pushes come late, or (true) never.
    pub(super) push: (u64, bool),
    /// How long an apply takes, in ms, at the most.
    pub(super) slow: (u64, u64),
    /// What the followers' lists lie.
    pub(super) lies: BTreeMap<usize, Lying>,
}

/// What differs between schedules and stays during one.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a coin of its own
pub(super) struct Setup {
    pub(super) interval: u64,
    pub(super) pushes: bool,
    /// What is refused for ever is left out, and not served as it last was.
    pub(super) leaves_out: bool,
    pub(super) namespaces: bool,
    /// For how long removals are held, in ms; `None`: never.
    pub(super) hold: Option<u64>,
    /// Whether LBEX may see which cluster it is.
    pub(super) identity: bool,
    /// How many steps the script has.
    pub(super) steps: u32,
    /// One in so many steps changes something other than the cluster.
    pub(super) calm: u8,
}

/// What a Service is from a generation on; `None`: not there.
pub(super) type Version = (u64, Option<Arc<ServiceConfig>>);

/// One run of LBEX.
#[derive(Default)]
pub(super) struct Life {
    pub(super) number: u32,
    pub(super) begin: u64,
    /// What it began with, and the plan that it is of.
    pub(super) saved: Option<(DesiredState, usize)>,
    /// What was handed to the driver, folded, and what each Service was since which generation.
    pub(super) fold: DesiredState,
    pub(super) history: BTreeMap<ServiceKey, Vec<Version>>,
    /// The plan that each generation is.
    pub(super) plans: Vec<(u64, usize)>,
    /// What the last apply that succeeded was to serve.
    pub(super) applied: DesiredState,
    /// What was pushed, newest first known.
    pub(super) pushed: BTreeMap<ServiceKey, Served>,
    pub(super) refused: BTreeSet<ServiceKey>,
    /// Since when an apply is in progress.
    pub(super) applying: Option<u64>,
    /// Whether it is, or was, of the last good state, before any plan.
    pub(super) applies_last_good: bool,
    pub(super) pushes_open: usize,
    /// When the last reload or failed attempt began.
    pub(super) last_reload: Option<u64>,
    /// When the proxy was last seen not to serve what it should, or not seen at all.
    pub(super) seen_wrong: Option<u64>,
    pub(super) seen_dead: bool,
    /// Until when another apply has to begin, by the reason.
    pub(super) owed: BTreeMap<&'static str, u64>,
    /// Reloads since the faults ended.
    pub(super) late_reloads: u32,
    /// Until when LBEX has to hear that the operator lets everything go.
    pub(super) released_by: Option<u64>,
    /// Whether the proxy served when this LBEX was about to end.
    pub(super) leaves_serving: bool,
}

/// Everything.
pub(super) struct State {
    pub(super) dice: Rng,
    pub(super) rules: Rules,
    pub(super) setup: Setup,
    pub(super) cluster: Cluster,
    /// Another one that may answer in its place. Nothing changes there.
    pub(super) other: Cluster,
    /// The operator's SIGUSR1.
    pub(super) release: Arc<Notify>,
    pub(super) proxy: Proxy,
    pub(super) disk: Disk,
    pub(super) faults: Faults,
    pub(super) connections: BTreeMap<usize, Connection>,
    pub(super) eye: Eye,
    pub(super) life: Life,
    pub(super) broken: Option<Broken>,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    /// The time, in ms, when the clock of this life of LBEX was started; only it is right while LBEX lives.
    pub(super) time: u64,
    pub(super) clock: Option<Instant>,
    /// Something is due earlier than was known.
    pub(super) wake: Arc<Notify>,
    /// The cluster changed, for each follower.
    pub(super) followers: Vec<Arc<Notify>>,
    trace: Option<Vec<String>>,
}

pub(super) fn rules() -> Rules {
    Rules {
        settings: PlanSettings { require_port: false, ..PlanSettings::default() },
        selector: Box::new(All::default()),
        resolvers: lbex_upstream::standard(),
    }
}

impl State {
    pub(super) fn new(seed: u64, broken: Option<Broken>, traced: bool) -> Self {
        let mut dice = Rng::with_seed(seed);
        let setup = Setup {
            interval: [200, 1000, 1000, 5000][dice.usize(0..4)],
            pushes: dice.u8(0..4) > 0,
            leaves_out: dice.bool(),
            namespaces: dice.u8(0..4) == 0,
            hold: [None, Some(20_000), Some(60_000), Some(300_000)][dice.usize(0..4)],
            identity: dice.u8(0..4) > 0,
            steps: dice.u32(5..40),
            calm: [2, 3, 8][dice.usize(0..3)],
        };
        let large = setup.hold.is_some() && dice.bool();
        let (cluster, other) = (Cluster::new(&mut dice, large), Cluster::new(&mut dice, large));
        let mut state = Self {
            dice,
            rules: rules(),
            setup,
            cluster,
            other,
            release: Arc::default(),
            proxy: Proxy::default(),
            disk: Disk::default(),
            faults: Faults::default(),
            connections: BTreeMap::new(),
            eye: Eye::default(),
            life: Life::default(),
            broken,
            events: BTreeMap::new(),
            count: 0,
            time: 0,
            clock: None,
            wake: Arc::default(),
            followers: Vec::new(),
            trace: traced.then(Vec::new),
        };
        state.note(|| format!("seed {seed}"));
        state
    }

    /// Milliseconds since the schedule began.
    pub(super) fn now(&self) -> u64 {
        let elapsed = self.clock.map_or(0, |clock| clock.elapsed().as_millis());
        self.time + u64::try_from(elapsed).unwrap_or(u64::MAX)
    }

    /// When the runtime's clock says so.
    pub(super) fn instant(&self, at: u64) -> Instant {
        let clock = self.clock.unwrap_or_else(Instant::now);
        clock + std::time::Duration::from_millis(at.saturating_sub(self.time))
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.now();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>4}.{:03} {}", now / 1000, now % 1000, what()));
        }
    }

    pub(super) fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }

    /// An invariant is broken.
    pub(super) fn fail(&mut self, what: String) {
        self.note(|| format!("BROKEN: {what}"));
        if self.eye.broken.is_none() {
            self.eye.broken = Some(what);
            self.wake.notify_one();
        }
    }

    pub(super) fn breaks(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    pub(super) fn connection(&mut self, scope: usize) -> &mut Connection {
        self.connections.entry(scope).or_default()
    }

    pub(super) fn is_cut_off(&mut self, scope: usize) -> bool {
        let now = self.now();
        self.connection(scope).fails_until > now
    }

    pub(super) fn schedule(&mut self, at: u64, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
        self.wake.notify_one();
    }

    /// LBEX is gone: what it had sent to the proxy arrives now, or does not.
    pub(super) fn settle(&mut self) {
        for (at, event) in std::mem::take(&mut self.events) {
            match event {
                Event::Put(put) if self.dice.bool() => self.put(put),
                Event::Taken(taken) if self.dice.bool() => self.take(taken),
                Event::Put(_) | Event::Taken(_) => {}
                other => drop(self.events.insert(at, other)),
            }
        }
    }

    /// When the next event is due.
    pub(super) fn next(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next event, if it is due.
    pub(super) fn due(&mut self, now: u64) -> Option<Event> {
        if self.next()? > now {
            return None;
        }
        self.events.pop_first().map(|(_, event)| event)
    }
}

/// What is shared.
#[derive(Clone)]
pub(super) struct Sim(Arc<Mutex<State>>);

impl Sim {
    pub(super) fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.lock())
    }

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        self.lock().note(what);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

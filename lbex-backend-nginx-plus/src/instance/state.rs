//! What is known of an instance and its upstreams, and what is to be done next. No I/O.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lbex_core::names::ServiceKey;
use tokio::time::Instant;

use super::Target;
use crate::api::{ApiError, NginxInfo, PeerState, Problem, Scope};
use crate::converge::{Attempt, Drains};

/// The first pause before something is tried again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause before an instance is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The longest pause before a refused change of one upstream is tried again.
const LONGEST_REFUSED: Duration = Duration::from_secs(60);

/// Why an upstream is looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// A server's drain may be over.
    Drain,
    /// It may have been changed by somebody else.
    Check,
    /// It should be otherwise.
    Change,
}

/// How an upstream stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not known yet.
    Waiting,
    /// Its servers are as they should be.
    InStep,
    /// A change is refused.
    Refused(Arc<ApiError>),
    /// It is not kept in step.
    Unknown,
}

/// One upstream.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) service: ServiceKey,
    generation: u64,
    pub(super) servers: Arc<BTreeSet<SocketAddr>>,
    /// Grows with every other target.
    pub(super) version: u64,
    /// The version that `standing` is about.
    pub(super) settled: u64,
    pub(super) standing: Standing,
    pub(super) settled_at: Instant,
    /// Why it is to be looked after; `None`: it is not.
    pub(super) dirty: Option<Cause>,
    pub(super) running: bool,
    queued: bool,
    tries: u32,
    pub(super) drains: Drains,
    /// It is emptied and then forgotten.
    pub(super) leaving: bool,
}

/// The instance does not answer, or takes no changes.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) error: Arc<ApiError>,
    since: Instant,
    tries: u32,
    /// When it is tried again.
    pub(super) until: Instant,
    /// It answers again, and has not taken a change yet.
    pub(super) probation: bool,
}

/// What one look has seen of the upstreams that are kept in step.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) servers: BTreeMap<PeerState, u64>,
    pub(super) active: u64,
    pub(super) removed_busy: u64,
}

/// An upstream that is to be looked after, and all that it takes.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) name: Arc<str>,
    pub(super) version: u64,
    pub(super) cause: Cause,
    pub(super) servers: Arc<BTreeSet<SocketAddr>>,
    pub(super) drains: Drains,
}

/// Everything about one instance.
#[derive(Debug)]
pub(super) struct State {
    pub(super) groups: BTreeMap<Arc<str>, Group>,
    /// Upstreams that can be looked after now.
    queue: VecDeque<Arc<str>>,
    /// Upstreams that are to be looked after later.
    timers: BTreeSet<(Instant, Arc<str>)>,
    pub(super) trouble: Option<Trouble>,
    pub(super) looking: bool,
    pub(super) next_look: Option<Instant>,
    pub(super) next_thorough: Instant,
    pub(super) info: Option<NginxInfo>,
    pub(super) live: Live,
    pub(super) drift: u64,
    pub(super) changes: u64,
    pub(super) failures: u64,
    /// Upstreams put right since the last look.
    pub(super) mended: u32,
}

/// Up to a quarter less or more, so that many do not try at the same moment.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.75 + 0.5 * fastrand::f64())
}

fn pause(tries: u32, longest: Duration) -> Duration {
    jittered(FIRST_PAUSE.saturating_mul(1 << tries.min(10)).min(longest))
}

impl State {
    pub(super) fn new(next_thorough: Instant) -> Self {
        Self {
            groups: BTreeMap::new(),
            queue: VecDeque::new(),
            timers: BTreeSet::new(),
            trouble: None,
            looking: false,
            next_look: None,
            next_thorough,
            info: None,
            live: Live::default(),
            drift: 0,
            changes: 0,
            failures: 0,
            mended: 0,
        }
    }

    /// A new target; which version it is.
    pub(super) fn set(&mut self, generation: u64, target: &Target, drain: Option<Duration>) -> u64 {
        let Target { service, name, servers } = target;
        let group = self.groups.entry(name.clone()).or_insert_with(|| Group {
            service: service.clone(),
            generation,
            servers: servers.clone(),
            version: 0,
            settled: 0,
            standing: Standing::Waiting,
            settled_at: Instant::now(),
            dirty: None,
            running: false,
            queued: false,
            tries: 0,
            drains: Drains::new(drain),
            leaving: false,
        });
        if group.generation > generation {
            return group.version;
        }
        group.generation = generation;
        group.leaving = false;
        // Whoever sets again what was refused wants it tried again.
        let refused = matches!(group.standing, Standing::Refused(_)) && group.settled == group.version;
        if group.version > 0 && group.servers == *servers && !refused {
            return group.version;
        }
        group.servers = servers.clone();
        group.version += 1;
        group.tries = 0;
        let version = group.version;
        self.mark(name, Cause::Change);
        version
    }

    pub(super) fn empty(&mut self, generation: u64, target: &Target, drain: Option<Duration>) {
        self.set(generation, target, drain);
        if let Some(group) = self.groups.get_mut(&target.name)
            && group.generation == generation
        {
            group.leaving = true;
            let is_done = group.servers.is_empty() && group.standing != Standing::Waiting && group.dirty.is_none();
            if is_done {
                self.groups.remove(&target.name);
            }
        }
    }

    /// These are tried again, although their targets are the same: what they need was done meanwhile.
    pub(super) fn again(&mut self, names: &[Arc<str>]) -> Vec<(Arc<str>, u64)> {
        let mut tickets = Vec::new();
        for name in names {
            if let Some(group) = self.groups.get_mut(name) {
                group.version += 1;
                tickets.push((name.clone(), group.version));
                self.mark(name, Cause::Change);
            }
        }
        tickets
    }

    /// An upstream is to be looked after.
    pub(super) fn mark(&mut self, name: &Arc<str>, cause: Cause) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.dirty = group.dirty.max(Some(cause));
        if !group.running && !group.queued {
            group.queued = true;
            self.queue.push_back(name.clone());
        }
    }

    pub(super) fn mark_all(&mut self, cause: Cause) {
        let names: Vec<_> = self.groups.keys().cloned().collect();
        names.iter().for_each(|name| self.mark(name, cause));
    }

    pub(super) fn try_now(&mut self) {
        let now = Instant::now();
        self.next_look = Some(now);
        if let Some(trouble) = &mut self.trouble {
            // Whatever it was, it may be over.
            trouble.probation = true;
        }
        for (_, name) in std::mem::take(&mut self.timers) {
            self.mark(&name, Cause::Drain);
        }
    }

    /// Queues what was to be looked after later and is due.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some((at, name)) = self.timers.pop_first() {
            if at > now {
                self.timers.insert((at, name));
                break;
            }
            self.mark(&name, Cause::Drain);
        }
    }

    /// When [`State::wake`] has something to do.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next upstream that is to be looked after.
    pub(super) fn take(&mut self) -> Option<Job> {
        while let Some(name) = self.queue.pop_front() {
            let Some(group) = self.groups.get_mut(&name) else { continue };
            group.queued = false;
            if group.running {
                continue;
            }
            let Some(cause) = group.dirty.take() else { continue };
            group.running = true;
            let (version, servers, drains) = (group.version, group.servers.clone(), group.drains.clone());
            return Some(Job { name, version, cause, servers, drains });
        }
        None
    }

    /// An attempt has ended. Answers whether the upstream was put right although its target had not changed.
    pub(super) fn attempted(&mut self, name: &Arc<str>, version: u64, cause: Cause, attempt: Attempt) -> bool {
        self.changes += attempt.changes;
        self.failures += attempt.failures;
        let drifted = cause == Cause::Check && attempt.changes > 0;
        self.drift += u64::from(drifted);
        self.mended += u32::from(drifted);
        let now = Instant::now();
        let lost = attempt.error.as_ref().is_some_and(|error| error.scope() == Scope::Instance);
        let Some(group) = self.groups.get_mut(name) else { return drifted };
        group.running = false;
        group.drains = attempt.drains;
        group.settled_at = now;
        let newer = group.version > version;
        let again = match attempt.error {
            None => {
                (group.standing, group.settled, group.tries) = (Standing::InStep, version, 0);
                group.drains.next()
            }
            Some(error) if lost => {
                group.dirty = group.dirty.max(Some(cause));
                self.lose(error, now);
                None
            }
            Some(error) => {
                let refused = matches!(error.problem, Problem::Refused { .. });
                (group.standing, group.settled) = (Standing::Refused(Arc::new(error)), version);
                group.tries += 1;
                // What the API says is wrong stays wrong; the thorough look tries once more.
                (!refused && !newer).then(|| now + pause(group.tries, LONGEST_REFUSED))
            }
        };
        if !lost {
            self.recovered();
        }
        let Some(group) = self.groups.get_mut(name) else { return drifted };
        let refused = matches!(group.standing, Standing::Refused(_));
        if group.leaving && !lost && !newer && group.dirty.is_none() && (refused || again.is_none()) {
            self.groups.remove(name);
            return drifted;
        }
        if newer || group.dirty.is_some() {
            let cause = group.dirty.unwrap_or(cause);
            self.mark(name, cause);
        }
        if let Some(at) = again {
            self.timers.insert((at, name.clone()));
        }
        drifted
    }

    /// The instance does not answer.
    pub(super) fn lose(&mut self, error: ApiError, now: Instant) {
        let (tries, since) = self.trouble.as_ref().map_or((0, now), |trouble| (trouble.tries + 1, trouble.since));
        let news = self.trouble.as_ref().is_none_or(|trouble| trouble.error.code() != error.code());
        if self.trouble.as_ref().is_some_and(|trouble| !trouble.probation && trouble.until > now) {
            // Several calls were on their way: that is one failure.
            return;
        }
        if news {
            tracing::warn!("NGINX Plus cannot be kept in step, what it serves goes on: {error}");
        }
        let until = now + pause(tries, LONGEST_PAUSE);
        self.trouble = Some(Trouble { error: Arc::new(error), since, tries, until, probation: false });
    }

    /// It has taken what it was told.
    fn recovered(&mut self) {
        if let Some(trouble) = self.trouble.take() {
            tracing::info!("NGINX Plus is kept in step again, after {:?}", trouble.since.elapsed());
        }
    }

    /// A look has succeeded.
    pub(super) fn answered(&mut self) {
        if self.groups.values().all(|group| group.dirty.is_none()) {
            self.recovered();
        } else if let Some(trouble) = &mut self.trouble {
            trouble.probation = true;
        }
    }

    pub(super) fn failed(&mut self) {
        self.failures += 1;
    }
}

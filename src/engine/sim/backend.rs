//! The simulated backend of one life of LBEX: brings desired states and pushes to the simulated data plane, with all that can go
//! wrong on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use lbex_core::backend::{
    Action, ApplyReport, BackendError, Capabilities, Instead, Observed, ProxyBackend, Push, Refusal,
};
use lbex_core::desired::{Delta, DesiredState, ServiceConfig};
use lbex_core::names::ServiceKey;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::broken::Broken;
use super::proxy::{Put, Served, Taken};
use super::state::{Event, Life, Sim, State};

/// For how long a push is waited for, in ms.
const PUSH_LIMIT: u64 = 1000;
/// Why an apply is owed to a proxy that does not serve what it should.
const OUT_OF_STEP: &str = "the proxy is out of step";
/// The connect timeout of Services that are refused for ever.
const REFUSED: Duration = Duration::from_secs(7);

pub(super) struct SimBackend(pub(super) Sim);

/// Whether the proxy refuses a Service for ever.
pub(super) fn is_refused(config: &ServiceConfig) -> bool {
    config.listeners.iter().any(|listener| listener.connect_timeout == REFUSED)
}

impl Drop for SimBackend {
    /// What ends with LBEX.
    fn drop(&mut self) {
        self.0.with(|state| {
            if state.breaks(Broken::TakesTheProxyAlong) {
                state.die();
            }
        });
    }
}

/// How an apply is going to be.
struct Course {
    check: u64,
    put: u64,
    confirm: u64,
    /// Fails before, or after, it is in place.
    fails: Option<(bool, BackendError)>,
}

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

#[async_trait]
impl ProxyBackend for SimBackend {
    fn capabilities(&self) -> Capabilities {
        let live_servers = self.0.with(|state| state.setup.pushes);
        Capabilities { live_servers, ..Capabilities::default() }
    }

    fn push(&self, delta: &Delta) -> Push {
        let (services, wait) = self.0.with(|state| state.push(delta));
        if services.is_empty() {
            return Push::nothing();
        }
        let (sim, keys, generation) = (self.0.clone(), services.clone(), delta.to);
        let taken = Box::pin(async move {
            sleep(ms(wait)).await;
            sim.with(|state| state.pushed(&keys, generation))
        });
        Push { services, taken }
    }

    async fn apply(&self, desired: &DesiredState, delta: &Delta) -> Result<ApplyReport, BackendError> {
        let Course { check, put, confirm, fails } = self.0.with(|state| {
            state.check_apply(desired, delta);
            state.course()
        });
        sleep(ms(check)).await;
        let (early, error) = fails.map_or((false, None), |(early, error)| (early, Some(error)));
        if early {
            return self.0.with(|state| state.failed(error));
        }
        let (action, refused, done) = self.0.with(|state| state.prepare(desired, put));
        if let Some(done) = done
            && done.await.is_err()
        {
            return self.0.with(|state| state.failed(None));
        }
        sleep(ms(confirm)).await;
        self.0.with(|state| {
            let lost = action != Action::Unchanged && !state.proxy.alive;
            if error.is_some() || lost {
                return state.failed(error);
            }
            Ok(state.succeeded(desired, action, refused))
        })
    }

    async fn observe(&self) -> Result<Observed, BackendError> {
        let (error, hangs) = self.0.with(|state| {
            let (until, hangs) = state.faults.observe;
            (state.now() < until, hangs)
        });
        if error {
            self.0.with(State::not_seen);
            if hangs {
                sleep(ms(10_000)).await;
            }
            return Err(BackendError::Retry("no answer".to_owned()));
        }
        let takes = self.0.with(|state| state.dice.u64(0..20));
        sleep(ms(takes)).await;
        Ok(self.0.with(State::seen))
    }

    async fn stop(&self, _: Duration) -> Result<(), BackendError> {
        Ok(())
    }
}

impl Life {
    /// What a Service was in a generation, and since which.
    pub(super) fn at(&self, key: &ServiceKey, generation: u64) -> Option<(u64, &std::sync::Arc<ServiceConfig>)> {
        let history = self.history.get(key)?;
        let (since, config) = history.iter().rev().find(|(since, _)| *since <= generation)?;
        Some((*since, config.as_ref()?))
    }

    /// The plan that a generation is of.
    pub(super) fn plan_of(&self, generation: u64) -> usize {
        self.plans.iter().rev().find(|(since, _)| *since <= generation).map_or(0, |(_, plan)| *plan)
    }
}

impl State {
    /// Takes a push in. Which Services it is for, and how long it is waited for.
    fn push(&mut self, delta: &Delta) -> (BTreeSet<ServiceKey>, u64) {
        self.check_delta(delta);
        let plan = self.life.plan_of(delta.to);
        if !self.setup.pushes || !self.proxy.alive {
            return (BTreeSet::new(), 0);
        }
        let (late_until, never) = self.faults.push;
        let (mut services, mut wait) = (BTreeSet::new(), 0);
        for (key, change) in &delta.changes {
            let Some(after) = change.after().filter(|_| self.proxy.served.contains_key(key)) else { continue };
            let served = Served { config: after.clone(), plan, order: (self.life.number, delta.to) };
            self.life.pushed.insert(key.clone(), served.clone());
            let late = self.now() < late_until;
            let takes = if late { self.dice.u64(1500..4000) } else { self.dice.u64(0..60) };
            if change.servers_only() {
                services.insert(key.clone());
                wait = wait.max(takes + 1).min(PUSH_LIMIT);
            }
            if !(late && never || self.breaks(Broken::LosesPushes)) {
                self.schedule(self.now() + takes, Event::Taken(Taken { key: key.clone(), served }));
            }
        }
        self.life.pushes_open += usize::from(!services.is_empty());
        if self.life.pushes_open > 256 {
            self.fail(format!("{} pushes are awaited at once", self.life.pushes_open));
        }
        self.note(|| format!("generation {}: pushes for {services:?}", delta.to));
        (services, wait)
    }

    /// The Services that the proxy has not taken a push for.
    fn pushed(&mut self, services: &BTreeSet<ServiceKey>, generation: u64) -> BTreeSet<ServiceKey> {
        self.life.pushes_open -= 1;
        let order = (self.life.number, generation);
        let is_late = |key: &&ServiceKey| match self.proxy.served.get(*key) {
            Some(served) => served.order < order,
            None => !self.proxy.alive,
        };
        let mut late: BTreeSet<ServiceKey> = services.iter().filter(is_late).cloned().collect();
        if self.breaks(Broken::LosesPushes) {
            late.clear();
        }
        if !late.is_empty() {
            self.note(|| format!("generation {generation} was not taken for {late:?}"));
            self.owe("a push was not taken");
        }
        late
    }

    /// How the next apply is going to be.
    fn course(&mut self) -> Course {
        let (slow_until, slow) = self.faults.slow;
        let most = if self.now() < slow_until { slow } else { 40 };
        let times = [(); 3].map(|()| self.dice.u64(0..=most));
        let (until, permanent) = self.faults.apply;
        let fails = (self.now() < until).then(|| {
            let text = "the proxy does not do it".to_owned();
            let error = if permanent { BackendError::Permanent(text) } else { BackendError::Retry(text) };
            (self.dice.u8(0..4) > 0, error)
        });
        let [check, put, confirm] = times;
        Course { check, put: put + 1, confirm, fails }
    }

    /// Looks what an apply comes to, and puts it on its way.
    #[allow(clippy::type_complexity)]
    fn prepare(
        &mut self,
        desired: &DesiredState,
        takes: u64,
    ) -> (Action, BTreeMap<ServiceKey, Vec<Refusal>>, Option<oneshot::Receiver<()>>) {
        let refused = self.refusals(desired);
        self.life.refused.extend(refused.keys().cloned());
        let (order, plan) = ((self.life.number, desired.generation), self.life.plan_of(desired.generation));
        let wanted = desired.services.iter().map(|(key, config)| {
            let since = self.life.at(key, desired.generation).map_or(0, |(since, _)| since);
            (key.clone(), Served { config: config.clone(), plan, order: (self.life.number, since) })
        });
        let wanted: BTreeMap<_, _> = wanted.collect();
        let target = self.target(wanted.clone(), &refused);
        let same = |a: &BTreeMap<ServiceKey, Served>, b: &BTreeMap<ServiceKey, Served>| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && a.1.config == b.1.config)
        };
        if self.proxy.alive && same(&target, &self.proxy.served) {
            (self.proxy.put, self.proxy.harmed, self.proxy.served) = (Some(order), false, target);
            return (Action::Unchanged, refused, None);
        }
        let (done, wait) = oneshot::channel();
        let start = !self.proxy.alive;
        let put = Put { order, wanted, refused: refused.clone(), start, done };
        self.schedule(self.now() + takes, Event::Put(put));
        (if start { Action::Started } else { Action::Reloaded }, refused, Some(wait))
    }

    pub(super) fn refusals(&self, desired: &DesiredState) -> BTreeMap<ServiceKey, Vec<Refusal>> {
        let now = self.now();
        let refusal = |(key, config): (&ServiceKey, &std::sync::Arc<ServiceConfig>)| {
            let for_ever = is_refused(config);
            let listens = |served: &Served| {
                config
                    .listeners
                    .iter()
                    .all(|l| served.config.listeners.iter().any(|s| (s.protocol, s.port) == (l.protocol, l.port)))
            };
            let is_there = self.proxy.served.get(key).is_some_and(listens);
            let blocked = self.faults.blocked.get(key).is_some_and(|until| now < *until) && !is_there;
            if !(for_ever || blocked) {
                return None;
            }
            let instead = if self.setup.leaves_out { Instead::LeftOut } else { Instead::LastGood };
            let refusal =
                Refusal { code: "Refused", message: "the proxy refuses it".to_owned(), instead, retry: blocked };
            Some((key.clone(), vec![refusal]))
        };
        desired.services.iter().filter_map(refusal).collect()
    }

    fn failed<T>(&mut self, error: Option<BackendError>) -> Result<T, BackendError> {
        let error = error.unwrap_or_else(|| BackendError::Retry("the proxy died".to_owned()));
        self.note(|| format!("the apply fails: {error:?}"));
        self.life.last_reload = self.apply_ended();
        self.owe("an apply failed");
        Err(error)
    }

    fn succeeded(
        &mut self,
        desired: &DesiredState,
        action: Action,
        refused: BTreeMap<ServiceKey, Vec<Refusal>>,
    ) -> ApplyReport {
        self.note(|| format!("the apply succeeds: {action:?}, refused: {:?}", refused.keys()));
        let begin = self.apply_ended();
        if action != Action::Unchanged {
            self.life.last_reload = begin;
            self.life.late_reloads += u32::from(self.eye.calm_since.is_some());
        }
        self.life.applied = desired.clone();
        if refused.values().flatten().any(|refusal| refusal.retry) {
            self.owe("a Service was refused for now");
        }
        ApplyReport { generation: desired.generation, action, refused, reloads: Vec::new() }
    }

    fn not_seen(&mut self) {
        self.life.seen_wrong = Some(self.now());
        if self.only_resumed() {
            // The last good state is for a proxy that is known not to serve.
            self.life.owed.clear();
        }
    }

    fn seen(&mut self) -> Observed {
        let ours = self.proxy.put.is_some_and(|(life, _)| life == self.life.number);
        let in_step = self.proxy.alive && ours && !self.proxy.harmed;
        if in_step {
            self.life.owed.remove(OUT_OF_STEP);
        } else {
            self.life.seen_wrong = Some(self.now());
            self.life.seen_dead |= !self.proxy.alive;
            if self.life.fold.generation > 0 {
                self.owe(OUT_OF_STEP);
            }
        }
        if self.only_resumed() && self.proxy.alive && self.life.applied.generation == 0 {
            // It is left alone until there is a plan, also where it came to serve although the attempt is said to have failed.
            self.life.owed.clear();
        }
        Observed { healthy: self.proxy.alive, detail: "it is simulated".to_owned(), in_step, ..Observed::default() }
    }
}

//! One NGINX Plus: its upstreams are kept as they should be by a task of its own, so that no instance waits for another.
//!
//! A change is begun as soon as it comes, for some upstreams at a time. Where the instance does not answer, all of them wait, and it
//! is looked at again with growing pauses. It is looked at now and then in any case: somebody else may change servers, it
//! may be restarted, and it tells how its servers are.

mod look;
mod state;
mod tell;
mod work;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lbex_core::backend::ApiStanding;
use lbex_core::names::ServiceKey;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::api::{ApiError, Client};

pub(crate) use state::Standing;
use state::State;

/// How an instance is kept in step.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How often it is looked at. Default 5 s.
    pub look: Duration,
    /// How often every server's settings are read, also those that a look does not show. Default 5 min.
    pub thorough: Duration,
    /// `--drain-timeout`: how long servers that are to go may keep their connections before they are removed. Default `None`: they
    /// are removed at once.
    pub drain: Option<Duration>,
    /// Whether it is looked at while it has no upstream to be kept in step. Default true.
    pub idle_looks: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { look: Duration::from_secs(5), thorough: Duration::from_secs(300), drain: None, idle_looks: true }
    }
}

/// An upstream as it should be.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) service: ServiceKey,
    pub(crate) name: Arc<str>,
    pub(crate) servers: Arc<BTreeSet<SocketAddr>>,
}

/// An upstream, and which of its targets is waited for.
pub(crate) type Ticket = (Arc<str>, u64);

/// One NGINX Plus. Its task ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Instance {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    pace: Pace,
    state: Mutex<State>,
    /// Something is to be done.
    wake: Notify,
    /// Something was done.
    done: watch::Sender<()>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Instance {
    /// Begins to look after it.
    pub(crate) fn start(client: Client, pace: Pace) -> Self {
        let state = Mutex::new(State::new(Instant::now() + pace.thorough));
        let shared = Arc::new(Shared { client, pace, state, wake: Notify::new(), done: watch::Sender::new(()) });
        Self { task: tokio::spawn(work::run(shared.clone())), shared }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        self.shared.client.url().to_string()
    }

    /// An upstream is to become as `target` says, unless a newer generation said otherwise.
    pub(crate) fn set(&self, generation: u64, target: &Target) -> Ticket {
        let version = self.shared.state().set(generation, target, self.shared.pace.drain);
        self.shared.wake.notify_one();
        (target.name.clone(), version)
    }

    /// An upstream that is not wanted any more is emptied, once, and then left alone.
    pub(crate) fn empty(&self, generation: u64, service: &ServiceKey, name: &Arc<str>) {
        let target = Target { service: service.clone(), name: name.clone(), servers: Arc::default() };
        self.shared.state().empty(generation, &target, self.shared.pace.drain);
        self.shared.wake.notify_one();
    }

    /// This upstream is left alone from now on.
    pub(crate) fn forget(&self, name: &str) {
        self.shared.state().groups.remove(name);
    }

    /// Whether this upstream is kept in step.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.shared.state().groups.contains_key(name)
    }

    /// The names of all upstreams that are.
    pub(crate) fn names(&self) -> Vec<(Arc<str>, ServiceKey)> {
        let state = self.shared.state();
        let live = state.groups.iter().filter(|(_, group)| !group.leaving);
        live.map(|(name, group)| (name.clone(), group.service.clone())).collect()
    }

    /// Tries these again, although their targets are the same.
    pub(crate) fn again(&self, names: &[Arc<str>]) -> Vec<Ticket> {
        let tickets = self.shared.state().again(names);
        self.shared.wake.notify_one();
        tickets
    }

    /// Tries at once what waits for its next attempt, and looks.
    pub(crate) fn try_now(&self) {
        self.shared.state().try_now();
        self.shared.wake.notify_one();
    }

    /// Waits until all of these were reached or refused, or the instance does not answer, for `limit` at the most.
    pub(crate) async fn settled(&self, tickets: &[Ticket], limit: Duration) {
        let mut done = self.shared.done.subscribe();
        let settled = async {
            loop {
                done.borrow_and_update();
                if self.shared.state().is_settled(tickets) {
                    return;
                }
                if done.changed().await.is_err() {
                    return;
                }
            }
        };
        // Whoever asks sees what has not come.
        drop(tokio::time::timeout(limit, settled).await);
    }

    /// How an upstream stands.
    pub(crate) fn standing(&self, (name, version): &Ticket) -> Standing {
        self.shared.state().standing(name, *version)
    }

    /// Why it does not answer, if it does not.
    pub(crate) fn trouble(&self) -> Option<Arc<ApiError>> {
        self.shared.state().trouble()
    }

    /// Whether it has answered since the start, and has not been lost since.
    pub(crate) fn answers(&self) -> bool {
        self.shared.state().answers()
    }

    /// What is refused now: Service, upstream, why.
    pub(crate) fn refusals(&self) -> Vec<(ServiceKey, Arc<str>, Arc<ApiError>)> {
        self.shared.state().refusals()
    }

    /// For metrics.
    pub(crate) fn stands(&self) -> ApiStanding {
        ApiStanding { url: self.url(), ..self.shared.state().stands() }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each upstream stands for itself: what a panicking thread left is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

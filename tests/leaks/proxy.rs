//! A proxy that is simulated: a backend with the push table of the NGINX backend, and a resolver that asks it as NGINX does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use lbex_backend_nginx::push::wire::{Family, Question};
use lbex_backend_nginx::push::{Answer, Pace, ServerGroup, ServerName, Table, Waiter, groups};
use lbex_core::backend::{
    Action, ApplyReport, BackendError, Capabilities, Instead, Observed, ProxyBackend, Push, Refusal,
};
use lbex_core::desired::{Delta, DesiredState};
use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;
use tokio::time::{Instant, sleep};

/// One in so many applies fails, and in so many a Service is refused.
const FAILS: u32 = 40;
/// One in so many answers is lost.
const LOST: u32 = 50;
/// How often a question that waits is repeated, in s.
const REPEATED: u64 = 15;

pub(crate) struct Proxy {
    begin: Instant,
    leaks: bool,
    inner: Mutex<Inner>,
}

struct Inner {
    dice: Rng,
    table: Table,
    names: BTreeMap<ServerName, Round>,
    id: u16,
    leaked: Vec<String>,
}

/// The questions of a name that are open.
#[derive(Default)]
struct Round {
    open: [Option<u16>; 2],
}

impl Proxy {
    /// One that `leaks` keeps the name of every Service that changes.
    pub(crate) fn new(leaks: bool) -> Self {
        let table = Table::new(Pace::new(true));
        let inner = Inner { dice: Rng::with_seed(2), table, names: BTreeMap::new(), id: 0, leaked: Vec::new() };
        Self { begin: Instant::now(), leaks, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How large everything is.
    pub(crate) fn sizes(&self) -> BTreeMap<String, String> {
        let mut inner = self.lock();
        let standing = inner.table.standing();
        let doubted = inner.table.doubted().len();
        let all = [
            ("names asked for", standing.names),
            ("current", standing.current),
            ("silent", standing.silent),
            ("open questions", inner.table.open_questions().len()),
            ("names", inner.names.len()),
            ("doubted", doubted),
        ];
        all.into_iter().map(|(name, size)| (name.to_owned(), size.to_string())).collect()
    }
}

impl Inner {
    /// Asks both questions of a name, with new ids.
    fn ask(&mut self, now: Duration, name: &ServerName, out: &mut Vec<Answer>) {
        for family in Family::BOTH {
            self.id = self.id.wrapping_add(1);
            if let Some(round) = self.names.get_mut(name) {
                round.open[family.index()] = Some(self.id);
            }
            self.table.ask(now, nginx(), &Question { id: self.id, name: name.clone(), family }, out);
        }
    }

    /// NGINX takes answers, and asks anew where it has both.
    fn take(&mut self, now: Duration, mut answers: Vec<Answer>) {
        while let Some(Answer { question: Question { id, name, family }, .. }) = answers.pop() {
            if self.dice.u32(0..LOST) == 0 {
                continue;
            }
            let Some(round) = self.names.get_mut(&name) else { continue };
            if round.open[family.index()] == Some(id) {
                round.open[family.index()] = None;
                if round.open == [None, None] {
                    self.ask(now, &name, &mut answers);
                }
            }
        }
    }

    /// A second passes.
    fn tick(&mut self, now: Duration) {
        let mut out = Vec::new();
        self.table.tick(now, &mut out);
        // Those whose answer was lost too, which the table takes for answered.
        let open = self.names.iter().flat_map(|(name, round)| {
            let ids = Family::BOTH.into_iter().zip(round.open);
            ids.filter_map(|(family, id)| Some(Question { id: id?, name: name.clone(), family }))
        });
        let due = open.filter(|question| u64::from(question.id) % REPEATED == now.as_secs() % REPEATED);
        for question in due.collect::<Vec<_>>() {
            self.table.ask(now, nginx(), &question, &mut out);
        }
        self.take(now, out);
    }

    fn set(&mut self, now: Duration, delta: &Delta, key: &ServiceKey, waiter: Option<&Arc<Waiter>>) {
        let mut out = Vec::new();
        let after = delta.changes.get(key).and_then(|change| change.after());
        let groups = after.map(|config| groups(config)).unwrap_or_default();
        if after.is_some() {
            self.table.set(now, key, delta.to, &groups, waiter, &mut out);
        } else {
            self.table.forget(key, delta.to);
        }
        self.take(now, out);
    }

    /// A reload: NGINX asks for the names of the configuration.
    fn reloaded(&mut self, now: Duration, delta: &Delta) {
        for (key, change) in &delta.changes {
            self.set(now, delta, key, None);
            let wanted = change.after().map(|config| groups(config)).unwrap_or_default();
            let wanted: BTreeSet<_> = wanted.into_keys().collect();
            let gone: Vec<_> = of(&self.names, key).filter(|name| !wanted.contains(&name.group)).cloned().collect();
            for name in &gone {
                self.names.remove(name);
            }
            self.table.keep_only(key, &wanted);
            for group in wanted {
                let name = ServerName { service: key.clone(), group };
                if !self.names.contains_key(&name) {
                    self.names.insert(name.clone(), Round::default());
                    let mut out = Vec::new();
                    self.ask(now, &name, &mut out);
                    self.take(now, out);
                }
            }
        }
    }
}

/// The names of a Service.
fn of<'a>(names: &'a BTreeMap<ServerName, Round>, key: &'a ServiceKey) -> impl Iterator<Item = &'a ServerName> {
    let first =
        ServerName { service: key.clone(), group: ServerGroup { protocol: Protocol::Tcp, listener: 0, port: 0 } };
    names.range(first..).map(|(name, _)| name).take_while(move |name| name.service == *key)
}

fn nginx() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1000))
}

#[async_trait]
impl ProxyBackend for Proxy {
    fn capabilities(&self) -> Capabilities {
        Capabilities { live_servers: true, ..Capabilities::default() }
    }

    fn push(&self, delta: &Delta) -> Push {
        let (mut inner, now) = (self.lock(), self.begin.elapsed());
        if self.leaks {
            inner.leaked.extend(delta.changes.keys().map(ToString::to_string));
        }
        let waiter = Arc::new(Waiter::default());
        let changes = delta.changes.iter().filter(|(_, change)| change.servers_only());
        let services: BTreeSet<ServiceKey> =
            changes.filter(|(key, _)| of(&inner.names, key).next().is_some()).map(|(key, _)| key.clone()).collect();
        services.iter().for_each(|key| inner.set(now, delta, key, Some(&waiter)));
        if services.is_empty() {
            return Push::nothing();
        }
        let never = inner.dice.u32(0..FAILS) == 0;
        let late = if never { services.clone() } else { BTreeSet::new() };
        let taken = async move {
            sleep(Duration::from_millis(20)).await;
            drop(waiter);
            late
        };
        Push { services, taken: Box::pin(taken) }
    }

    async fn apply(&self, desired: &DesiredState, delta: &Delta) -> Result<ApplyReport, BackendError> {
        sleep(Duration::from_millis(50)).await;
        let (mut inner, now) = (self.lock(), self.begin.elapsed());
        if inner.dice.u32(0..FAILS) == 0 {
            return Err(BackendError::Retry(format!("it does not do generation {}", desired.generation)));
        }
        inner.reloaded(now, delta);
        let refused = desired.services.keys().next().filter(|_| inner.dice.u32(0..FAILS) == 0);
        let refusal = |key: &ServiceKey| {
            let message = format!("refused in generation {}", desired.generation);
            (key.clone(), vec![Refusal { code: "Refused", message, instead: Instead::LeftOut, retry: true }])
        };
        let refused = refused.map(refusal).into_iter().collect();
        Ok(ApplyReport { generation: desired.generation, action: Action::Reloaded, refused, reloads: Vec::new() })
    }

    async fn observe(&self) -> Result<Observed, BackendError> {
        self.lock().tick(self.begin.elapsed());
        Ok(Observed { healthy: true, in_step: true, ..Observed::default() })
    }

    async fn stop(&self, _: Duration) -> Result<(), BackendError> {
        Ok(())
    }
}

//! The simulated data plane: what it serves, and since when. It outlives LBEX.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lbex_core::backend::{Instead, Refusal};
use lbex_core::desired::{Listener, ServiceConfig};
use lbex_core::names::ServiceKey;
use tokio::sync::oneshot;

use super::broken::Broken;
use super::state::State;

/// Which life of LBEX, and which generation of it: the greater is the newer.
pub(super) type Order = (u32, u64);

/// A Service that is served.
#[derive(Debug, Clone)]
pub(super) struct Served {
    pub(super) config: Arc<ServiceConfig>,
    /// The plan that it is of.
    pub(super) plan: usize,
    pub(super) order: Order,
}

impl Served {
    /// With the servers of what is newer. All else is of the plan that it was.
    fn with(&self, newer: &Self) -> Self {
        Self { config: with_servers(&self.config, &newer.config), plan: self.plan, order: newer.order }
    }
}

/// The proxy.
#[derive(Debug, Default)]
pub(super) struct Proxy {
    pub(super) alive: bool,
    pub(super) served: BTreeMap<ServiceKey, Served>,
    /// What it serves when it is started by somebody else.
    pub(super) written: BTreeMap<ServiceKey, Served>,
    /// The life and generation that was put in place last.
    pub(super) put: Option<Order>,
    /// Whether somebody else changed what it serves since.
    pub(super) harmed: bool,
    /// When it began or ceased to live.
    pub(super) since: u64,
}

/// A configuration on its way into the proxy.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) order: Order,
    pub(super) wanted: BTreeMap<ServiceKey, Served>,
    pub(super) refused: BTreeMap<ServiceKey, Vec<Refusal>>,
    /// Whether the proxy is to be started for it.
    pub(super) start: bool,
    pub(super) done: oneshot::Sender<()>,
}

/// Servers on their way into the proxy.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) key: ServiceKey,
    pub(super) served: Served,
}

impl State {
    /// The proxy takes a configuration.
    pub(super) fn put(&mut self, put: Put) {
        let Put { order, wanted, refused, start, done } = put;
        if self.proxy.alive == start {
            return;
        }
        let mut target = self.target(wanted, &refused);
        if self.breaks(Broken::TouchesBystanders) {
            target.pop_first();
        }
        for (key, old) in std::mem::take(&mut self.proxy.served) {
            self.check_touch(&key, &old, target.get(&key), refused.contains_key(&key));
        }
        if start {
            (self.proxy.alive, self.proxy.since) = (true, self.now());
        }
        self.note(|| format!("the proxy serves {}", shown(&target)));
        (self.proxy.written, self.proxy.served) = (target.clone(), target);
        (self.proxy.put, self.proxy.harmed) = (Some(order), false);
        if done.send(()).is_err() {
            self.note(|| "nobody waits for that any more".to_owned());
        }
    }

    /// What the proxy is to serve: with servers that were pushed meanwhile, and without what is refused.
    pub(super) fn target(
        &self,
        mut wanted: BTreeMap<ServiceKey, Served>,
        refused: &BTreeMap<ServiceKey, Vec<Refusal>>,
    ) -> BTreeMap<ServiceKey, Served> {
        for (key, refusals) in refused {
            wanted.remove(key);
            let last_good = refusals.iter().any(|refusal| refusal.instead == Instead::LastGood);
            if let Some(served) = self.proxy.served.get(key).filter(|_| last_good) {
                let taken: BTreeSet<_> = wanted.values().flat_map(|served| ports(&served.config)).collect();
                if ports(&served.config).all(|port| !taken.contains(&port)) {
                    wanted.insert(key.clone(), served.clone());
                }
            }
        }
        for (key, served) in &mut wanted {
            let pushed = self.life.pushed.get(key).filter(|_| !self.breaks(Broken::AppliesForgetPushes));
            if let Some(pushed) = pushed.filter(|pushed| pushed.order > served.order) {
                *served = served.with(pushed);
            }
            if let Some(old) = self.proxy.served.get(key).filter(|old| old.config == served.config) {
                (served.plan, served.order) = (served.plan.max(old.plan), served.order.max(old.order));
            }
        }
        wanted
    }

    /// The proxy takes servers.
    pub(super) fn take(&mut self, taken: Taken) {
        let Taken { key, served: new } = taken;
        let overtakes = self.breaks(Broken::PushesOvertake);
        let old = self.proxy.served.get(&key).filter(|old| old.order < new.order || overtakes);
        let Some(old) = old.cloned() else { return };
        let new = old.with(&new);
        self.note(|| format!("the proxy takes servers of {key}"));
        self.check_touch(&key, &old, Some(&new), false);
        self.proxy.served.insert(key, new);
    }

    /// The proxy dies.
    pub(super) fn die(&mut self) {
        if self.proxy.alive {
            self.note(|| "the proxy dies".to_owned());
            self.proxy.served.clear();
            (self.proxy.alive, self.proxy.harmed, self.proxy.since) = (false, true, self.now());
        }
    }

    /// Somebody else starts it.
    pub(super) fn started_by_others(&mut self) {
        if !self.proxy.alive {
            self.note(|| "somebody starts the proxy".to_owned());
            self.proxy.served = self.proxy.written.clone();
            (self.proxy.alive, self.proxy.harmed, self.proxy.since) = (true, true, self.now());
        }
    }

    /// It loses a Service.
    pub(super) fn drift(&mut self) {
        if self.proxy.alive && self.proxy.served.pop_first().is_some() {
            self.note(|| "the proxy loses a Service".to_owned());
            self.proxy.harmed = true;
        }
    }
}

fn ports(config: &ServiceConfig) -> impl Iterator<Item = (lbex_core::model::Protocol, u16)> {
    config.listeners.iter().map(|listener| (listener.protocol, listener.port))
}

/// What is served where servers of `from` reach a proxy that is otherwise configured as `config`.
pub(super) fn with_servers(config: &ServiceConfig, from: &ServiceConfig) -> Arc<ServiceConfig> {
    let servers_of = |listener: &Listener| {
        let same = from.listeners.iter().find(|l| (l.protocol, l.port) == (listener.protocol, listener.port));
        let mut listener = listener.clone();
        if let Some(same) = same {
            listener.upstream.servers = same.upstream.servers.clone();
        }
        listener
    };
    let listeners = config.listeners.iter().map(servers_of).collect();
    Arc::new(ServiceConfig { listeners, created: from.created, ..config.clone() })
}

/// In words.
pub(super) fn shown(served: &BTreeMap<ServiceKey, Served>) -> String {
    let one = |(key, served): (&ServiceKey, &Served)| format!("{key} {}", in_words(&served.config));
    let all: Vec<String> = served.iter().map(one).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join("; ") }
}

/// In words.
pub(super) fn in_words(config: &ServiceConfig) -> String {
    let one = |listener: &Listener| {
        let Listener { protocol, port, upstream, .. } = listener;
        format!("{protocol} {port} {} {:?}", upstream.algorithm.as_str(), upstream.servers)
    };
    config.listeners.iter().map(one).collect::<Vec<_>>().join(", ")
}

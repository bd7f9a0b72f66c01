//! All instances that get the same servers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use lbex_backend_nginx::render::upstream_name;
use lbex_core::backend::{BackendError, Instead, Push, Refusal};
use lbex_core::desired::{Delta, DesiredState, Servers, ServiceConfig};
use lbex_core::names::ServiceKey;

use crate::api::{ApiError, Client, Problem};
use crate::instance::{Instance, Pace, Standing, Target, Ticket};

/// How long a push waits for instances that are slow. They get it all the same, as fast as they take it.
const PUSHED: Duration = Duration::from_secs(2);

/// How long an apply waits for them.
const APPLIED: Duration = Duration::from_secs(10);

/// How much longer either waits for every upstream: a host that is busy takes some milliseconds for each call.
const EACH: Duration = Duration::from_millis(20);

/// All instances, and what they were last told.
#[derive(Debug)]
pub(crate) struct Fleet {
    instances: Vec<Instance>,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// The generation of the desired state that was last applied; `None` before the first.
    applied: Option<u64>,
    /// The Services of which something was refused then.
    refused: BTreeSet<ServiceKey>,
}

/// What is waited for.
#[derive(Debug, Default)]
pub(crate) struct Awaited(BTreeMap<ServiceKey, Vec<Vec<Ticket>>>);

/// The upstreams of a Service whose servers are addresses.
pub(crate) fn targets(config: &ServiceConfig) -> Vec<Target> {
    let target = |listener: &lbex_core::desired::Listener| match &listener.upstream.servers {
        Servers::Addresses(servers) => Some(Target {
            service: config.service.clone(),
            name: upstream_name(&config.service, listener).into(),
            servers: Arc::new(servers.iter().copied().collect()),
        }),
        Servers::Dns { .. } => None,
    };
    config.listeners.iter().filter_map(target).collect()
}

impl Fleet {
    /// Begins to look after them.
    pub(crate) fn start(clients: Vec<Client>, pace: Pace) -> Self {
        let instances = clients.into_iter().map(|client| Instance::start(client, pace)).collect();
        Self { instances, told: Mutex::default() }
    }

    pub(crate) fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Sends changed servers to all instances. `wanted`: what a Service's upstreams are to be. `only_known`: not to upstreams that
    /// nobody has applied yet.
    pub(crate) fn push(
        self: &Arc<Self>,
        delta: &Delta,
        wanted: impl Fn(&ServiceConfig) -> Vec<Target>,
        only_known: bool,
    ) -> Push {
        let mut awaited = Awaited::default();
        for (key, change) in &delta.changes {
            let Some(after) = change.after() else { continue };
            let (known, new): (Vec<_>, Vec<_>) =
                wanted(after).into_iter().partition(|target| !only_known || self.is_known(&target.name));
            // In any case at once: what is removed is to get no traffic, whatever else has to happen.
            let tickets = self.set(delta.to, &known);
            if change.servers_only() && new.is_empty() {
                awaited.0.insert(key.clone(), tickets);
            }
        }
        let services = awaited.0.keys().cloned().collect();
        let this = self.clone();
        let taken = async move {
            this.settled(&awaited, PUSHED).await;
            let late = awaited.0.iter().filter(|(_, tickets)| !this.is_taken(tickets));
            late.map(|(key, _)| key.clone()).collect()
        };
        Push { services, taken: Box::pin(taken) }
    }

    fn is_known(&self, name: &str) -> bool {
        self.instances.iter().all(|instance| instance.knows(name))
    }

    /// The tickets of each instance.
    fn set(&self, generation: u64, targets: &[Target]) -> Vec<Vec<Ticket>> {
        let of = |instance: &Instance| targets.iter().map(|target| instance.set(generation, target)).collect();
        self.instances.iter().map(of).collect()
    }

    /// Gives all instances all that is wanted; see [`tell`](Self::tell).
    pub(crate) fn tell_all(
        &self,
        desired: &DesiredState,
        wanted: impl Fn(&ServiceConfig) -> Vec<Target>,
        gone: impl Fn(&Instance, &ServiceKey, &Arc<str>),
    ) -> Awaited {
        self.told().applied = None;
        self.tell(desired, &Delta::default(), wanted, gone)
    }

    /// Gives all instances what is wanted. `wanted`: what a Service's upstreams are to be. `gone`: what happens to an upstream that
    /// was kept in step and is not wanted any more.
    pub(crate) fn tell(
        &self,
        desired: &DesiredState,
        delta: &Delta,
        wanted: impl Fn(&ServiceConfig) -> Vec<Target>,
        gone: impl Fn(&Instance, &ServiceKey, &Arc<str>),
    ) -> Awaited {
        let mut awaited = Awaited::default();
        let whole = self.told().applied != Some(delta.from);
        let changed: BTreeSet<&ServiceKey> =
            if whole { desired.services.keys().collect() } else { delta.changes.keys().collect() };
        let mut names = BTreeSet::new();
        for key in &changed {
            let Some(config) = desired.services.get(*key) else { continue };
            let targets = wanted(config);
            awaited.0.insert((*key).clone(), self.set(desired.generation, &targets));
            names.extend(targets.into_iter().map(|target| target.name));
        }
        for instance in &self.instances {
            for (name, service) in instance.names() {
                if (whole || changed.contains(&service)) && !names.contains(&name) {
                    gone(instance, &service, &name);
                }
            }
        }
        awaited
    }

    /// Waits until every instance that answers has taken or refused all of it.
    pub(crate) async fn applied(&self, awaited: &Awaited) {
        self.settled(awaited, APPLIED).await;
    }

    /// The same for upstreams of the first instance.
    pub(crate) async fn applied_one(&self, tickets: &[Ticket]) {
        if let Some(instance) = self.instances.first() {
            instance.settled(tickets, APPLIED).await;
        }
    }

    async fn settled(&self, awaited: &Awaited, limit: Duration) {
        let waits = self.instances.iter().enumerate().map(|(at, instance)| {
            let tickets: Vec<Ticket> =
                awaited.0.values().filter_map(|tickets| tickets.get(at)).flatten().cloned().collect();
            let limit = limit + EACH * u32::try_from(tickets.len()).unwrap_or(u32::MAX);
            async move { instance.settled(&tickets, limit).await }
        });
        join_all(waits).await;
    }

    /// Whether at least one instance has all of it, and none refuses any of it.
    fn is_taken(&self, tickets: &[Vec<Ticket>]) -> bool {
        let standings = || self.instances.iter().zip(tickets);
        let refused = standings().any(|(instance, tickets)| {
            tickets.iter().any(|ticket| matches!(instance.standing(ticket), Standing::Refused(_)))
        });
        let in_step = |(instance, tickets): (&Instance, &Vec<Ticket>)| {
            tickets.iter().all(|ticket| instance.standing(ticket) == Standing::InStep)
        };
        !refused && standings().any(in_step)
    }

    /// Whether any instance has all that is awaited.
    pub(crate) fn any_has(&self, awaited: &Awaited) -> bool {
        self.instances.iter().enumerate().any(|(at, instance)| {
            let mut tickets = awaited.0.values().filter_map(|tickets| tickets.get(at)).flatten();
            instance.answers() && tickets.all(|ticket| instance.standing(ticket) != Standing::Waiting)
        })
    }

    /// What instances refuse of all that they are told, by Service.
    pub(crate) fn refusals(&self) -> BTreeMap<ServiceKey, Vec<Refusal>> {
        let mut all: BTreeMap<ServiceKey, Vec<Refusal>> = BTreeMap::new();
        for instance in &self.instances {
            for (service, name, error) in instance.refusals() {
                all.entry(service).or_default().push(refusal(instance, &name, &error));
            }
        }
        all
    }

    /// This was applied, and reported.
    pub(crate) fn reported(&self, generation: u64, refused: BTreeSet<ServiceKey>) {
        *self.told() = Told { applied: Some(generation), refused };
    }

    /// Whether other Services are refused now than was reported.
    pub(crate) fn has_news(&self) -> bool {
        let told = self.told();
        let now = || self.instances.iter().flat_map(Instance::refusals).map(|(service, ..)| service);
        told.applied.is_some() && now().collect::<BTreeSet<_>>() != told.refused
    }

    /// Why none of them can be used.
    pub(crate) fn why_none(&self) -> BackendError {
        let troubles: Vec<String> = self.instances.iter().map(why).collect();
        BackendError::Retry(format!("no NGINX Plus takes the change: {}", troubles.join("; ")))
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // Two plain values: whatever a panicking thread left of them is as good as any.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is wrong with an instance.
pub(crate) fn why(instance: &Instance) -> String {
    match instance.trouble() {
        Some(error) => error.to_string(),
        None => format!("{} has not taken it yet", instance.url()),
    }
}

fn refusal(instance: &Instance, name: &str, error: &ApiError) -> Refusal {
    let missing = error.problem == Problem::UpstreamNotFound;
    let message = if missing {
        format!(
            "NGINX Plus at {} has no upstream {name}; give it one, with a `zone` and without `server`",
            instance.url()
        )
    } else {
        format!("NGINX Plus at {} refuses servers of upstream {name}: {}", instance.url(), error.problem)
    };
    let retry = !matches!(error.problem, Problem::Refused { .. });
    let instead = if missing { Instead::LeftOut } else { Instead::LastGood };
    Refusal { code: error.code(), message, instead, retry }
}

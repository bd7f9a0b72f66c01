//! Servers that NGINX is told of without a reload: what is known of each Service, and which changes need nothing else.
//!
//! Apart from the state of `apply`, so that a change of servers never waits for a reload, a check or a search for culprits.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lbex_core::backend::{Push, PushStanding};
use lbex_core::desired::{Delta, Servers, ServiceConfig};
use lbex_core::names::ServiceKey;

use crate::push::{
    Pace, Responder, ResponderOptions, ResponderStanding, ServerGroup, ServerName, SocketKeeper, Waited, Waiter, groups,
};
use crate::render::{Part, PushDialect, Room, fits_names};

/// How long NGINX may take to take any of the servers that it is told of: a millisecond as a rule where it asks again at once, else a
/// second. A host that is busy, or thousands of names at once, take longer, and as long as some come nothing is wrong.
fn pause(immediate: bool) -> Duration {
    Duration::from_secs(if immediate { 2 } else { 5 })
}

/// The same for names that it may not have asked for yet: a question that was lost is repeated after five seconds, and so are those
/// that an LBEX before this one has not answered.
const UNASKED: Duration = Duration::from_secs(12);

/// How long a push is waited for.
const PUSHED: Duration = Duration::from_secs(30);

/// How long an apply waits for servers; what still comes then is watched and not waited for, so that other changes get their turn.
const APPLIED: Duration = Duration::from_secs(5);

/// How long a configuration with addresses is kept until all names are asked for. It serves meanwhile.
const WARM: Duration = Duration::from_secs(60);

/// How long what still comes is watched.
const WATCHED: Duration = Duration::from_secs(600);

/// The servers of all Services, and who answers NGINX's questions for them.
#[derive(Debug)]
pub(super) struct Pusher {
    responder: Arc<Responder>,
    immediate: bool,
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    services: BTreeMap<ServiceKey, LiveService>,
    /// Servers of all Services, as far as they are names.
    servers: u64,
    /// How many NGINX's zone has room for.
    room: u64,
    /// Services that did not get their servers in time since the last `apply`.
    late: BTreeSet<ServiceKey>,
    /// Names that are still to come.
    watched: BTreeSet<ServerName>,
}

#[derive(Debug)]
struct LiveService {
    generation: u64,
    config: Arc<ServiceConfig>,
    servers: u64,
    /// What NGINX is told where that is not simply what `config` says: see [`until_applied`].
    told: Option<Groups>,
    /// Its part as it should be, and as NGINX confirmed it.
    wanted: Option<Arc<Part>>,
    good: Option<Arc<Part>>,
}

impl LiveService {
    /// Whether all servers of `config` belong to names that NGINX asks for, and will ask for.
    fn takes(&self, config: &ServiceConfig) -> bool {
        let groups = groups(config);
        if config.listeners.iter().any(|listener| !fits_names(listener)) {
            return false;
        }
        let takes = |part: &Option<Arc<Part>>| {
            part.as_ref()
                .is_some_and(|part| part.servers == 0 && groups.keys().all(|group| part.groups.contains(group)))
        };
        takes(&self.wanted) && takes(&self.good)
    }
}

/// How many servers a Service has as addresses.
pub(super) fn count(config: &ServiceConfig) -> u64 {
    let servers = config.listeners.iter().map(|listener| match &listener.upstream.servers {
        Servers::Addresses(servers) => servers.len() as u64,
        Servers::Dns { .. } => 0,
    });
    servers.sum()
}

impl Live {
    /// What NGINX is told of a Service.
    fn told(&self, key: &ServiceKey) -> Groups {
        let known = self.services.get(key);
        known.map(|known| known.told.clone().unwrap_or_else(|| groups(&known.config))).unwrap_or_default()
    }

    /// Takes a Service's servers in, unless newer ones are known.
    fn set(&mut self, generation: u64, config: &Arc<ServiceConfig>) {
        let servers = count(config);
        match self.services.get_mut(&config.service) {
            Some(known) if known.generation > generation => return,
            Some(known) => {
                self.servers -= known.servers;
                let takes = known.takes(config);
                let before = known.told.take().unwrap_or_else(|| groups(&known.config));
                known.told = known.good.as_ref().filter(|_| !takes).map(|good| until_applied(config, &before, good));
                (known.generation, known.config, known.servers) = (generation, config.clone(), servers);
            }
            None => {
                let new =
                    LiveService { generation, config: config.clone(), servers, told: None, wanted: None, good: None };
                self.services.insert(config.service.clone(), new);
            }
        }
        self.servers += servers;
    }
}

/// Addresses by group.
type Groups = BTreeMap<ServerGroup, Vec<IpAddr>>;

/// What NGINX is told while it serves `good`, which is for other listeners or ports than `config`: of a change that waits for its
/// reload, or that NGINX refuses. What `good` asks for gets the servers of the same port if there are any, else those it had, without
/// the ones that are gone as long as others are left.
fn until_applied(config: &ServiceConfig, before: &Groups, good: &Part) -> Groups {
    let wanted = groups(config);
    let mut told = wanted.clone();
    for group in good.groups.iter().filter(|group| !wanted.contains_key(group)) {
        let same = wanted.iter().filter(|(other, _)| (other.protocol, other.port) == (group.protocol, group.port));
        let same: BTreeSet<IpAddr> = same.flat_map(|(_, addresses)| addresses).copied().collect();
        let had = before.get(group).cloned().unwrap_or_default();
        let all: BTreeSet<&IpAddr> = wanted.values().flatten().collect();
        let left: Vec<IpAddr> = had.iter().filter(|address| all.contains(address)).copied().collect();
        let addresses = [same.into_iter().collect(), left, had].into_iter().find(|addresses| !addresses.is_empty());
        told.insert(*group, addresses.unwrap_or_default());
    }
    told
}

impl Pusher {
    /// Answers at `wanted`, where a running NGINX asks, or elsewhere.
    pub(super) fn open(
        dialect: PushDialect,
        wanted: Option<SocketAddr>,
        spread: u64,
        users: Vec<u32>,
        kept: PathBuf,
        keeper: Option<Arc<dyn SocketKeeper>>,
    ) -> io::Result<Self> {
        let pace = Pace::new(dialect.immediate);
        let responder = Responder::open(&ResponderOptions { wanted, spread, pace, users, kept: Some(kept), keeper })?;
        Ok(Self { responder: Arc::new(responder), immediate: dialect.immediate, live: Mutex::default() })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.responder.address()
    }

    /// How things stand, for metrics.
    pub(super) fn observed(&self) -> PushStanding {
        let ResponderStanding { names, ignored, unsent } = self.responder.standing();
        PushStanding {
            names: names.names,
            behind: names.names - names.current,
            silent: names.silent,
            questions: names.counts.questions,
            answers: names.counts.answers,
            repeated: names.counts.repeated,
            ignored: ignored + names.counts.dropped,
            unsent,
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // Each entry stands for itself: what a panicking thread left is as good as any.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the servers of `delta` to NGINX. See [`lbex_core::backend::ProxyBackend::push`].
    pub(super) fn push(self: &Arc<Self>, delta: &Delta) -> Push {
        let waiter = Arc::new(Waiter::default());
        let mut services = BTreeSet::new();
        for (key, change) in &delta.changes {
            let Some(after) = change.after() else { continue };
            let (fits, told) = {
                let mut live = self.live();
                let takes = change.servers_only() && live.services.get(key).is_some_and(|known| known.takes(after));
                live.set(delta.to, after);
                (takes && live.servers <= live.room, live.told(key))
            };
            // In any case at once: what is removed is to get no traffic, whatever else has to happen.
            self.responder.set(key, delta.to, &told, fits.then_some(&waiter));
            if fits {
                services.insert(key.clone());
            }
        }
        let (this, pushed) = (self.clone(), services.clone());
        let taken = async move {
            let late = this.responder.taken(&waiter, &pushed, pause(this.immediate), PUSHED).await;
            this.live().late.extend(late.iter().cloned());
            late
        };
        Push { services, taken: Box::pin(taken) }
    }

    /// Takes servers in that an `apply` brings.
    pub(super) fn set(&self, generation: u64, config: &Arc<ServiceConfig>) {
        let told = {
            let mut live = self.live();
            live.set(generation, config);
            live.told(&config.service)
        };
        self.responder.set(&config.service, generation, &told, None);
    }

    /// Where NGINX serves a Service as it should be, nothing is kept of what was before. Waits until NGINX has let go of it too, where
    /// that takes milliseconds.
    pub(super) async fn settle(self: &Arc<Self>) {
        let mut settled = Vec::new();
        for (key, known) in &mut self.live().services {
            if let Some(good) = known.good.as_ref().filter(|good| known.wanted.as_ref() == Some(*good))
                && known.told.take().is_some()
            {
                settled.push((key.clone(), known.generation, groups(&known.config), good.clone()));
            }
        }
        for (key, generation, groups, good) in &settled {
            self.responder.keep_only(key, &good.groups);
            self.responder.set(key, *generation, groups, None);
        }
        // One that does not ask at once takes a second to let go, and longer to tell of a name that has no servers any more.
        if self.immediate {
            let mut names = names(settled.iter().map(|(key, .., good)| (key, good)));
            names.retain(|name| self.responder.was_asked(name));
            self.watch(self.responder.applied(&names, pause(true), APPLIED).await.1);
        }
    }

    /// Services that did not get their servers in time since this was last asked.
    pub(super) fn late(&self) -> BTreeSet<ServiceKey> {
        std::mem::take(&mut self.live().late)
    }

    /// Whether there are any.
    pub(super) fn is_late(&self) -> bool {
        !self.live().late.is_empty()
    }

    /// A Service's part is to become this one.
    pub(super) fn wants(&self, key: &ServiceKey, part: &Arc<Part>) {
        if let Some(known) = self.live().services.get_mut(key) {
            known.wanted = Some(part.clone());
        }
    }

    /// NGINX serves these parts, with that room; Services that are not in `wanted` are gone since `generation`.
    pub(super) fn confirmed(
        &self,
        good: &BTreeMap<ServiceKey, Arc<Part>>,
        is_wanted: impl Fn(&ServiceKey) -> bool,
        generation: u64,
        room: u64,
    ) {
        let mut gone = Vec::new();
        {
            let mut live = self.live();
            live.room = room;
            for (key, known) in &mut live.services {
                known.good = good.get(key).cloned();
                if known.good.is_none() && known.generation <= generation && !is_wanted(key) {
                    gone.push(key.clone());
                }
            }
            for key in &gone {
                live.servers -= live.services.remove(key).map_or(0, |known| known.servers);
            }
        }
        gone.iter().for_each(|key| self.responder.forget(key, generation));
    }

    /// What is known of a Service's servers.
    pub(super) fn config(&self, key: &ServiceKey) -> Option<Arc<ServiceConfig>> {
        self.live().services.get(key).map(|known| known.config.clone())
    }

    /// The zone for `upstreams` and all servers that are known.
    pub(super) fn room(&self, now: Option<u64>, upstreams: u64) -> Room {
        Room::new(now, upstreams, self.live().servers)
    }

    /// Waits until NGINX has asked for the names of these parts, which it serves by address meanwhile. Answers how many it has not.
    /// `began`: when an NGINX that knows nothing began; an earlier one may have asked already, and still ask.
    pub(super) async fn warmed<'a>(
        &self,
        parts: impl IntoIterator<Item = (&'a ServiceKey, &'a Arc<Part>)>,
        began: Option<Instant>,
    ) -> usize {
        let names = names(parts);
        let behind = self.responder.applied(&names, UNASKED, WARM).await.1.len();
        match began {
            Some(began) if behind == 0 => self.responder.known_since(&names, began, UNASKED).await,
            _ => behind,
        }
    }

    /// Waits until NGINX has applied what these parts' names have now. Answers the Services whose it has not. `as_before`: it was
    /// neither started nor reloaded, and what it has not asked this LBEX for yet it will ask for within seconds.
    pub(super) async fn applied<'a>(
        self: &Arc<Self>,
        parts: impl IntoIterator<Item = (&'a ServiceKey, &'a Arc<Part>)>,
        as_before: bool,
    ) -> BTreeSet<ServiceKey> {
        let was_asked = |name: &ServerName| self.responder.was_asked(name);
        let (now, later): (Vec<_>, Vec<_>) = names(parts).into_iter().partition(|name| !as_before || was_asked(name));
        let (waited, behind) = self.responder.applied(&now, pause(self.immediate), APPLIED).await;
        let (late, coming): (Vec<_>, Vec<_>) =
            behind.into_iter().partition(|name| waited == Waited::Stuck && was_asked(name));
        self.watch(later.into_iter().chain(coming).collect());
        late.into_iter().map(|name| name.service).collect()
    }

    /// Watches names that are still to come. Those that do not count as late, which the next look tells.
    fn watch(self: &Arc<Self>, names: Vec<ServerName>) {
        if names.is_empty() {
            return;
        }
        let first = {
            let mut live = self.live();
            let first = live.watched.is_empty();
            live.watched.extend(names);
            first
        };
        if !first {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                let names: Vec<ServerName> = this.live().watched.iter().cloned().collect();
                let (_, behind) = this.responder.applied(&names, UNASKED, WATCHED).await;
                let mut live = this.live();
                for name in &names {
                    live.watched.remove(name);
                }
                live.late.extend(behind.into_iter().map(|name| name.service));
                if live.watched.is_empty() {
                    return;
                }
            }
        });
    }

    /// Workers from before then only finish their connections.
    pub(super) fn retire_before(&self, before: Instant) {
        self.responder.retire_before(before);
    }
}

/// The names that NGINX asks for because of these parts.
fn names<'a>(parts: impl IntoIterator<Item = (&'a ServiceKey, &'a Arc<Part>)>) -> Vec<ServerName> {
    let of_part = |(key, part): (&'a ServiceKey, &'a Arc<Part>)| {
        part.groups.iter().map(|group| ServerName { service: key.clone(), group: *group })
    };
    parts.into_iter().flat_map(of_part).collect()
}

#[cfg(test)]
mod tests {
    use lbex_core::desired::{Algorithm, Listener, Upstream};
    use lbex_core::model::Protocol;

    use super::*;
    use crate::render::ServiceFileName;

    fn config(listener: u16, servers: &[&str]) -> ServiceConfig {
        let servers: Vec<SocketAddr> = servers.iter().map(|text| text.parse().expect("an address")).collect();
        let upstream = Upstream { algorithm: Algorithm::RoundRobin, servers: Servers::Addresses(servers.into()) };
        let listener = Listener {
            protocol: Protocol::Tcp,
            port: listener,
            addresses: [IpAddr::from([0, 0, 0, 0])].into(),
            allow: [].into(),
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            upstream,
        };
        let service = ServiceKey::new("default", "web").expect("a name");
        ServiceConfig { service, created: None, listeners: vec![listener] }
    }

    fn part(groups: &Groups) -> Part {
        let name = ServiceFileName::parse("default.web.0123456789ab.conf").expect("a name").1;
        Part { groups: groups.keys().copied().collect(), ..Part::read(name, "") }
    }

    /// What the old group is told when `after` follows `before` and waits.
    fn told(before: &ServiceConfig, after: &ServiceConfig) -> Vec<String> {
        let old = groups(before);
        let told = until_applied(after, &old, &part(&old));
        assert!(
            groups(after).iter().all(|(group, addresses)| told.get(group) == Some(addresses)),
            "the new ones are told"
        );
        told[old.keys().next().expect("a group")].iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_waits_for_its_reload_leaves_nobody_without_servers() {
        let before = config(80, &["10.0.0.1:8080", "10.0.0.2:8080"]);
        let to_another_port = config(80, &["10.0.0.1:8081", "10.0.0.2:8081"]);
        assert_eq!(told(&before, &to_another_port), ["10.0.0.1", "10.0.0.2"]);
        let and_one_is_gone = config(80, &["10.0.0.2:8081"]);
        assert_eq!(told(&before, &and_one_is_gone), ["10.0.0.2"]);
        let all_are_others = config(80, &["10.0.0.9:8081"]);
        assert_eq!(told(&before, &all_are_others), ["10.0.0.1", "10.0.0.2"]);
        let another_listener = config(81, &["10.0.0.2:8080", "10.0.0.3:8080"]);
        assert_eq!(told(&before, &another_listener), ["10.0.0.2", "10.0.0.3"], "those of now");
    }
}

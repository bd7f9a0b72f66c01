//! Which addresses each name has, who asks for them, and what is to be sent to whom: the whole protocol, without sockets and
//! clocks. Time comes in as the time since some beginning, answers go out as a list.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;
use litemap::LiteMap;

use super::asker::{Asker, Current, Heard, NO_SERVER, Reply};
use super::entry::{Entry, MOST_TRIES, is_deaf};
use super::name::{ServerGroup, ServerName};
use super::waiter::Waiter;
use super::wire::Question;

/// Names that are asked for and not known at the most: those of an NGINX that LBEX has just adopted.
const MOST_UNKNOWN: usize = 65_536;

/// Names of one known Service at the most: those that NGINX asks for, and that workers which drain still ask for.
const MOST_GROUPS: usize = 8192;

/// A question that is held for longer is answered, and asked anew. NGINX gives up after `resolver_timeout`.
const REFRESH: Duration = Duration::from_secs(6 * 3600);

/// A question that waits is repeated every five seconds; after this time without one, whoever asked it is gone.
const GONE: Duration = Duration::from_secs(20);

/// The same of those who were told to keep their answer for minutes.
const LONG_GONE: Duration = Duration::from_secs(900);

/// How often askers that are gone are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// How NGINX behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// It asks again as soon as it has an answer (the embedded one), and not a second later.
    pub immediate: bool,
    /// Answers that may be on their way at the same time: NGINX's socket has room for about 270.
    pub burst: usize,
    /// After this time an answer is no longer on its way.
    pub settle: Duration,
    /// An answer after which no question comes in this time is sent again; each further time it takes twice as long.
    pub again: Duration,
}

impl Pace {
    /// That of an NGINX that asks again at once, or not.
    pub fn new(immediate: bool) -> Self {
        let again = Duration::from_millis(if immediate { 250 } else { 2500 });
        Self { immediate, burst: 128, settle: Duration::from_millis(3), again }
    }
}

/// An answer to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// To whom.
    pub to: SocketAddr,
    /// What it answers.
    pub question: Question,
    /// With what; only those of the question's family count.
    pub addresses: Arc<[IpAddr]>,
    /// For how long, in seconds.
    pub ttl: u32,
}

/// What has happened, in numbers that only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Questions, repeated ones included.
    pub questions: u64,
    /// Answers, repeated ones included.
    pub answers: u64,
    /// Answers that were sent again: lost, or not taken.
    pub repeated: u64,
    /// Questions that were dropped: too many unknown names.
    pub dropped: u64,
}

/// How things stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Names that have been asked for.
    pub names: usize,
    /// Those of them that NGINX is known to have applied.
    pub current: usize,
    /// Those that nobody asks for any more although somebody did.
    pub silent: usize,
    /// What has happened.
    pub counts: Counts,
}

#[derive(Debug)]
struct Service {
    /// The desired state that the addresses are of; `None`: only asked for so far.
    generation: Option<u64>,
    /// Nearly always one.
    entries: LiteMap<ServerGroup, Box<Entry>>,
}

impl Default for Service {
    fn default() -> Self {
        Self { generation: None, entries: LiteMap::with_capacity(1) }
    }
}

/// All names.
#[derive(Debug)]
pub struct Table {
    pace: Pace,
    services: HashMap<ServiceKey, Service>,
    version: u64,
    unknown: usize,
    /// When answers were sent that may still be on their way.
    on_the_way: VecDeque<Duration>,
    /// Names whose answers wait for room.
    queue: VecDeque<ServerName>,
    /// When to see whether answers were taken.
    checks: BinaryHeap<Reverse<(Duration, SocketAddr, ServerName)>>,
    /// Who did not take an answer in time.
    doubted: BTreeSet<SocketAddr>,
    next_sweep: Duration,
    counts: Counts,
}

impl Table {
    /// An empty one.
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            services: HashMap::new(),
            version: 0,
            unknown: 0,
            on_the_way: VecDeque::new(),
            queue: VecDeque::new(),
            checks: BinaryHeap::new(),
            doubted: BTreeSet::new(),
            next_sweep: SWEEP,
            counts: Counts::default(),
        }
    }

    /// The addresses of all groups of a Service, as of a generation of the desired state; an earlier one changes nothing. Groups
    /// that are not named have none. `waiter` is told of each group whose addresses NGINX has to take.
    pub fn set(
        &mut self,
        now: Duration,
        service: &ServiceKey,
        generation: u64,
        groups: &BTreeMap<ServerGroup, Vec<IpAddr>>,
        waiter: Option<&Arc<Waiter>>,
        out: &mut Vec<Answer>,
    ) {
        let (immediate, version) = (self.pace.immediate, self.version + 1);
        let entry = self.services.entry(service.clone()).or_default();
        if entry.generation.is_some_and(|known| known > generation) {
            return;
        }
        if entry.generation.replace(generation).is_none() {
            self.unknown -= entry.entries.len();
        }
        self.version = version;
        for group in groups.keys() {
            entry.entries.entry(*group).or_insert_with(|| Box::new(Entry::new(Current::new(&[], version))));
        }
        let mut touched = Vec::new();
        for (group, entry) in entry.entries.iter_mut() {
            let addresses = groups.get(group).map_or(&[][..], Vec::as_slice);
            let changed = entry.current.become_(current(addresses, group.protocol, immediate, version));
            if let Some(waiter) = waiter.filter(|_| entry.asked && !entry.is_current()) {
                entry.wait(waiter);
            }
            if changed || !entry.askers.is_empty() {
                touched.push(*group);
            }
        }
        for group in touched {
            self.answer(now, &ServerName { service: service.clone(), group }, out);
        }
    }

    /// Forgets a Service's names that are not of these groups: NGINX does not ask for them any more.
    pub fn keep_only(&mut self, service: &ServiceKey, groups: &BTreeSet<ServerGroup>) {
        let Some(known) = self.services.get_mut(service).filter(|known| known.generation.is_some()) else { return };
        known.entries.retain(|group, entry| {
            let keep = groups.contains(group);
            if !keep {
                entry.release();
            }
            keep
        });
    }

    /// Forgets a Service: NGINX does not ask for it any more.
    pub fn forget(&mut self, service: &ServiceKey, generation: u64) {
        let Some(known) = self.services.get(service) else { return };
        if known.generation.is_some_and(|known| known > generation) {
            return;
        }
        let Some(gone) = self.services.remove(service) else { return };
        if gone.generation.is_none() {
            self.unknown -= gone.entries.len();
        }
        gone.entries.iter().for_each(|(_, entry)| entry.release());
    }

    /// A question by UDP.
    pub fn ask(&mut self, now: Duration, from: SocketAddr, question: &Question, out: &mut Vec<Answer>) {
        self.counts.questions += 1;
        let Some(entry) = self.entry_asked_for(&question.name) else { return };
        let asker = entry.asker(from, now);
        let was_told = asker.sent.is_some();
        let heard = asker.hear(question.family, question.id, now);
        let alone = asker.alone_until().filter(|_| heard == Heard::NewRound);
        let again = asker.again_for(question.family).filter(|_| heard == Heard::Unanswered);
        if heard == Heard::NewRound {
            entry.tell_waiters();
            if was_told {
                // NGINX reads on: what was sent before was taken in.
                self.on_the_way.drain(..self.on_the_way.len().min(2));
            }
        }
        if let Some(reply) = again {
            self.counts.answers += 1;
            self.counts.repeated += 1;
            out.push(answer(from, &question.name, reply));
        }
        if let Some(until) = alone {
            self.checks.push(Reverse((until, from, question.name.clone())));
        }
        if matches!(heard, Heard::NewRound | Heard::SameRound) {
            self.answer(now, &question.name, out);
            self.drain(now, out);
        }
    }

    /// A question by TCP, after an answer that was too long for a datagram: answered with what that one would have said, or with
    /// what is true now.
    pub fn ask_by_tcp(&mut self, from: SocketAddr, question: &Question) -> Option<Answer> {
        self.counts.questions += 1;
        // One that is not known yet is not one without addresses; NGINX asks again after five seconds.
        let service = self.services.get(&question.name.service).filter(|known| known.generation.is_some())?;
        let entry = service.entries.get(&question.name.group)?;
        // It comes from another port than its datagram, so it is known by its id.
        let said = entry.askers.iter().filter_map(|asker| asker.again_for(question.family));
        let reply = said.into_iter().find(|reply| reply.id == question.id).unwrap_or_else(|| Reply {
            id: question.id,
            family: question.family,
            set: entry.current.set(question.family).clone(),
            ttl: 0,
        });
        self.counts.answers += 1;
        Some(answer(from, &question.name, reply))
    }

    /// Lets time pass. Answers when it wants to be called next, at the latest.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Answer>) -> Duration {
        self.drain(now, out);
        self.check(now, out);
        if self.next_sweep <= now {
            self.next_sweep = now + SWEEP;
            self.sweep(now, out);
        }
        let full = self.on_the_way.front().map(|at| *at + self.pace.settle).filter(|_| !self.has_room(now));
        let settles = full.filter(|_| !self.queue.is_empty());
        let checks = self.checks.peek().map(|Reverse((at, ..))| full.map_or(*at, |full| full.max(*at)));
        [settles, checks].into_iter().flatten().fold(self.next_sweep, Duration::min).max(now)
    }

    /// Resolvers that first asked before `before` belong to workers that only finish their connections: they are told once more,
    /// and then not for minutes.
    pub fn retire(&mut self, now: Duration, before: Duration, out: &mut Vec<Answer>) {
        let mut retired = Vec::new();
        for (service, known) in &mut self.services {
            for (group, entry) in known.entries.iter_mut() {
                let (mut any, newest) = (false, entry.askers.iter().map(|asker| asker.first).max());
                // The last one to come is never retired: without it nothing would reach NGINX.
                for asker in entry.askers.iter_mut().filter(|a| a.first < before && Some(a.first) != newest) {
                    any |= !std::mem::replace(&mut asker.retired, true);
                }
                if any {
                    entry.tell_waiters();
                    retired.push(ServerName { service: service.clone(), group: *group });
                }
            }
        }
        retired.iter().for_each(|name| self.answer(now, name, out));
    }

    /// Who did not take an answer in time since this was last asked: it may be gone.
    pub fn doubted(&mut self) -> BTreeSet<SocketAddr> {
        std::mem::take(&mut self.doubted)
    }

    /// A resolver is gone, and nobody waits for it any more.
    pub fn leave(&mut self, from: SocketAddr) {
        for (_, entry) in self.services.values_mut().flat_map(|known| known.entries.iter_mut()) {
            entry.askers.retain(|asker| asker.from != from);
            entry.tell_waiters();
        }
    }

    /// Whether NGINX has applied what is true of a Service's names that it asks for.
    pub fn is_current(&self, service: &ServiceKey) -> bool {
        let entries = self.services.get(service).into_iter().flat_map(|known| known.entries.values());
        entries.filter(|entry| entry.asked).all(|entry| entry.is_current())
    }

    /// Whether NGINX has asked for a name.
    pub fn was_asked(&self, name: &ServerName) -> bool {
        let entry = self.services.get(&name.service).and_then(|known| known.entries.get(&name.group));
        entry.is_some_and(|entry| entry.asked)
    }

    /// The questions that wait, with who asked them.
    pub fn open_questions(&self) -> Vec<(SocketAddr, Question)> {
        let mut questions = Vec::new();
        for (service, known) in &self.services {
            for (group, entry) in known.entries.iter() {
                let name = ServerName { service: service.clone(), group: *group };
                for asker in entry.askers.iter().filter(|asker| !asker.retired) {
                    let open = asker.open();
                    questions
                        .extend(open.map(|(id, family)| (asker.from, Question { id, name: name.clone(), family })));
                }
            }
        }
        questions
    }

    /// Makes `waiter` wait for what of these Services NGINX has not applied. A name that it has never asked for counts too.
    pub fn await_all<'a>(&mut self, names: impl IntoIterator<Item = &'a ServerName>, waiter: &Arc<Waiter>) {
        for name in names {
            let entry = self.services.get_mut(&name.service).and_then(|known| known.entries.get_mut(&name.group));
            if let Some(entry) = entry.filter(|entry| !entry.is_current()) {
                entry.wait(waiter);
            }
        }
    }

    /// Forgets that anybody waits with this waiter.
    pub fn give_up(&mut self, waiter: &Arc<Waiter>) {
        for (_, entry) in self.services.values_mut().flat_map(|known| known.entries.iter_mut()) {
            entry.waiters.retain(|(other, _)| !Arc::ptr_eq(other, waiter));
        }
    }

    /// Those of `names` that NGINX has not applied.
    pub fn behind<'a>(&self, names: impl IntoIterator<Item = &'a ServerName>) -> Vec<ServerName> {
        let behind = |name: &&ServerName| {
            let entry = self.services.get(&name.service).and_then(|known| known.entries.get(&name.group));
            !entry.is_some_and(|entry| entry.is_current())
        };
        names.into_iter().filter(behind).cloned().collect()
    }

    /// How many of `names` nobody who first asked at `since` or later has applied: an NGINX that began then knows nothing of them,
    /// whatever one before it, which finishes its connections, was told.
    pub fn unknown_since<'a>(&self, names: impl IntoIterator<Item = &'a ServerName>, since: Duration) -> usize {
        let known = |name: &&ServerName| {
            let entry = self.services.get(&name.service).and_then(|known| known.entries.get(&name.group));
            entry.is_some_and(|entry| entry.is_current() && entry.askers.iter().any(|asker| asker.first >= since))
        };
        names.into_iter().filter(|name| !known(name)).count()
    }

    /// How things stand. Looks at every name.
    pub fn standing(&self) -> Standing {
        let mut standing = Standing { counts: self.counts, ..Standing::default() };
        let known = self.services.values().filter(|service| service.generation.is_some());
        for entry in known.flat_map(|known| known.entries.values()).filter(|entry| entry.asked) {
            standing.names += 1;
            standing.current += usize::from(entry.is_current());
            standing.silent += usize::from(entry.askers.iter().all(|asker| asker.retired || is_deaf(asker)));
        }
        standing
    }

    /// The entry of a name that is asked for. A Service that is not known yet may become so: an adopted NGINX asks at once.
    fn entry_asked_for(&mut self, name: &ServerName) -> Option<&mut Entry> {
        if self.unknown >= MOST_UNKNOWN && !self.services.contains_key(&name.service) {
            self.counts.dropped += 1;
            return None;
        }
        let service = self.services.entry(name.service.clone()).or_default();
        if !service.entries.contains_key(&name.group) {
            let unknown = service.generation.is_none();
            if if unknown { self.unknown >= MOST_UNKNOWN } else { service.entries.len() >= MOST_GROUPS } {
                self.counts.dropped += 1;
                return None;
            }
            self.unknown += usize::from(unknown);
            self.version += 1;
            let nothing = current(&[], name.group.protocol, self.pace.immediate, self.version);
            service.entries.insert(name.group, Box::new(Entry::new(nothing)));
        }
        service.entries.get_mut(&name.group).map(Box::as_mut)
    }

    /// Whether NGINX's socket has room for one more answer.
    fn has_room(&mut self, now: Duration) -> bool {
        while self.on_the_way.front().is_some_and(|at| *at + self.pace.settle <= now) {
            self.on_the_way.pop_front();
        }
        self.on_the_way.len() < self.pace.burst
    }

    /// Sends a name's answers that are due, if its Service is known and there is room on the way.
    fn answer(&mut self, now: Duration, name: &ServerName, out: &mut Vec<Answer>) {
        self.has_room(now);
        let Some(service) = self.services.get_mut(&name.service).filter(|known| known.generation.is_some()) else {
            return;
        };
        let Some(entry) = service.entries.get_mut(&name.group) else { return };
        let Entry { current, askers, queued, .. } = entry.as_mut();
        for asker in askers {
            for reply in asker.due(current, now) {
                if self.on_the_way.len() >= self.pace.burst {
                    if !std::mem::replace(queued, true) {
                        self.queue.push_back(name.clone());
                    }
                    return;
                }
                self.on_the_way.push_back(now);
                self.counts.answers += 1;
                if asker.answered(&reply, now) {
                    self.checks.push(Reverse((now + self.pace.again, asker.from, name.clone())));
                }
                out.push(answer(asker.from, name, reply));
            }
        }
    }

    /// Sends what waited for room.
    fn drain(&mut self, now: Duration, out: &mut Vec<Answer>) {
        while self.has_room(now) {
            let Some(name) = self.queue.pop_front() else { return };
            if let Some(entry) = self.services.get_mut(&name.service).and_then(|s| s.entries.get_mut(&name.group)) {
                entry.queued = false;
            }
            self.answer(now, &name, out);
        }
    }

    /// Sends answers again that were not taken.
    fn check(&mut self, now: Duration, out: &mut Vec<Answer>) {
        while self.has_room(now) && self.checks.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, from, name))) = self.checks.pop() else { return };
            let entry = self.services.get_mut(&name.service).and_then(|known| known.entries.get_mut(&name.group));
            let Some(entry) = entry else { continue };
            let Some(asker) = entry.askers.iter_mut().find(|asker| asker.from == from) else { continue };
            if asker.alone_until().is_some_and(|until| until <= now) {
                self.answer(now, &name, out);
                continue;
            }
            let Some((at, tries)) = asker.sent.filter(|_| !asker.retired) else { continue };
            // One that was answered anew meanwhile has a check of its own.
            if tries >= MOST_TRIES || at + self.pace.again * (1 << tries) > now {
                continue;
            }
            asker.sent = Some((now, tries + 1));
            self.doubted.insert(from);
            for reply in asker.again() {
                self.on_the_way.push_back(now);
                self.counts.answers += 1;
                self.counts.repeated += 1;
                out.push(answer(from, &name, reply));
            }
            self.checks.push(Reverse((now + self.pace.again * (1 << (tries + 1)), from, name)));
            // Others may have taken theirs long ago.
            entry.tell_waiters();
        }
    }

    /// Lets go of those who are gone, and ends long waits.
    fn sweep(&mut self, now: Duration, out: &mut Vec<Answer>) {
        let mut long = Vec::new();
        for (service, known) in &mut self.services {
            for (group, entry) in known.entries.iter_mut() {
                entry.askers.retain(|asker| asker.heard + if asker.retired { LONG_GONE } else { GONE } > now);
                entry.tell_waiters();
                let waits = |asker: &Asker| asker.open_since().is_some_and(|since| since + REFRESH <= now);
                for asker in entry.askers.iter_mut().filter(|asker| waits(asker)) {
                    asker.refresh();
                    long.push(ServerName { service: service.clone(), group: *group });
                }
            }
            // Of a port that the Service no longer has: nobody asks, nobody waits, and there is nothing to tell.
            known.entries.retain(|_, entry| known.generation.is_none() || !entry.is_dead());
        }
        let unknown = &mut self.unknown;
        self.services.retain(|_, known| {
            let keep = known.generation.is_some() || known.entries.values().any(|entry| !entry.askers.is_empty());
            *unknown -= if keep { 0 } else { known.entries.len() };
            keep
        });
        // After thousands of names at once their room is given back.
        self.checks.shrink_to(2 * self.checks.len());
        self.queue.shrink_to(2 * self.queue.len());
        long.iter().for_each(|name| self.answer(now, name, out));
    }
}

fn current(addresses: &[IpAddr], protocol: Protocol, immediate: bool, version: u64) -> Current {
    if addresses.is_empty() && !immediate && protocol == Protocol::Tcp {
        // An NGINX that is told of no address asks again after 11 seconds. A connection to this one fails at once, as one to no
        // server would, and the next question comes after a second.
        return Current::new(&[NO_SERVER], version);
    }
    Current::new(addresses, version)
}

fn answer(to: SocketAddr, name: &ServerName, reply: Reply) -> Answer {
    let Reply { id, family, set, ttl } = reply;
    Answer { to, question: Question { id, name: name.clone(), family }, addresses: set.addresses, ttl }
}

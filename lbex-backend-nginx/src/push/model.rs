//! The table against a model of NGINX's resolver: questions and answers are lost, repeated and late, NGINX reloads and dies, and in
//! the end it knows what is true.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;
use proptest::prelude::*;

use super::table::{Answer, Pace, Table};
use super::wire::{Family, Question};
use super::{ServerGroup, ServerName};

const NAMES: usize = 4;

fn name(index: usize) -> ServerName {
    let service = ServiceKey::new("default", &format!("s{}", index / 2)).expect("a name");
    let group =
        ServerGroup { protocol: Protocol::Udp, listener: 53, port: 1000 + u16::try_from(index % 2).expect("small") };
    ServerName { service, group }
}

/// One name as one NGINX worker sees it.
#[derive(Debug, Clone, Default)]
struct Lookup {
    /// Ids of the questions of this round, and what was answered.
    round: [Option<(u16, Option<Vec<IpAddr>>)>; 2],
    asked_at: Duration,
    next: Option<Duration>,
    applied: Option<BTreeSet<IpAddr>>,
}

/// A worker that resolves.
#[derive(Debug)]
struct Worker {
    from: SocketAddr,
    lookups: Vec<Lookup>,
    id: u16,
    rounds: u32,
}

/// NGINX draws ids: one round in so many has those of the round before.
const SAME_IDS: u32 = 97;

impl Worker {
    fn new(port: u16, inherited: Option<&Worker>) -> Self {
        let mut lookups = vec![Lookup { next: Some(Duration::ZERO), ..Lookup::default() }; NAMES];
        if let Some(old) = inherited {
            for (new, old) in lookups.iter_mut().zip(&old.lookups) {
                new.applied.clone_from(&old.applied);
            }
        }
        Self { from: SocketAddr::from(([127, 0, 0, 1], port)), lookups, id: port.wrapping_mul(31), rounds: 0 }
    }

    /// Questions that are due: a new round, or a repetition after five seconds.
    fn questions(&mut self, now: Duration) -> Vec<Question> {
        let mut questions = Vec::new();
        for (index, lookup) in self.lookups.iter_mut().enumerate() {
            let begins = lookup.next.is_some_and(|at| at <= now);
            if begins {
                lookup.next = None;
                self.rounds += 1;
                let same = self.rounds.is_multiple_of(SAME_IDS);
                lookup.round = [0, 1].map(|family: usize| {
                    self.id = self.id.wrapping_add(7);
                    let before = lookup.round[family].as_ref().filter(|_| same).map(|(id, _)| *id);
                    Some((before.unwrap_or(self.id), None))
                });
            }
            if begins || (lookup.next.is_none() && lookup.asked_at + Duration::from_secs(5) <= now) {
                lookup.asked_at = now;
                for family in Family::BOTH {
                    if let Some((id, None)) = &lookup.round[family.index()] {
                        questions.push(Question { id: *id, name: name(index), family });
                    }
                }
            }
        }
        questions
    }

    fn hear(&mut self, now: Duration, pause: Duration, answer: &Answer) {
        let index = (0..NAMES).find(|index| name(*index) == answer.question.name).expect("a name that was asked for");
        let lookup = &mut self.lookups[index];
        match &mut lookup.round[answer.question.family.index()] {
            Some((id, told @ None)) if *id == answer.question.id => *told = Some(answer.addresses.to_vec()),
            _ => return,
        }
        if let [Some((_, Some(v4))), Some((_, Some(v6)))] = &lookup.round {
            let v4 = v4.iter().filter(|ip| ip.is_ipv4());
            lookup.applied = Some(v4.chain(v6.iter().filter(|ip| ip.is_ipv6())).copied().collect());
            lookup.next = Some(now + pause + Duration::from_secs(answer.ttl.into()));
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Set(usize, Vec<u8>),
    Pass(u16),
    Reload,
    WorkerDies,
    Restart,
    Lose(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..NAMES, proptest::collection::vec(0..8_u8, 0..5)).prop_map(|(index, addresses)| Step::Set(index, addresses)),
        5 => (1..3000_u16).prop_map(Step::Pass),
        1 => Just(Step::Reload),
        1 => Just(Step::WorkerDies),
        1 => Just(Step::Restart),
        2 => (0..90_u8).prop_map(Step::Lose),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Even ones are IPv4, odd ones IPv6.
fn address(number: u8) -> IpAddr {
    if number.is_multiple_of(2) {
        IpAddr::from([10, 0, 0, number])
    } else {
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)])
    }
}

struct World {
    table: Table,
    pace: Pace,
    now: Duration,
    generation: u64,
    wanted: Vec<BTreeSet<IpAddr>>,
    workers: Vec<Worker>,
    ports: u16,
    /// Percent of messages that are lost.
    lost: u8,
    dice: u32,
    to_nginx: VecDeque<Answer>,
}

impl World {
    fn new(immediate: bool) -> Self {
        let pace = Pace { burst: 3, ..Pace::new(immediate) };
        let workers = vec![Worker::new(1000, None)];
        let wanted = vec![BTreeSet::new(); NAMES];
        let mut world = Self {
            table: Table::new(pace),
            pace,
            now: Duration::ZERO,
            generation: 0,
            wanted,
            workers,
            ports: 1000,
            lost: 0,
            dice: 1,
            to_nginx: VecDeque::new(),
        };
        (0..NAMES).for_each(|index| world.tell(index));
        world
    }

    fn roll(&mut self) -> bool {
        self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.dice >> 16) % 100 < u32::from(self.lost)
    }

    /// Tells the table of the Service that a name belongs to.
    fn tell(&mut self, index: usize) {
        let service = name(index).service;
        self.generation += 1;
        let of_service = (0..NAMES).filter(|index| name(*index).service == service);
        let groups: BTreeMap<ServerGroup, Vec<IpAddr>> =
            of_service.map(|index| (name(index).group, self.wanted[index].iter().copied().collect())).collect();
        let mut out = Vec::new();
        self.table.set(self.now, &service, self.generation, &groups, None, &mut out);
        self.to_nginx.extend(out);
    }

    /// Lets a millisecond pass.
    fn tick(&mut self) {
        self.now += Duration::from_millis(1);
        let mut out = Vec::new();
        self.table.tick(self.now, &mut out);
        self.to_nginx.extend(out);
        let pause = Duration::from_millis(if self.pace.immediate { 1 } else { 1000 });
        while let Some(answer) = self.to_nginx.pop_front() {
            let lost = self.roll();
            if let Some(worker) = self.workers.iter_mut().find(|worker| worker.from == answer.to && !lost) {
                worker.hear(self.now, pause, &answer);
            }
        }
        for index in 0..self.workers.len() {
            for question in self.workers[index].questions(self.now) {
                let mut out = Vec::new();
                if !self.roll() {
                    self.table.ask(self.now, self.workers[index].from, &question, &mut out);
                }
                self.to_nginx.extend(out);
            }
        }
    }

    fn pass(&mut self, millis: u32) {
        (0..millis).for_each(|_| self.tick());
    }

    fn act(&mut self, step: &Step) {
        match step {
            Step::Set(index, addresses) => {
                self.wanted[*index] = addresses.iter().copied().map(address).collect();
                self.tell(*index);
            }
            Step::Pass(millis) => self.pass((*millis).into()),
            Step::Reload | Step::WorkerDies => {
                self.ports += 1;
                let new = Worker::new(self.ports, self.workers.last());
                if matches!(step, Step::WorkerDies) {
                    self.workers.pop();
                }
                self.workers.push(new);
                let keep = self.workers.len().saturating_sub(3);
                self.workers.drain(..keep);
            }
            Step::Restart => {
                // LBEX forgets all, and learns from what it is asked.
                self.table = Table::new(self.pace);
                self.now += Duration::from_millis(100);
                (0..NAMES).for_each(|index| self.tell(index));
            }
            Step::Lose(percent) => self.lost = *percent,
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for worker in &self.workers {
            for (index, lookup) in worker.lookups.iter().enumerate() {
                prop_assert_eq!(
                    lookup.applied.as_ref(),
                    Some(&self.wanted[index]),
                    "worker {}, name {}",
                    worker.from,
                    index
                );
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nginx_knows_in_the_end_what_is_true(steps in steps(), immediate in any::<bool>()) {
        let mut world = World::new(immediate);
        for step in &steps {
            world.act(step);
        }
        world.lost = 0;
        world.pass(31_000);
        world.check()?;
        prop_assert!((0..NAMES).all(|index| world.table.is_current(&name(index).service)), "{:?}", world.table.standing());
        // And then it is quiet: each held question is repeated every five seconds, and nothing is answered.
        let before = world.table.standing().counts;
        world.pass(10_000);
        let after = world.table.standing().counts;
        prop_assert_eq!(after.repeated, before.repeated);
        let questions = after.questions - before.questions;
        prop_assert!(questions <= (2 * NAMES * world.workers.len() * 3) as u64, "{questions} questions in ten seconds");
    }

    #[test]
    fn a_push_arrives_within_milliseconds(addresses in proptest::collection::vec(proptest::collection::vec(0..8_u8, 0..5), 1..30)) {
        let mut world = World::new(true);
        world.pass(100);
        for set in addresses {
            world.act(&Step::Set(0, set));
            world.pass(6);
            world.check()?;
        }
    }
}

#[test]
fn a_change_of_family_leaves_no_moment_without_addresses() {
    let mut world = World::new(true);
    world.act(&Step::Set(0, vec![0, 2]));
    world.pass(100);
    world.act(&Step::Set(0, vec![1, 3]));
    for _ in 0..20 {
        world.tick();
        let applied = world.workers[0].lookups[0].applied.as_ref().expect("applied");
        assert!(!applied.is_empty(), "at {:?}", world.now);
    }
    world.check().expect("the new ones");
}

#[test]
fn workers_that_drain_are_told_and_then_left_alone() {
    let mut world = World::new(true);
    world.act(&Step::Set(0, vec![0]));
    world.pass(100);
    let reload = world.now;
    world.act(&Step::Reload);
    world.pass(100);
    let mut out = Vec::new();
    world.table.retire(world.now, reload + Duration::from_millis(1), &mut out);
    world.to_nginx.extend(out);
    world.pass(10);
    world.check().expect("both know");
    world.act(&Step::Set(0, vec![2]));
    world.pass(10);
    let knows = |worker: &Worker| worker.lookups[0].applied.clone().expect("applied");
    assert_eq!(knows(&world.workers[1]), BTreeSet::from([address(2)]));
    assert_eq!(knows(&world.workers[0]), BTreeSet::from([address(0)]), "its connections are established");
    assert!(world.table.is_current(&name(0).service), "nobody waits for it");
}

#[test]
fn a_day_passes_without_an_answer_that_gets_old() {
    let mut world = World::new(true);
    // The clock passes 2^32 ms at noon.
    world.now = Duration::from_millis(u64::from(u32::MAX)).saturating_sub(Duration::from_secs(12 * 3600));
    world.table = Table::new(world.pace);
    (0..NAMES).for_each(|index| world.tell(index));
    world.act(&Step::Set(0, vec![0]));
    world.pass(100);
    let begin = world.now;
    let mut longest = Duration::ZERO;
    let (mut id, mut asked, mut ids) = (0, world.now, (0_u16, 0));
    for step in 0..24 * 60 * 12_u32 {
        // Five seconds at a time; NGINX repeats its questions. One Service is quiet, the other one changes each time.
        world.now += Duration::from_millis(4980);
        world.act(&Step::Set(2, vec![u8::try_from(step % 7).expect("small"), 7]));
        world.pass(20);
        let applied = world.workers[0].lookups[2].applied.as_ref();
        assert_eq!(applied, Some(&world.wanted[2]), "after {:?}", world.now.saturating_sub(begin));
        let now = world.workers[0].lookups[0].round[0].as_ref().expect("a question").0;
        if std::mem::replace(&mut id, now) != now {
            asked = world.now;
        }
        longest = longest.max(world.now.saturating_sub(asked));
        let last = std::mem::replace(&mut ids.0, world.workers[0].id);
        ids.1 += u32::from(world.workers[0].id < last);
    }
    assert_eq!(world.now.saturating_sub(begin).as_secs(), 24 * 3600);
    assert!(world.now.as_millis() > u32::MAX.into() && begin.as_millis() < u32::MAX.into());
    assert!(ids.1 >= 3, "ids began anew {} times", ids.1);
    world.check().expect("what is true");
    assert!(longest > Duration::from_secs(5 * 3600) && longest < Duration::from_secs(7 * 3600), "held for {longest:?}");
    let standing = world.table.standing();
    assert!(standing.counts.answers > 8, "held questions were answered and asked anew: {standing:?}");
    assert_eq!((standing.names, standing.current, standing.silent), (NAMES, NAMES, 0));
}

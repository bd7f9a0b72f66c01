//! The push responder's table under any sequence of questions and changes: it never panics, answers only what was asked, with what
//! is true or what it had said before to the same resolver, and in the end with what is true.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lbex_backend_nginx::push::wire::{Family, Question};
use lbex_backend_nginx::push::{Answer, Pace, ServerGroup, ServerName, Table, Waiter};
use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;

use super::Bytes;

/// Who asks for what.
type Asker = (SocketAddr, ServerName, Family);

fn service(byte: u8) -> ServiceKey {
    ServiceKey::new("default", ["a", "b", "c"][usize::from(byte % 3)]).expect("a name")
}

fn group(byte: u8) -> ServerGroup {
    let protocol = if byte & 4 == 0 { Protocol::Tcp } else { Protocol::Udp };
    ServerGroup { protocol, listener: 80 + u16::from(byte >> 7), port: 8080 }
}

/// None, or some of both families; sorted.
fn addresses(byte: u8) -> Vec<IpAddr> {
    let v4 = (0..byte % 4).map(|n| IpAddr::from([10, 0, byte, n]));
    let v6 = (0..byte / 4 % 3).map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, u16::from(byte), u16::from(n)]));
    v4.chain(v6).collect()
}

/// The table, and what has to be true of it.
struct Fuzzed {
    table: Table,
    immediate: bool,
    now: Duration,
    /// What was set, and as of which generation.
    known: BTreeMap<ServiceKey, (u64, BTreeMap<ServerGroup, Vec<IpAddr>>)>,
    asked: BTreeMap<Asker, BTreeSet<u16>>,
    told: BTreeMap<Asker, Vec<Vec<IpAddr>>>,
    retired: bool,
}

impl Fuzzed {
    fn new(immediate: bool) -> Self {
        Self {
            table: Table::new(Pace::new(immediate)),
            immediate,
            now: Duration::ZERO,
            known: BTreeMap::new(),
            asked: BTreeMap::new(),
            told: BTreeMap::new(),
            retired: false,
        }
    }

    /// What is true of a name; `None`: its Service is not known. A known Service has no server in a group that was not set.
    fn truth(&self, name: &ServerName, family: Family) -> Option<Vec<IpAddr>> {
        let (_, groups) = self.known.get(&name.service)?;
        let all = groups.get(&name.group).map_or(&[][..], Vec::as_slice);
        if all.is_empty() && !self.immediate && name.group.protocol == Protocol::Tcp && family == Family::V4 {
            return Some(vec![Ipv4Addr::BROADCAST.into()]);
        }
        Some(all.iter().copied().filter(|address| family.has(*address)).collect())
    }

    fn ask(&mut self, from: SocketAddr, question: &Question) {
        let mut out = Vec::new();
        let asker = (from, question.name.clone(), question.family);
        self.asked.entry(asker).or_default().insert(question.id);
        self.table.ask(self.now, from, question, &mut out);
        self.check(&out);
    }

    fn ask_by_tcp(&mut self, from: SocketAddr, question: &Question) {
        let Some(answer) = self.table.ask_by_tcp(from, question) else { return };
        assert_eq!((answer.to, &answer.question), (from, question));
        let told = answer.addresses.to_vec();
        // It comes from another port than its datagram, so any resolver of that name may have been told it.
        let mut before =
            self.told.iter().filter(|((_, name, family), _)| (name, *family) == (&question.name, question.family));
        assert!(
            Some(&told) == self.truth(&question.name, question.family).as_ref()
                || before.any(|(_, all)| all.contains(&told)),
            "{question:?} by TCP is answered with {told:?}"
        );
    }

    fn set(&mut self, key: &ServiceKey, generation: u64, groups: BTreeMap<ServerGroup, Vec<IpAddr>>, waited: bool) {
        let mut out = Vec::new();
        let waiter = waited.then(|| Arc::new(Waiter::default()));
        self.table.set(self.now, key, generation, &groups, waiter.as_ref(), &mut out);
        let names: Vec<_> = groups.keys().map(|group| ServerName { service: key.clone(), group: *group }).collect();
        if self.known.get(key).is_none_or(|(known, _)| *known <= generation) {
            self.known.insert(key.clone(), (generation, groups));
        }
        self.check(&out);
        if let Some(waiter) = waiter {
            self.table.await_all(&names, &waiter);
            self.table.give_up(&waiter);
        }
    }

    fn forget(&mut self, key: &ServiceKey, generation: u64) {
        self.table.forget(key, generation);
        if self.known.get(key).is_none_or(|(known, _)| *known <= generation) {
            self.known.remove(key);
            self.told.retain(|(_, name, _), _| name.service != *key);
        }
    }

    /// Lets time pass, with a look whenever the table wants one.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let mut out = Vec::new();
            let next = self.table.tick(self.now, &mut out);
            assert!(next >= self.now);
            self.check(&out);
            // At once means that something is due for which there is no room yet.
            self.now = next.max(self.now + Duration::from_millis(1)).min(end);
            if self.now == end {
                return;
            }
        }
    }

    fn check(&mut self, out: &[Answer]) {
        assert!(out.len() <= 4096, "{} answers at once", out.len());
        for Answer { to, question: Question { id, name, family }, addresses, ttl } in out {
            let asker = (*to, name.clone(), *family);
            assert!(
                self.asked.get(&asker).is_some_and(|ids| ids.contains(id)),
                "an answer to what nobody asked: {name}"
            );
            let truth =
                self.truth(name, *family).unwrap_or_else(|| panic!("an answer about what is not known: {name}"));
            let told = addresses.to_vec();
            let before = self.told.entry(asker).or_default();
            assert!(
                told == truth || before.contains(&told),
                "{to} is told {told:?} of {name}, where {truth:?} is true"
            );
            before.retain(|earlier| *earlier != told);
            before.push(told);
            assert!(*ttl == 0 || (*ttl == 300 && self.retired), "an answer for {ttl} s");
        }
        let standing = self.table.standing();
        assert!(standing.current <= standing.names && standing.silent <= standing.names, "{standing:?}");
    }

    /// Whoever asks as NGINX does knows what is true after some rounds.
    fn end(mut self) {
        let askers: BTreeSet<_> = self.asked.keys().map(|(from, name, _)| (*from, name.clone())).collect();
        // No more at once than the table knows of one name.
        for some in askers.into_iter().collect::<Vec<_>>().chunks(8) {
            for round in 0..3 {
                for (from, name) in some {
                    for family in Family::BOTH {
                        let id = 1000 + 2 * round + u16::from(family == Family::V6);
                        self.ask(*from, &Question { id, name: name.clone(), family });
                    }
                }
                self.pass(Duration::from_secs(1));
            }
            for (from, name) in some {
                for family in Family::BOTH {
                    let last = self.told.get(&(*from, name.clone(), family)).and_then(|told| told.last());
                    assert_eq!(last, self.truth(name, family).as_ref(), "what {from} knows of {name} in the end");
                }
            }
        }
        self.table.open_questions().into_iter().for_each(drop);
    }
}

/// The first byte says how NGINX is; then two for each step: what happens, and to whom.
pub fn push_table(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let Some(first) = bytes.next() else { return };
    let mut fuzzed = Fuzzed::new(first % 2 == 0);
    let mut generation = 1;
    while let (Some(what), Some(who)) = (bytes.next(), bytes.next()) {
        let key = service(who);
        let name = ServerName { service: key.clone(), group: group(who) };
        let family = if what & 8 == 0 { Family::V4 } else { Family::V6 };
        let question = Question { id: u16::from(what >> 4), name, family };
        let from = SocketAddr::from(([127, 0, 0, 1], 1000 + u16::from(who >> 4)));
        match what % 8 {
            0..=2 => fuzzed.ask(from, &question),
            3 => fuzzed.ask_by_tcp(from, &question),
            4 => {
                generation += u64::from(who & 1);
                // Some come late, after a newer one.
                let of = generation - u64::from(who & 0x30 == 0x30);
                let mut groups = BTreeMap::from([(group(who), addresses(what))]);
                if who & 0x40 != 0 {
                    groups.insert(group(who ^ 0x80), addresses(what.rotate_left(3)));
                }
                fuzzed.set(&key, of, groups, who & 8 != 0);
            }
            5 if who > 200 => fuzzed.forget(&key, generation),
            6 if who > 200 => {
                let before = fuzzed.now.saturating_sub(Duration::from_secs(u64::from(what)));
                let mut out = Vec::new();
                fuzzed.retired = true;
                fuzzed.table.retire(fuzzed.now, before, &mut out);
                fuzzed.check(&out);
            }
            _ => fuzzed.pass(Duration::from_millis(u64::from(who) * u64::from(what))),
        }
    }
    fuzzed.end();
}

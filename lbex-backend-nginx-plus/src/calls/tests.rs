//! Any observed, any desired, any failures: what is wanted is reached, with the fewest calls, and traffic has somewhere to go.

use proptest::prelude::*;

use super::*;
use crate::api::{FAIL_TIMEOUT, MAX_FAILS};

/// An upstream as NGINX keeps it.
#[derive(Debug, Clone)]
struct Group {
    servers: Vec<Server>,
    next_id: u64,
    /// Calls that had an effect.
    calls: usize,
    /// It once had a server that takes connections, and since then never none.
    always_served: bool,
}

impl Group {
    fn new(servers: Vec<Server>) -> Self {
        let next_id = servers.iter().map(|server| server.id + 1).max().unwrap_or(0);
        let always_served = servers.iter().any(|server| !server.down);
        Self { servers, next_id, calls: 0, always_served }
    }

    fn make(&mut self, call: &Call) {
        self.calls += 1;
        let by_id = |servers: &[Server], id: u64| servers.iter().position(|server| server.id == id).expect("known");
        match call {
            Call::Add(address) => {
                self.servers.push(server(self.next_id, &address.to_string()));
                self.next_id += 1;
            }
            Call::Mend { id, patch } => {
                let at = by_id(&self.servers, *id);
                patch.apply(&mut self.servers[at]);
            }
            Call::Drain(id) => {
                let at = by_id(&self.servers, *id);
                assert!(!self.servers[at].down, "it is drained once");
                Patch::down().apply(&mut self.servers[at]);
            }
            Call::Remove(id) => {
                let at = by_id(&self.servers, *id);
                self.servers.remove(at);
            }
        }
        self.always_served &= self.servers.iter().any(|server| !server.down);
    }

    fn is_as(&self, desired: &BTreeSet<SocketAddr>) -> bool {
        let own = || self.servers.iter().filter(|server| server.parent.is_none());
        own().all(|server| Patch::to_right(server).is_empty())
            && own().count() == desired.len()
            && own().all(|server| server.address().is_some_and(|address| desired.contains(&address)))
    }
}

fn server(id: u64, address: &str) -> Server {
    Server {
        id,
        server: address.to_owned(),
        weight: 1,
        max_conns: 0,
        max_fails: MAX_FAILS,
        fail_timeout: FAIL_TIMEOUT.to_owned(),
        slow_start: "0s".to_owned(),
        backup: false,
        down: false,
        service: None,
        parent: None,
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Made,
    /// It has its effect, and its answer is lost.
    AnswerLost,
    Refused,
    /// Nothing more comes of this attempt.
    ConnectionLost,
}

/// One attempt, as an instance makes it: additions, then what may go of what is there then.
fn attempt(group: &mut Group, desired: &BTreeSet<SocketAddr>, going: Going<'_>, fate: &mut impl FnMut() -> Fate) {
    for round in 0..2 {
        let observed = group.servers.clone();
        let calls = if round == 0 { additions(&observed, desired) } else { removals(&observed, desired, going) };
        for call in &calls {
            match fate() {
                Fate::Made => group.make(call),
                Fate::AnswerLost => {
                    group.make(call);
                    return;
                }
                Fate::Refused => {}
                Fate::ConnectionLost => return,
            }
        }
    }
}

/// The fewest calls there can be, counted without the code under test.
fn fewest(observed: &[Server], desired: &BTreeSet<SocketAddr>, drained: bool) -> usize {
    let own: Vec<&Server> = observed.iter().filter(|server| server.parent.is_none()).collect();
    let mut calls = 0;
    let mut kept = BTreeSet::new();
    for address in desired {
        let candidates: Vec<&&Server> = own.iter().filter(|server| server.address() == Some(*address)).collect();
        // Where none is right, one that takes connections is mended rather than one that is down.
        let right = candidates.iter().find(|server| Patch::to_right(server).is_empty());
        let wrong = || candidates.iter().find(|server| !server.down).or(candidates.first());
        if right.is_none() {
            calls += 1;
        }
        kept.extend(right.or_else(wrong).map(|server| server.id));
    }
    let going = own.iter().filter(|server| !kept.contains(&server.id));
    calls + going.map(|server| 1 + usize::from(drained && !server.down)).sum::<usize>()
}

fn any_address() -> impl Strategy<Value = String> {
    // Few, so that they meet.
    prop_oneof![
        8 => (1u8..8).prop_map(|n| format!("10.0.0.{n}:80")),
        2 => (1u8..4).prop_map(|n| format!("[fd00::{n}]:80")),
        1 => Just("db.example.com:80".to_owned()),
        1 => Just("unix:/run/x".to_owned()),
    ]
}

prop_compose! {
    fn any_server()(
        address in any_address(),
        right in any::<bool>(),
        (weight, max_conns, max_fails) in (1u32..3, 0u32..2, 0u32..3),
        fail_timeout in prop_oneof![Just("2s"), Just("2000ms"), Just("10s"), Just("odd")],
        (backup, down) in (prop::bool::weighted(0.2), prop::bool::weighted(0.3)),
        parent in prop::option::weighted(0.1, Just(1000u64)),
    ) -> Server {
        let good = server(0, &address);
        if right {
            return good;
        }
        Server { weight, max_conns, max_fails, fail_timeout: fail_timeout.to_owned(), backup, down, parent, ..good }
    }
}

fn any_observed() -> impl Strategy<Value = Vec<Server>> {
    prop::collection::vec(any_server(), 0..10).prop_map(|mut servers| {
        (0..).zip(&mut servers).for_each(|(id, server)| server.id = id);
        servers
    })
}

fn any_desired() -> impl Strategy<Value = BTreeSet<SocketAddr>> {
    let address = any_address().prop_filter_map("an address", |text| text.parse().ok());
    prop::collection::btree_set(address, 0..8)
}

fn any_fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![Just(Fate::Made), Just(Fate::AnswerLost), Just(Fate::Refused), Just(Fate::ConnectionLost)];
    prop::collection::vec(fate, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_fails_it_comes_to_what_is_wanted_with_the_fewest_calls(
        observed in any_observed(), desired in any_desired(), fates in any_fates(), drained in any::<bool>()
    ) {
        let mut group = Group::new(observed.clone());
        let served_before = group.always_served || observed.is_empty();
        let mut fates = fates.into_iter();
        // Servers whose drain is over: all that are down and to go, after each attempt.
        let mut over = BTreeSet::new();
        for attempts in 0.. {
            prop_assert!(attempts < 60, "it never ends: {:?}", group.servers);
            let going = if drained { Going::Drained { over: &over } } else { Going::Removed };
            attempt(&mut group, &desired, going, &mut || fates.next().unwrap_or(Fate::Made));
            over = surplus(&group.servers, &desired).filter(|server| server.down).map(|server| server.id).collect();
            if group.is_as(&desired) {
                break;
            }
        }
        prop_assert_eq!(group.calls, fewest(&observed, &desired, drained));
        if !desired.is_empty() && served_before && !observed.is_empty() {
            prop_assert!(group.always_served, "for a moment there was no server");
        }
        prop_assert_eq!(additions(&group.servers, &desired), vec![]);
        prop_assert_eq!(removals(&group.servers, &desired, Going::Removed), vec![]);
    }

    /// What is added is added before anything goes, and a server is in one call at the most.
    #[test]
    fn each_server_is_in_one_call(observed in any_observed(), desired in any_desired()) {
        let mut touched = BTreeSet::new();
        let going = Going::Drained { over: &BTreeSet::new() };
        for call in additions(&observed, &desired).into_iter().chain(removals(&observed, &desired, going)) {
            let id = match call {
                Call::Add(_) => continue,
                Call::Mend { id, .. } | Call::Drain(id) | Call::Remove(id) => id,
            };
            prop_assert!(touched.insert(id));
        }
    }
}

fn addresses(texts: &[&str]) -> BTreeSet<SocketAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

#[test]
fn an_endpoint_is_replaced_by_adding_the_new_one_first() {
    let observed = [server(0, "10.0.0.1:80")];
    let desired = addresses(&["10.0.0.2:80"]);
    assert_eq!(additions(&observed, &desired), [Call::Add("10.0.0.2:80".parse().expect("an address"))]);
    assert_eq!(removals(&observed, &desired, Going::Removed), [], "not while nothing else is there");
    let both = [server(0, "10.0.0.1:80"), server(1, "10.0.0.2:80")];
    assert_eq!(removals(&both, &desired, Going::Removed), [Call::Remove(0)]);
    assert_eq!(removals(&both, &addresses(&[]), Going::Removed), [Call::Remove(0), Call::Remove(1)]);
}

#[test]
fn a_server_that_comes_back_while_it_drains_is_mended_and_not_added() {
    let draining = Server { down: true, ..server(0, "10.0.0.1:80") };
    let desired = addresses(&["10.0.0.1:80"]);
    let patch = Patch { down: Some(false), ..Patch::default() };
    assert_eq!(additions(&[draining], &desired), [Call::Mend { id: 0, patch }]);
}

#[test]
fn a_backup_is_replaced_since_it_cannot_be_changed() {
    let backup = Server { backup: true, ..server(0, "10.0.0.1:80") };
    let desired = addresses(&["10.0.0.1:80"]);
    assert_eq!(
        additions(std::slice::from_ref(&backup), &desired),
        [Call::Add("10.0.0.1:80".parse().expect("an address"))]
    );
    assert_eq!(removals(&[backup, server(1, "10.0.0.1:80")], &desired, Going::Removed), [Call::Remove(0)]);
}

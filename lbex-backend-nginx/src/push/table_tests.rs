//! What the table forgets, what it does not take, and who is waited for.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;

use super::table::{Answer, Pace, Table};
use super::wire::{Family, Question};
use super::{ServerGroup, ServerName, Waiter};

fn service() -> ServiceKey {
    ServiceKey::new("default", "web").expect("a name")
}

fn group(port: u16) -> ServerGroup {
    ServerGroup { protocol: Protocol::Tcp, listener: 80, port }
}

/// A table, and an NGINX that asks it for some names, each with questions of its own ids.
struct World {
    table: Table,
    now: Duration,
    generation: u64,
    id: u16,
}

impl World {
    fn new(immediate: bool) -> Self {
        Self { table: Table::new(Pace::new(immediate)), now: Duration::ZERO, generation: 0, id: 0 }
    }

    /// The Service has these addresses on one port, and on no other.
    fn set(&mut self, port: u16, addresses: &[IpAddr]) -> (Arc<Waiter>, Vec<Answer>) {
        self.generation += 1;
        let (waiter, mut out) = (Arc::new(Waiter::default()), Vec::new());
        let groups = BTreeMap::from([(group(port), addresses.to_vec())]);
        self.table.set(self.now, &service(), self.generation, &groups, Some(&waiter), &mut out);
        (waiter, out)
    }

    /// NGINX asks for both families with new ids, from one socket.
    fn ask(&mut self, from: u16, port: u16) -> Vec<Answer> {
        let mut out = Vec::new();
        for family in Family::BOTH {
            self.id += 1;
            let name = ServerName { service: service(), group: group(port) };
            let from = SocketAddr::from(([127, 0, 0, 1], from));
            self.table.ask(self.now, from, &Question { id: self.id, name, family }, &mut out);
        }
        out
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.table.tick(self.now, &mut Vec::new());
        }
    }
}

#[test]
fn a_port_that_a_service_no_longer_has_is_not_waited_for() {
    for immediate in [true, false] {
        let mut world = World::new(immediate);
        world.set(8080, &[[10, 0, 0, 1].into()]);
        assert_eq!(world.ask(1000, 8080).len(), 2);
        world.ask(1000, 8080);
        // The port changes; the workers that know the old name take its end and are gone, others ask for the new one.
        world.set(9090, &[[10, 0, 0, 1].into()]);
        world.ask(1000, 8080);
        world.ask(1001, 9090);
        world.ask(1001, 9090);
        for _ in 0..12 {
            world.pass(5);
            world.ask(1001, 9090);
        }
        let (waiter, out) = world.set(9090, &[[10, 0, 0, 2].into()]);
        assert!(!out.is_empty());
        world.ask(1001, 9090);
        assert_eq!(waiter.left(), 0, "the port that is gone is waited for");
        assert!(world.table.is_current(&service()));
        let standing = world.table.standing();
        assert_eq!((standing.names, standing.current, standing.silent), (1, 1, 0), "immediate: {immediate}");
    }
}

#[test]
fn a_port_without_addresses_is_known_as_long_as_it_is_asked_for() {
    let mut world = World::new(true);
    world.set(8080, &[]);
    for _ in 0..20 {
        world.ask(1000, 8080);
        world.pass(5);
    }
    assert_eq!(world.table.standing().names, 1);
    let (waiter, out) = world.set(8080, &[[10, 0, 0, 1].into()]);
    assert_eq!((waiter.left(), out.is_empty()), (1, false));
}

#[test]
fn an_nginx_that_is_silent_is_waited_for() {
    let mut world = World::new(true);
    world.set(8080, &[[10, 0, 0, 1].into()]);
    world.ask(1000, 8080);
    world.ask(1000, 8080);
    world.pass(60);
    let (waiter, _) = world.set(8080, &[]);
    assert_eq!(waiter.left(), 1, "it has not said that it took the removal");
    assert!(!world.table.is_current(&service()));
    assert_eq!(world.table.standing().silent, 1);
}

#[test]
fn names_that_are_not_known_have_a_bound_within_one_service_too() {
    let mut world = World::new(true);
    let mut out = Vec::new();
    let from = SocketAddr::from(([127, 0, 0, 1], 1000));
    for number in 0..70_000_u32 {
        let group = ServerGroup {
            protocol: Protocol::Udp,
            listener: u16::try_from(number / 60_000 + 1).expect("small"),
            port: u16::try_from(number % 60_000 + 1).expect("a port"),
        };
        let name = ServerName { service: service(), group };
        world.table.ask(world.now, from, &Question { id: 1, name, family: Family::V4 }, &mut out);
    }
    assert_eq!(world.table.open_questions().len(), 65_536);
    assert_eq!(world.table.standing().counts.dropped, 70_000 - 65_536);
    // Those who asked are gone.
    world.pass(60);
    assert_eq!(world.table.open_questions().len(), 0);
    let name = ServerName { service: service(), group: group(8080) };
    world.table.ask(world.now, from, &Question { id: 1, name, family: Family::V4 }, &mut out);
    assert_eq!(world.table.open_questions().len(), 1);
}

#[test]
fn many_answers_and_those_that_come_again_leave_room_for_each_other() {
    const NAMES: u16 = 1000;
    let pace = Pace::new(true);
    let mut world = World { table: Table::new(pace), ..World::new(true) };
    let groups = (1..=NAMES).map(|port| (group(port), vec![IpAddr::from([10, 0, 0, 1])])).collect();
    world.table.set(world.now, &service(), 1, &groups, None, &mut Vec::new());
    let mut answers = 0;
    for port in 1..=NAMES {
        answers += world.ask(1000, port).len();
    }
    assert_eq!(answers, pace.burst, "the others wait for room");
    // Nobody says that any has arrived.
    let (mut sent, mut again) = (Vec::new(), 0);
    for tick in 0..25_000 {
        // Once it has no turn for a while, so that all is due at the same time.
        world.now += Duration::from_millis(if tick == 80 { 1000 } else { 1 });
        let mut out = Vec::new();
        world.table.tick(world.now, &mut out);
        again += out.len();
        sent.push(out.len());
        let at_once: usize = sent.iter().rev().take(3).sum();
        assert!(at_once <= pace.burst + 1, "{at_once} answers within three milliseconds");
    }
    // Each once, and six times more.
    assert_eq!(answers + again, 2 * usize::from(NAMES) * 7);
}

#[test]
fn a_change_is_taken_although_the_next_one_came_meanwhile() {
    let mut world = World::new(false);
    let address = |number: u8| IpAddr::from([10, 0, 0, number]);
    world.set(8080, &[address(1)]);
    world.ask(1000, 8080);
    world.ask(1000, 8080);
    // Two changes for each round of questions: when NGINX asks, it never has the newest.
    for number in (2..20).step_by(2) {
        let (first, sent) = world.set(8080, &[address(number)]);
        assert!(!sent.is_empty());
        let (second, _) = world.set(8080, &[address(number + 1)]);
        assert!(!world.ask(1000, 8080).is_empty(), "the second one is told at once");
        assert_eq!((first.left(), second.left()), (0, 1));
        world.ask(1000, 8080);
        assert_eq!(second.left(), 0);
    }
}

#[test]
fn a_worker_that_is_gone_is_not_waited_for() {
    let mut world = World::new(true);
    world.set(8080, &[[10, 0, 0, 1].into()]);
    for from in [1000, 1000, 1001, 1001] {
        world.ask(from, 8080);
    }
    assert!(world.table.doubted().is_empty());
    let (waiter, sent) = world.set(8080, &[[10, 0, 0, 2].into()]);
    assert_eq!(sent.len(), 2, "each has its question for IPv4 answered");
    world.ask(1001, 8080);
    assert_eq!(waiter.left(), 1, "the other one may be slow");
    world.pass(1);
    let gone = SocketAddr::from(([127, 0, 0, 1], 1000));
    assert_eq!(world.table.doubted(), [gone].into());
    world.table.leave(gone);
    assert_eq!(waiter.left(), 0);
}

#[test]
fn names_that_nginx_has_ceased_to_ask_for_are_not_waited_for() {
    let mut world = World::new(true);
    world.set(8080, &[[10, 0, 0, 1].into()]);
    world.ask(1000, 8080);
    world.ask(1000, 8080);
    world.table.keep_only(&service(), &[group(9090)].into());
    let (waiter, _) = world.set(9090, &[[10, 0, 0, 2].into()]);
    assert_eq!(waiter.left(), 0);
    assert_eq!(world.table.standing().names, 0);
}

/// A new NGINX has to ask itself, whatever the one before it was told.
#[test]
fn what_an_earlier_nginx_was_told_the_next_one_does_not_know() {
    let mut world = World::new(true);
    world.set(8080, &[[10, 0, 0, 1].into()]);
    world.ask(1000, 8080);
    world.ask(1000, 8080);
    let name = [ServerName { service: service(), group: group(8080) }];
    assert_eq!(world.table.unknown_since(&name, Duration::ZERO), 0);
    world.pass(1);
    let began = world.now;
    assert!(world.table.behind(&name).is_empty());
    assert_eq!(world.table.unknown_since(&name, began), 1);
    world.ask(1001, 8080);
    assert_eq!(world.table.unknown_since(&name, began), 1, "it is answered and has not shown that it took the answer");
    world.ask(1001, 8080);
    assert_eq!(world.table.unknown_since(&name, began), 0);
}

//! Who is waited for, and for how long.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;

use super::wire::{Family, Question};
use super::{Answer, Pace, ServerGroup, ServerName, Table, Waiter};

const GROUP: ServerGroup = ServerGroup { protocol: Protocol::Tcp, listener: 80, port: 8080 };

/// A table with one name, and the time.
struct Scene {
    table: Table,
    now: Duration,
    generation: u64,
    id: u16,
}

impl Scene {
    fn new() -> Self {
        Self { table: Table::new(Pace::new(true)), now: Duration::ZERO, generation: 0, id: 0 }
    }

    fn service() -> ServiceKey {
        ServiceKey::new("default", "web").expect("a name")
    }

    /// The name has this address from now on. Answers what is sent, and who waits for it.
    fn set(&mut self, address: [u8; 4]) -> (Vec<Answer>, Arc<Waiter>) {
        self.generation += 1;
        let (mut out, waiter) = (Vec::new(), Arc::new(Waiter::default()));
        let groups = BTreeMap::from([(GROUP, vec![IpAddr::from(address)])]);
        self.table.set(self.now, &Self::service(), self.generation, &groups, Some(&waiter), &mut out);
        (out, waiter)
    }

    /// Both questions of a round. Answers what is sent.
    fn ask(&mut self, from: SocketAddr) -> Vec<Answer> {
        let mut out = Vec::new();
        for family in Family::BOTH {
            self.id += 1;
            let question =
                Question { id: self.id, name: ServerName { service: Self::service(), group: GROUP }, family };
            self.table.ask(self.now, from, &question, &mut out);
        }
        out
    }

    /// Lets time pass until nothing is due before `until`.
    fn pass(&mut self, until: Duration) {
        while self.now < until {
            let mut out = Vec::new();
            self.now = self.table.tick(self.now, &mut out).max(self.now + Duration::from_millis(1)).min(until);
        }
    }
}

fn worker(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn a_change_is_applied_although_the_next_one_came_meanwhile() {
    let mut scene = Scene::new();
    scene.set([10, 0, 0, 1]);
    scene.ask(worker(1));
    scene.ask(worker(1));
    let mut waiters = Vec::new();
    for number in 2..20 {
        // NGINX asks once for each two changes: never is it told the newest when it asks.
        let (sent, waiter) = scene.set([10, 0, 0, number]);
        waiters.push(waiter);
        if number % 2 == 0 {
            assert!(!sent.is_empty());
        } else {
            let sent = scene.ask(worker(1));
            assert!(!sent.is_empty(), "the second change is told at once");
            assert_eq!(waiters[waiters.len() - 2].left(), 0, "change {}", number - 1);
            assert_eq!(waiters[waiters.len() - 1].left(), 1, "change {number}");
            scene.ask(worker(1));
            assert_eq!(waiters[waiters.len() - 1].left(), 0, "change {number}");
        }
    }
}

#[test]
fn a_worker_that_is_gone_is_not_waited_for() {
    let mut scene = Scene::new();
    scene.set([10, 0, 0, 1]);
    for port in [1, 1, 2, 2] {
        scene.ask(worker(port));
    }
    assert!(scene.table.doubted().is_empty());
    let (sent, waiter) = scene.set([10, 0, 0, 2]);
    assert!(sent.iter().any(|answer| answer.to == worker(1)) && sent.iter().any(|answer| answer.to == worker(2)));
    scene.ask(worker(2));
    assert_eq!(waiter.left(), 1, "the other one may be slow");
    scene.pass(Duration::from_millis(150));
    assert_eq!(scene.table.doubted(), [worker(1)].into());
    scene.table.leave(worker(1));
    assert_eq!(waiter.left(), 0);
}

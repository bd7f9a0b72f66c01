//! What is held, what is told, and when it is told again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use lbex_backend_nginx::push::{Responder, Waiter};

use crate::resolver::{PATIENCE, Resolver, answer, ips, name, options, question, set, unhurried};

#[test]
fn a_question_is_held_until_something_changes_however_often_it_is_repeated() {
    let responder = Responder::open(&unhurried()).expect("it opens");
    let mut nginx = Resolver::new(responder.address());
    let asked = nginx.ask(&name(0));
    assert!(nginx.hears_nothing(), "the Service is not known yet");
    set(&responder, 0, 1, &ips(&["10.0.0.1"]), None);
    assert_eq!(nginx.addresses(asked), ips(&["10.0.0.1"]));

    let [v4, v6] = nginx.ask(&name(0));
    for _ in 0..3 {
        nginx.send(v4, &name(0), RecordType::A);
    }
    // There are none of that family, which need not be asked for again every five seconds.
    let none = nginx.hear_within(PATIENCE).expect("an answer");
    assert_eq!((none.id, none.addresses), (v6, vec![]));
    assert!(nginx.hears_nothing());
    let waiter = Arc::new(Waiter::default());
    set(&responder, 0, 2, &ips(&["10.0.0.1", "10.0.0.2"]), Some(&waiter));
    let changed = nginx.hear_within(PATIENCE).expect("an answer");
    assert_eq!((changed.id, changed.addresses), (v4, ips(&["10.0.0.1", "10.0.0.2"])));
    assert_eq!(waiter.left(), 1, "NGINX has not said that it has it");
    nginx.ask(&name(0));
    let deadline = Instant::now() + PATIENCE;
    while waiter.left() > 0 {
        assert!(Instant::now() < deadline, "the next question is the proof");
        std::thread::yield_now();
    }
    // An older state changes nothing.
    set(&responder, 0, 1, &ips(&["10.0.0.9"]), None);
    nginx.hear_within(PATIENCE).expect("no address of the other family");
    assert!(nginx.hears_nothing());
}

#[test]
fn an_answer_that_was_lost_comes_again_by_itself_and_when_it_is_asked_for() {
    let responder = Responder::open(&options()).expect("it opens");
    set(&responder, 0, 1, &ips(&["10.0.0.1", "fd00::1"]), None);
    let mut nginx = Resolver::new(responder.address());
    let asked = nginx.ask(&name(0));
    for _ in 0..3 {
        assert_eq!(nginx.addresses(asked), ips(&["10.0.0.1", "fd00::1"]), "again");
    }
    nginx.send(asked[0], &name(0), RecordType::A);
    nginx.send(asked[1], &name(0), RecordType::AAAA);
    assert_eq!(nginx.addresses(asked), ips(&["10.0.0.1", "fd00::1"]));
    // What has changed meanwhile is told in the next round: each id has one answer.
    set(&responder, 0, 2, &ips(&["10.0.0.2"]), None);
    assert_eq!(nginx.addresses(asked), ips(&["10.0.0.1", "fd00::1"]));
    let next = nginx.ask(&name(0));
    assert_eq!(nginx.addresses(next), ips(&["10.0.0.2"]));
    assert!(responder.standing().names.counts.repeated >= 6);
}

#[test]
fn questions_of_several_names_and_families_may_come_in_any_order() {
    let responder = Responder::open(&options()).expect("it opens");
    for number in 0..4 {
        set(&responder, number, 1, &ips(&[&format!("10.0.0.{number}"), &format!("fd00::{number}")]), None);
    }
    let mut nginx = Resolver::new(responder.address());
    for _ in 0..3 {
        for order in [[0, 1, 2, 3], [3, 1, 0, 2]] {
            nginx.id += 8;
            let first = nginx.id;
            let id = |number: usize, family: u16| first + u16::try_from(number).expect("small") * 2 + family;
            order.iter().for_each(|number| nginx.send(id(*number, 1), &name(*number), RecordType::AAAA));
            order.iter().rev().for_each(|number| nginx.send(id(*number, 0), &name(*number), RecordType::A));
            // What NGINX has it is not told again: so something changes.
            let generation = u64::from(first);
            for number in order {
                let addresses = ips(&[&format!("10.0.{}.{number}", first / 256), &format!("fd00::{first}:{number}")]);
                set(&responder, number, generation, &addresses, None);
            }
            let mut left: BTreeSet<u16> = (0..8).map(|number| first + number).collect();
            while !left.is_empty() {
                let answer = nginx.hear_within(PATIENCE).expect("an answer");
                if left.remove(&answer.id) {
                    let number = usize::from((answer.id - first) / 2);
                    assert_eq!((answer.name, answer.addresses.len()), (name(number).to_string(), 1));
                }
            }
        }
    }
}

#[test]
fn a_service_with_ipv6_addresses_alone() {
    let responder = Responder::open(&unhurried()).expect("it opens");
    set(&responder, 0, 1, &ips(&["fd00::1"]), None);
    let mut nginx = Resolver::new(responder.address());
    let asked = nginx.ask(&name(0));
    assert_eq!(nginx.addresses(asked), ips(&["fd00::1"]));
    let [v4, v6] = nginx.ask(&name(0));
    assert_eq!(nginx.hear_within(PATIENCE).map(|none| (none.id, none.addresses)), Some((v4, vec![])));
    assert!(nginx.hears_nothing());
    // It gets an IPv4 address beside: this round is completed with what it has, and the next one tells both.
    set(&responder, 0, 2, &ips(&["10.0.0.1", "fd00::1"]), None);
    assert_eq!(nginx.hear_within(PATIENCE).map(|told| (told.id, told.addresses)), Some((v6, ips(&["fd00::1"]))));
    let asked = nginx.ask(&name(0));
    assert_eq!(nginx.addresses(asked), ips(&["10.0.0.1", "fd00::1"]));
}

#[test]
fn garbage_and_foreign_names_are_ignored_and_counted() {
    let responder = Responder::open(&options()).expect("it opens");
    set(&responder, 0, 1, &ips(&["10.0.0.1"]), None);
    let mut nginx = Resolver::new(responder.address());
    let ours = name(0).to_string();
    let mut reply = question(1, &ours, RecordType::A);
    reply[2] |= 0x80;
    let garbage = [
        vec![],
        vec![0; 11],
        vec![0xff; 2000],
        question(1, &ours, RecordType::TXT),
        question(1, "example.com", RecordType::A),
        question(1, "8080.80.tcp.default.s0.lbex.example.com", RecordType::A),
        question(1, &ours, RecordType::A)[..20].to_vec(),
        reply,
    ];
    for bytes in &garbage {
        nginx.socket.send(bytes).expect("sent");
    }
    let asked = nginx.ask(&name(0));
    assert_eq!(nginx.addresses(asked), ips(&["10.0.0.1"]));
    assert_eq!(responder.standing().ignored, garbage.len() as u64);
}

/// All workers of an NGINX that begins ask for all names in the same instant.
#[test]
fn five_thousand_names_at_once_are_answered_and_none_is_lost() {
    const NAMES: usize = 5000;
    let responder = Responder::open(&options()).expect("it opens");
    (0..NAMES).for_each(|number| set(&responder, number, 1, &ips(&["10.0.0.1"]), None));
    let mut nginx = Resolver::new(responder.address());
    let names: Vec<_> = (0..NAMES).map(name).collect();
    let mut asked: BTreeMap<u16, usize> = BTreeMap::new();
    for (number, name) in names.iter().enumerate() {
        asked.extend(nginx.ask(name).map(|id| (id, number)));
        // NGINX reads between its questions.
        while let Some(answer) = nginx.socket.set_nonblocking(true).ok().and_then(|()| {
            let mut bytes = [0; 4096];
            nginx.socket.recv(&mut bytes).ok().map(|length| self::answer(&bytes[..length]))
        }) {
            asked.remove(&answer.id);
        }
    }
    nginx.socket.set_nonblocking(false).expect("set");
    let mut repeated = 0;
    while !asked.is_empty() {
        if let Some(answer) = nginx.hear_within(Duration::from_secs(5)) {
            asked.remove(&answer.id);
            continue;
        }
        repeated += 1;
        assert!(repeated < 4, "{} of {} questions are not answered", asked.len(), 2 * NAMES);
        for (id, number) in &asked {
            let family = if id % 2 == 1 { RecordType::A } else { RecordType::AAAA };
            nginx.send(*id, &names[*number], family);
        }
    }
    // An ordinary user's socket may be too small for so many.
    let has_room = nix::sys::socket::setsockopt(&nginx.socket, nix::sys::socket::sockopt::RcvBufForce, &4096).is_ok();
    assert!(repeated == 0 || !has_room, "questions were lost");
    assert_eq!(responder.standing().names.names, NAMES);
}

//! The push responder's table under any sequence of questions and changes: it never panics, never answers more than its pace allows
//! at once, and what it answers is what was set last.
#![no_main]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lbex_backend_nginx::push::wire::{Family, Question};
use lbex_backend_nginx::push::{Answer, Pace, ServerGroup, ServerName, Table, Waiter};
use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;
use lbex_fuzz::Bytes;
use libfuzzer_sys::fuzz_target;

fn service(byte: u8) -> ServiceKey {
    ServiceKey::new("default", ["a", "b", "c"][usize::from(byte % 3)]).expect("a name")
}

fn group(byte: u8) -> ServerGroup {
    let protocol = if byte & 4 == 0 { Protocol::Tcp } else { Protocol::Udp };
    ServerGroup { protocol, listener: 80 + u16::from(byte >> 7), port: 8080 }
}

fn addresses(byte: u8) -> Vec<IpAddr> {
    (0..byte % 4).map(|n| if n == 3 { IpAddr::from([n; 16]) } else { IpAddr::from([10, 0, byte, n]) }).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Bytes(bytes);
    let Some(first) = bytes.next() else { return };
    let mut table = Table::new(Pace::new(first % 2 == 0));
    let (mut now, mut generation) = (Duration::ZERO, 0);
    let mut wanted: BTreeMap<(ServiceKey, ServerGroup), Vec<IpAddr>> = BTreeMap::new();
    while let (Some(what), Some(who)) = (bytes.next(), bytes.next()) {
        let mut out: Vec<Answer> = Vec::new();
        let key = service(who);
        let name = ServerName { service: key.clone(), group: group(who) };
        let family = if what & 8 == 0 { Family::V4 } else { Family::V6 };
        let question = Question { id: u16::from(what >> 4), name: name.clone(), family };
        let from = SocketAddr::from(([127, 0, 0, 1], 1000 + u16::from(who >> 5)));
        match what % 8 {
            0..=2 => table.ask(now, from, &question, &mut out),
            3 => drop(table.ask_by_tcp(from, &question)),
            4 => {
                generation += u64::from(who & 1);
                let groups = BTreeMap::from([(group(who), addresses(what))]);
                wanted.retain(|(service, _), _| *service != key);
                wanted.insert((key.clone(), group(who)), addresses(what));
                let waiter = (who & 8 != 0).then(|| Arc::new(Waiter::default()));
                table.set(now, &key, generation, &groups, waiter.as_ref(), &mut out);
                if let Some(waiter) = waiter {
                    table.await_all([&name], &waiter);
                    table.give_up(&waiter);
                }
            }
            5 if who > 200 => {
                wanted.retain(|(service, _), _| *service != key);
                table.forget(&key, generation);
            }
            6 if who > 200 => table.retire(now, now.saturating_sub(Duration::from_secs(u64::from(what))), &mut out),
            _ => {
                now += Duration::from_millis(u64::from(who) * u64::from(what));
                let next = table.tick(now, &mut out);
                assert!(next >= now);
            }
        }
        assert!(out.len() <= 4096, "{} answers at once", out.len());
        let standing = table.standing();
        assert!(standing.current <= standing.names && standing.silent <= standing.names, "{standing:?}");
        for Answer { question, addresses: told, .. } in &out {
            // What was asked for and is not known waits; what is answered is what was set last, or an answer sent again.
            let name = &question.name;
            assert!(
                wanted.keys().any(|(service, _)| *service == name.service),
                "an answer about what is not known: {name}"
            );
            assert!(told.len() <= 4, "{told:?}");
        }
    }
    table.open_questions().into_iter().for_each(drop);
});

//! `hash-by-address`: which clients move when an address comes or goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::backends;
use crate::dns::Dns;
use crate::nginx::{Nginx, free_address};

/// A thousand clients, each with an address of its own.
fn clients() -> impl Iterator<Item = Ipv4Addr> {
    (0..1000u16).map(|number| {
        let [high, low] = number.to_be_bytes();
        Ipv4Addr::new(127, 99, high, low.max(1))
    })
}

fn who_serves(listener: SocketAddr) -> BTreeMap<Ipv4Addr, IpAddr> {
    clients().map(|client| (client, backends::ask(listener, Some(client)).expect("an answer"))).collect()
}

#[test]
fn only_the_clients_of_a_removed_address_move_and_they_return_with_it() {
    let dns = Dns::start();
    let (addresses, port) = backends::start(10);
    let (pushed, listed) = (free_address(), free_address());
    let mut servers = String::new();
    for address in &addresses {
        write!(servers, "server {address}:{port}; ").expect("written");
    }
    let _nginx = Nginx::start(&format!(
        "upstream pushed {{ zone pushed 256k; hash $remote_addr consistent; resolver {} ipv6=off push=on; \
           resolver_timeout 24h; server web.lbex:{port} resolve; }}\n\
         upstream listed {{ hash $remote_addr consistent; {servers} }}\n\
         server {{ listen {pushed}; proxy_pass pushed; }}\nserver {{ listen {listed}; proxy_pass listed; }}",
        dns.address()
    ));

    let question = dns.push(&dns.question(), &addresses);
    let all = who_serves(pushed);
    assert_eq!(all.values().collect::<BTreeSet<_>>().len(), 10, "every address has clients");
    assert_eq!(all, who_serves(listed), "the same as with a list of servers");

    let (gone, rest) = addresses.split_first().expect("ten addresses");
    let question = dns.push(&question, rest);
    let fewer = who_serves(pushed);
    for (client, server) in &all {
        let now = fewer[client];
        assert!(if server == gone { now != *gone } else { now == *server }, "{client} went from {server} to {now}");
    }

    dns.push(&question, &addresses);
    assert_eq!(all, who_serves(pushed), "back on the address that returned");
}

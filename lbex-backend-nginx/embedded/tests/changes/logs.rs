//! What does not reach the error log.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};

use hickory_proto::op::ResponseCode;

use crate::backends;
use crate::dns::Dns;
use crate::nginx::{Nginx, free_address};

/// `immediate-push`: three hundred names whose server is away for some seconds.
#[test]
fn a_resolver_that_is_away_fills_no_log() {
    const NAMES: usize = 300;
    // Nobody takes its port while it is away.
    let dns = Dns::at(SocketAddr::new(free_address().ip(), 0));
    let address = dns.address();
    let mut upstreams = format!("server {{ listen {}; proxy_pass u0; }}\n", free_address());
    for number in 0..NAMES {
        writeln!(
            upstreams,
            "upstream u{number} {{ zone all 4m; resolver {address} ipv6=off push=on; resolver_timeout 24h; \
               server n{number}.lbex:80 resolve; }}"
        )
        .expect("written");
    }
    let nginx = Nginx::start(&upstreams);
    let asked = |dns: &Dns| {
        let mut names = BTreeSet::new();
        while names.len() < NAMES {
            names.insert(dns.question().query.name().to_string());
        }
    };
    asked(&dns);
    drop(dns);
    nginx.await_info("Connection refused", NAMES);
    let dns = Dns::at(address);
    asked(&dns);
    assert_eq!(nginx.errors("resolv"), Vec::<String>::new());
    assert_eq!(nginx.errors("Connection refused"), Vec::<String>::new());
}

/// `immediate-push` and `quiet-when-empty`: an upstream that LBEX has emptied.
#[test]
fn clients_of_an_upstream_without_servers_fill_no_log() {
    const CLIENTS: usize = 50;
    let dns = Dns::start();
    let (tcp, udp) = (free_address(), free_address());
    let nginx = Nginx::start(&format!(
        "upstream u {{ zone u 256k; resolver {} ipv6=off push=on; resolver_timeout 24h; server web.lbex:80 resolve; }}\n\
         server {{ listen {tcp}; proxy_pass u; }}\nserver {{ listen {udp} udp; proxy_pass u; }}",
        dns.address()
    ));
    let question = dns.push(&dns.question(), &["10.0.0.1".parse().expect("an address")]);
    dns.refuse(&question, ResponseCode::NXDomain);
    dns.question();
    for _ in 0..CLIENTS {
        backends::ask(tcp, None).expect_err("closed");
        let socket = UdpSocket::bind((udp.ip(), 0)).expect("a socket");
        socket.send_to(b"ping", udp).expect("sent");
    }
    nginx.await_info("no live upstreams", 2 * CLIENTS);
    nginx.await_info("could not be resolved", 1);
    assert_eq!(nginx.errors("no live upstreams"), Vec::<String>::new());
    assert_eq!(nginx.errors("could not be resolved"), Vec::<String>::new());
}

/// Servers that are there and have failed are an error, as ever.
#[test]
fn servers_that_have_all_failed_are_logged() {
    let dns = Dns::start();
    let listener = free_address();
    let nowhere = free_address();
    let nginx = Nginx::start(&format!(
        "upstream u {{ zone u 256k; resolver {} ipv6=off push=on; resolver_timeout 24h; server web.lbex:{} resolve; }}\n\
         server {{ listen {listener}; proxy_pass u; }}",
        dns.address(),
        nowhere.port()
    ));
    let refusing: Vec<_> = [1, 2].map(|number| [127, 98, 0, number].into()).into();
    dns.push(&dns.question(), &refusing);
    backends::ask(listener, None).expect_err("closed");
    backends::ask(listener, None).expect_err("closed");
    nginx.await_info("no live upstreams", 1);
    assert_eq!(nginx.errors("no live upstreams").len(), 1);
}

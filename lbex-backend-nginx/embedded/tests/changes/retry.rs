//! `retry-after-change`: a server that takes no connection, while the upstream changes.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::backends::{self, BlackHole};
use crate::dns::Dns;
use crate::nginx::{Nginx, free_address};

/// How long NGINX waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

fn black_hole(like: IpAddr, port: u16) -> (BlackHole, IpAddr) {
    let IpAddr::V4(like) = like else { panic!("{like} is no IPv4 address") };
    let [a, b, ..] = like.octets();
    let ip = IpAddr::from([a, b, 2, 1]);
    (BlackHole::start(SocketAddr::new(ip, port)), ip)
}

fn configuration(dns: SocketAddr, balancer: &str, port: u16, listener: SocketAddr, timeout: Duration) -> String {
    format!(
        "upstream u {{ zone u 256k; {balancer} resolver {dns} ipv6=off push=on; resolver_timeout 24h; \
           server web.lbex:{port} resolve max_fails=0; }}\n\
         server {{ listen {listener}; proxy_pass u; proxy_connect_timeout {}ms; }}",
        timeout.as_millis()
    )
}

/// One of four addresses takes no connection, and another one comes or goes ten times a second: no client may fail.
fn no_client_fails(balancer: &str) {
    let dns = Dns::start();
    let (serving, port) = backends::start(4);
    let (_hole, hole) = black_hole(serving[0], port);
    let listener = free_address();
    let _nginx = Nginx::start(&configuration(dns.address(), balancer, port, listener, CONNECT_TIMEOUT));
    let with = |count: usize| [&[hole], &serving[..count]].concat();
    let mut question = dns.push(&dns.question(), &with(3));

    let (end, met) = (AtomicBool::new(false), AtomicUsize::new(0));
    let client = || {
        while !end.load(Ordering::Relaxed) {
            let started = Instant::now();
            let server = backends::ask(listener, None).expect("a client was closed");
            assert!(serving.contains(&server));
            if started.elapsed() >= CONNECT_TIMEOUT {
                met.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        let clients = [(); 8].map(|()| scope.spawn(client));
        let mut next = Instant::now();
        for change in 0..25 {
            next += Duration::from_millis(100);
            question = dns.push(&question, &with(3 + change % 2));
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        end.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("no client failed");
        }
    });
    assert!(met.load(Ordering::Relaxed) > 8, "{balancer}: hardly anybody met the server that takes no connection");
}

#[test]
fn no_client_fails_with_round_robin() {
    no_client_fails("");
}

#[test]
fn no_client_fails_with_least_conn() {
    no_client_fails("least_conn;");
}

#[test]
fn no_client_fails_with_random() {
    no_client_fails("random two;");
}

#[test]
fn no_client_fails_with_consistent_hash() {
    no_client_fails("hash $remote_addr$remote_port consistent;");
}

#[test]
fn no_client_fails_with_hash() {
    no_client_fails("hash $remote_addr$remote_port;");
}

/// A Service of one Pod that is replaced while a client waits for it: the client goes to the new one.
#[test]
fn a_client_of_a_lone_server_goes_to_its_replacement() {
    let dns = Dns::start();
    let (serving, port) = backends::start(1);
    let (_hole, hole) = black_hole(serving[0], port);
    let listener = free_address();
    let nginx = Nginx::start(&configuration(dns.address(), "", port, listener, Duration::from_secs(5)));
    let question = dns.push(&dns.question(), &[hole]);
    let client = thread::spawn(move || backends::ask(listener, None));
    nginx.await_info("connected to", 1);
    dns.push(&question, &serving);
    assert_eq!(client.join().expect("it ends").expect("an answer"), serving[0]);
}

/// The attempts of a session have an end, however often its upstream changes.
#[test]
fn a_client_is_given_up_when_it_has_tried_each_server() {
    let dns = Dns::start();
    let (serving, port) = backends::start(1);
    let (_hole, hole) = black_hole(serving[0], port);
    let listener = free_address();
    let nginx = Nginx::start(&configuration(dns.address(), "", port, listener, CONNECT_TIMEOUT));
    let mut question = dns.push(&dns.question(), &[hole]);
    let client = thread::spawn(move || backends::ask(listener, None));
    // Nothing listens there.
    let refusing = "127.98.0.1".parse().expect("an address");
    let mut change = 0;
    while !client.is_finished() {
        change += 1;
        question = dns.push(&question, &[hole, refusing][..=change % 2]);
        thread::sleep(Duration::from_millis(20));
    }
    assert!(client.join().expect("it ends").is_err());
    let attempts = |to: IpAddr| nginx.errors(&format!("upstream: \"{to}:")).len();
    assert_eq!(attempts(hole), 1);
    assert!(attempts(refusing) <= 1);
}

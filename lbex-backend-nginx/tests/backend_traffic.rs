//! The backend with real NGINXes and real traffic: what is desired is what clients see.

#[path = "common/bench.rs"]
mod bench;
mod common;
#[path = "common/net.rs"]
mod net;

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::{Bench, LONG, SHORT, answers, at, both, named, to};
use common::{by, nginxes, on, service, tcp, udp};
use lbex_core::backend::Action;
use lbex_core::desired::{Algorithm, Listener};
use net::{ask_tcp, ask_udp, free_port, has_ipv6, is_alive, own_address, read_name, send_all, server};

#[tokio::test(flavor = "multi_thread")]
async fn traffic_follows_the_desired_state() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let (one, two) = (server("one", home), server("two", home));
        let (a, b) = (SocketAddr::new(home, free_port(home)), SocketAddr::new(home, free_port(home)));

        let report = bench.apply(&[both("a", a, &[one]), both("b", b, &[two])]).await;
        assert_eq!((report.action, report.refused.len()), (Action::Started, 0));
        assert_eq!((answers(a), answers(b)), (named("one"), named("two")));
        bench.is_well().await;

        // Another server; a connection to the other Service stays.
        let held = TcpStream::connect(b).expect("connected");
        assert_eq!(read_name(&held), "two");
        assert_eq!(bench.apply(&[both("a", a, &[two]), both("b", b, &[two])]).await.action, Action::Reloaded);
        assert_eq!((answers(a), answers(b)), (named("two"), named("two")));
        assert!(is_alive(held));

        // The same again is nothing to do.
        assert_eq!(bench.apply_again().await.action, Action::Unchanged);

        // No servers: closed at once, silence; and the listener stays.
        bench.apply(&[both("a", a, &[]), both("b", b, &[two])]).await;
        let begin = Instant::now();
        assert_eq!(ask_tcp(a), Some(String::new()));
        assert!(begin.elapsed() < Duration::from_millis(2500), "sooner than a connection would be given up");
        for _ in 0..3 {
            assert_eq!(ask_udp(a, b"hello", SHORT), None);
        }
        bench.apply(&[both("a", a, &[one, two]), both("b", b, &[two])]).await;
        let names: std::collections::BTreeSet<_> = (0..8).filter_map(|_| ask_tcp(a)).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["one", "two"]);

        // Gone.
        bench.apply(&[both("b", b, &[two])]).await;
        assert_eq!((ask_tcp(a), ask_udp(a, b"hello", SHORT)), (None, None));
        assert_eq!(answers(b), named("two"));
        let log = std::fs::read_to_string(bench.backend().layout().error_log()).expect("a log");
        assert!(!log.contains("[emerg]") && !log.contains("[alert]") && !log.contains("[crit]"), "{log}");
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_datagrams_and_half_closed_connections_come_through() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let a = SocketAddr::new(home, free_port(home));
        bench.apply(&[both("a", a, &[server("one", home)])]).await;
        let datagram = vec![b'x'; 60_000];
        let answer = ask_udp(a, &datagram, LONG).expect("answered");
        assert_eq!(answer.len(), datagram.len() + 4);
        assert_eq!(send_all(a, &vec![0; 100_000]), "one 100000");
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_dual_stack_and_algorithms() {
    if !has_ipv6() {
        return;
    }
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let six: IpAddr = "::1".parse().expect("an address");
        let (one, two) = (to(server("one", home)), to(server("two", six)));
        let (port, other) = (free_port(six), free_port(six));
        let servers = [one.as_str(), two.as_str()];
        let dual = |listener: Listener| on(listener, &[&home.to_string(), "::1"]);
        let report = bench
            .apply(&[
                service("dual", vec![dual(tcp(port, &servers)), dual(udp(port, &servers))]),
                service("sticky", vec![dual(by(tcp(other, &servers), Algorithm::ClientIp))]),
            ])
            .await;
        assert!(report.refused.is_empty(), "{report:?}");
        for address in [SocketAddr::new(home, port), SocketAddr::new(six, port)] {
            let names: std::collections::BTreeSet<_> = (0..10).filter_map(|_| ask_tcp(address)).collect();
            assert_eq!(names.into_iter().collect::<Vec<_>>(), ["one", "two"], "{address}");
            assert!(ask_udp(address, b"x", LONG).is_some(), "{address}");
        }
        let sticky: std::collections::BTreeSet<_> =
            (0..10).filter_map(|_| ask_tcp(SocketAddr::new(six, other))).collect();
        assert_eq!(sticky.len(), 1);
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn source_ranges_let_in_whom_they_name() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let one = server("one", home);
        let ports = [free_port(home), free_port(home)];
        let with = |name: &str, port: u16, network: &str| {
            let allow: Arc<[_]> = Arc::from([network.parse().expect("a network")]);
            let listeners = [tcp(port, &[&to(one)]), udp(port, &[&to(one)])];
            service(name, listeners.map(|l| Listener { allow: allow.clone(), ..at(l, home) }).to_vec())
        };
        bench.apply(&[with("in", ports[0], "127.0.0.0/8"), with("out", ports[1], "10.0.0.0/8")]).await;
        assert_eq!(answers(SocketAddr::new(home, ports[0])), named("one"));
        let out = SocketAddr::new(home, ports[1]);
        assert_eq!((ask_tcp(out), ask_udp(out, b"x", SHORT)), (Some(String::new()), None));
        bench.stop().await;
    }
}

/// A DNS server that knows one name, with one IPv4 address.
fn dns_server(home: IpAddr, name: &str, address: IpAddr) -> SocketAddr {
    let socket = UdpSocket::bind((home, free_port(home))).expect("bound");
    let place = socket.local_addr().expect("bound");
    let IpAddr::V4(address) = address else { panic!("an IPv4 address") };
    let wanted: Vec<u8> = name
        .split('.')
        .flat_map(|label| [&[u8::try_from(label.len()).expect("short")], label.as_bytes()].concat())
        .chain([0])
        .collect();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let question = &buffer[12..length];
            let known = question.strip_prefix(wanted.as_slice()).is_some_and(|rest| rest.starts_with(&[0, 1]));
            // An answer without error, the question, and, to one for A, a pointer to its name, A, IN, TTL 60, the address.
            let mut answer = buffer[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(known), 0, 0, 0, 0]);
            answer.extend(question);
            if known {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(address.octets());
            }
            let _ = socket.send_to(&answer, client);
        }
    });
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_resolved_while_nginx_runs_and_never_hold_it_up() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let one = server("one", home);
        let resolver = dns_server(home, "db.example.com", home);
        let nobody = SocketAddr::new(home, free_port(home));
        let (a, b) = (SocketAddr::new(home, free_port(home)), SocketAddr::new(home, free_port(home)));
        let with = |place: SocketAddr, resolver: SocketAddr| {
            let named = |listener| at(common::dns(listener, "db.example.com", one.port(), &[&to(resolver)]), home);
            vec![named(tcp(place.port(), &[])), named(udp(place.port(), &[]))]
        };
        let begin = Instant::now();
        let report = bench.apply(&[service("a", with(a, resolver)), service("b", with(b, nobody))]).await;
        assert!(begin.elapsed() < Duration::from_millis(4900) && report.refused.is_empty(), "{report:?}");
        assert_eq!(answers(a), named("one"));
        assert_eq!(ask_udp(b, b"hello", SHORT), None);
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_other_services_lose_no_connection() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let one = server("one", home);
        let [a, b, c] = [(); 3].map(|()| SocketAddr::new(home, free_port(home)));
        bench.apply(&[both("a", a, &[one]), both("b", b, &[one])]).await;
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let client = std::thread::spawn(move || {
            let mut answers = Vec::new();
            while is_done.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                answers.push(ask_tcp(a));
            }
            answers
        });
        for n in 0..8 {
            let place = if n % 2 == 0 { c } else { b };
            assert_eq!(bench.apply(&[both("a", a, &[one]), both("b", place, &[one])]).await.action, Action::Reloaded);
        }
        drop(done);
        let answers = client.join().expect("no panic");
        let lost = answers.iter().filter(|answer| answer.as_deref() != Some("one")).count();
        assert!(lost == 0 && answers.len() > 20, "{lost} of {}", answers.len());
        bench.stop().await;
    }
}

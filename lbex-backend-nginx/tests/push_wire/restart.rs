//! Where the responder answers, and what it takes over from the one before.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};

use hickory_proto::rr::RecordType;
use lbex_backend_nginx::push::{Responder, ResponderOptions};

use crate::net;
use crate::resolver::{Resolver, by_tcp, ips, many, name, options, set, unhurried};

#[test]
fn where_the_port_is_taken_another_one_is_used() {
    let address = SocketAddr::new(net::own_address(), 0);
    let taken = UdpSocket::bind(address).expect("a socket");
    let wanted = taken.local_addr().ok();
    let responder = Responder::open(&ResponderOptions { wanted, ..options() }).expect("it opens");
    assert_ne!(Some(responder.address()), wanted);
    set(&responder, 0, 1, &ips(&["10.0.0.1"]), None);
    let mut nginx = Resolver::new(responder.address());
    let asked = nginx.ask(&name(0));
    assert_eq!(nginx.addresses(asked), ips(&["10.0.0.1"]));
}

#[test]
fn it_answers_on_ipv6_where_nginx_asks_there() {
    if !net::has_ipv6() {
        return;
    }
    let ip = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let wanted = Some(SocketAddr::new(ip, net::free_port(ip)));
    let responder = Responder::open(&ResponderOptions { wanted, ..options() }).expect("it opens");
    assert!(responder.address().ip().is_loopback());
    set(&responder, 0, 1, &many(1000), None);
    let mut nginx = Resolver::new(responder.address());
    let asked = nginx.ask(&name(0));
    assert!(nginx.hear(asked)[0].truncated);
    let mut stream = TcpStream::connect(responder.address()).expect("connected");
    assert_eq!(by_tcp(&mut stream, asked[0], RecordType::A).addresses.len(), 1000);
}

#[test]
fn the_next_responder_answers_at_once_what_was_asked_of_the_one_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = Some(folder.path().join("questions"));
    let ip = net::own_address();
    let wanted = Some(SocketAddr::new(ip, net::free_port(ip)));
    let open = |kept: &Option<_>| {
        let options = ResponderOptions { wanted, kept: kept.clone(), ..unhurried() };
        loop {
            let responder = Responder::open(&options).expect("it opens");
            // A program that another test starts has the port of the one before, too, until it is executed.
            if Some(responder.address()) == wanted {
                return responder;
            }
        }
    };
    let first = open(&kept);
    set(&first, 0, 1, &ips(&["10.0.0.1", "fd00::1"]), None);
    let mut nginx = Resolver::new(first.address());
    let asked = nginx.ask(&name(0));
    nginx.hear(asked);
    let waiting = nginx.ask(&name(0));
    assert!(nginx.hears_nothing());
    drop(first);

    let second = open(&kept);
    assert!(kept.as_ref().is_some_and(|path| !path.exists()), "it holds once");
    set(&second, 0, 1, &ips(&["10.0.0.2", "fd00::1"]), None);
    assert_eq!(nginx.addresses(waiting), ips(&["10.0.0.2", "fd00::1"]));
    let waiting = nginx.ask(&name(0));
    assert!(nginx.hears_nothing());
    drop(second);

    // Without what was kept the next one learns of a question when it is repeated.
    let third = open(&None);
    set(&third, 0, 1, &ips(&["10.0.0.3", "fd00::1"]), None);
    assert!(nginx.hears_nothing());
    nginx.send(waiting[0], &name(0), RecordType::A);
    nginx.send(waiting[1], &name(0), RecordType::AAAA);
    assert_eq!(nginx.addresses(waiting), ips(&["10.0.0.3", "fd00::1"]));
}

#[test]
fn what_was_kept_and_is_damaged_does_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("questions");
    let ip = net::own_address();
    let address = SocketAddr::new(ip, net::free_port(ip));
    let options = ResponderOptions { wanted: Some(address), kept: Some(path.clone()), ..options() };
    for text in [String::new(), "nonsense".to_owned(), format!("{address}\n\0\n{address} 1\n1 2 3 4\n")] {
        std::fs::write(&path, text).expect("written");
        let responder = Responder::open(&options).expect("it opens");
        set(&responder, 0, 1, &ips(&["10.0.0.1"]), None);
        let mut nginx = Resolver::new(responder.address());
        let asked = nginx.ask(&name(0));
        assert_eq!(nginx.addresses(asked), ips(&["10.0.0.1"]));
    }
}

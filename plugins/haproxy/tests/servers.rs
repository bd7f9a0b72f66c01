//! What commands make the servers that run those that are desired.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use lbex_haproxy::render::Proxy;
use lbex_haproxy::servers::{Server, by_proxy, commands, id, leaving, read, server_name};

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn proxy(servers: &[&str]) -> Proxy {
    let servers = servers.iter().map(|server| at(server)).collect();
    Proxy { name: "a:b:80".to_owned(), port: 80, binds: Vec::new(), layout: String::new(), servers, weight: 1 }
}

fn running(servers: &[&str]) -> Vec<Server> {
    let of = |text: &&str| Server {
        proxy: "a:b:80".to_owned(),
        id: id(at(text), &BTreeSet::new()),
        name: server_name(at(text)),
        address: Some(at(text)),
        ready: true,
        weight: 1,
    };
    servers.iter().map(of).collect()
}

#[test]
fn what_is_as_it_should_be_takes_no_command() {
    let servers = ["10.0.0.1:80", "[fd00::1]:80"];
    assert_eq!(commands(&proxy(&servers), &running(&servers)), [""; 0]);
}

#[test]
fn servers_come_before_others_go() {
    let all = commands(&proxy(&["10.0.0.2:80", "[fd00::1]:81"]), &running(&["10.0.0.1:80"]));
    let ids = ["10.0.0.2:80", "[fd00::1]:81"].map(|server| id(at(server), &BTreeSet::new()));
    let expected = [
        format!("add server a:b:80/10.0.0.2:80 ipv4@10.0.0.2:80 id {} weight 1", ids[0]),
        "set server a:b:80/10.0.0.2:80 state ready".to_owned(),
        format!("add server a:b:80/fd00::1:81 ipv6@[fd00::1]:81 id {} weight 1", ids[1]),
        "set server a:b:80/fd00::1:81 state ready".to_owned(),
        "set server a:b:80/10.0.0.1:80 state drain".to_owned(),
    ];
    assert_eq!(all, expected);
}

#[test]
fn what_somebody_else_changed_is_put_right() {
    let mut servers = running(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
    servers[0].ready = false;
    servers[1].weight = 7;
    servers[2].address = Some(at("10.0.0.9:80"));
    let expected = [
        "set server a:b:80/10.0.0.1:80 state ready",
        "set server a:b:80/10.0.0.2:80 weight 1",
        "set server a:b:80/10.0.0.3:80 addr 10.0.0.3 port 80",
    ];
    assert_eq!(commands(&proxy(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]), &servers), expected);
}

#[test]
fn one_that_drains_is_left_to_it_and_comes_back_when_desired() {
    let mut servers = running(&["10.0.0.1:80"]);
    servers[0].ready = false;
    assert_eq!(commands(&proxy(&[]), &servers), [""; 0]);
    assert_eq!(leaving(&proxy(&[]), &servers).count(), 1);
    assert_eq!(commands(&proxy(&["10.0.0.1:80"]), &servers), ["set server a:b:80/10.0.0.1:80 state ready"]);
}

#[test]
fn two_servers_never_have_one_number() {
    let mut taken = BTreeSet::new();
    let server = at("10.0.0.1:80");
    let first = id(server, &taken);
    assert!((1..=0x000f_ffff).contains(&first));
    taken.insert(first);
    let second = id(server, &taken);
    assert_ne!(first, second);
    assert_eq!(id(server, &BTreeSet::from([0x000f_ffff, first])), second);
}

#[test]
fn what_haproxy_says_is_read() {
    let text = "1\n# be_id be_name srv_id ...\n\
        2 default:web:80 5 10.0.0.1:80 10.0.0.1 2 8 1 1 0 1 0 0 0 0 0 1 - 80 - 0 0 - - 0\n\
        2 default:web:80 6 fd00::1:80 fd00::1 2 0 1 1 0 1 0 0 0 0 0 1 - 80 - 0 0 - - 0\n\n\
        1\n# be_id ...\n\
        3 default:hash:81 77 127.0.0.1:9 127.0.0.1 2 0 16 16 0 1 0 2 0 0 0 1 - 9 - 0 0 - - 0\n\n";
    let servers = by_proxy(read(text).unwrap());
    let web = &servers["default:web:80"];
    assert_eq!((web[0].ready, web[1].ready), (false, true));
    assert_eq!(web[1].address, Some(at("[fd00::1]:80")));
    assert_eq!((servers["default:hash:81"][0].id, servers["default:hash:81"][0].weight), (77, 16));
    assert_eq!(read("Can't find backend.\n"), None);
}

//! What becomes of a desired state: the configuration, byte for byte, and HAProxy's own opinion of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use lbex_haproxy::process::Program;
use lbex_haproxy::render::{File, Global, Proxy, file, proxies};
use lbex_plugin_sdk::{Algorithm, Call, Listener, Protocol, Server, Service};

type Plan = BTreeMap<String, Vec<Proxy>>;

fn global() -> Global {
    Global {
        socket: "/run/lbex/s".into(),
        owner: None,
        threads: Some(2),
        max_connections: 100_000,
        retries: 1,
        shutdown_timeout: None,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn listener(port: u16, servers: &[&str]) -> Listener {
    let server = |text: &&str| Server::from(text.parse::<SocketAddr>().unwrap());
    Listener {
        protocol: Protocol::Tcp,
        port,
        addresses: vec![ip("0.0.0.0"), ip("::")].into(),
        allow: Vec::new().into(),
        connect_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(3600),
        algorithm: Algorithm::RoundRobin,
        method: None,
        servers: servers.iter().map(server).collect(),
        dns: None,
    }
}

fn plan(services: &[(&str, Vec<Listener>)]) -> Plan {
    let of = |(name, listeners): &(&str, Vec<Listener>)| {
        let service = Service { created: None, listeners: listeners.clone() };
        ((*name).to_owned(), proxies(name, &service).unwrap())
    };
    services.iter().map(of).collect()
}

fn whole<'a>(global: &Global, plan: &'a Plan) -> File<'a> {
    file(global, plan.iter().flat_map(|(name, all)| all.iter().map(move |proxy| (name.as_str(), proxy))))
}

/// What HAProxy finds wrong with it; `None`: nothing.
fn wrong(text: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::find(Path::new("haproxy"), dir.path()).unwrap();
    program.check(text, &Call::with_timeout(Duration::from_secs(60))).unwrap()
}

#[test]
fn everything_that_a_service_can_ask_for() {
    let few = ["10.0.0.1:8080", "10.0.0.2:8080", "[fd00::1]:8081"];
    let plan = plan(&[
        ("default/none", vec![listener(80, &[])]),
        (
            "default/web",
            vec![listener(443, &few), Listener { algorithm: Algorithm::LeastConn, ..listener(8443, &few[..1]) }],
        ),
        (
            "kube-system/sticky",
            vec![Listener {
                algorithm: Algorithm::ClientIp,
                addresses: vec![ip("127.0.0.1"), ip("fd00::5")].into(),
                allow: ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"].map(|net| net.parse().unwrap()).to_vec().into(),
                connect_timeout: Duration::from_millis(250),
                idle_timeout: Duration::from_secs(30),
                ..listener(6443, &few)
            }],
        ),
    ]);
    let text = whole(&global(), &plan).text;
    insta::assert_snapshot!(text);
    assert_eq!(wrong(&text), None);
}

#[test]
fn everything_that_concerns_the_whole() {
    let global = Global { owner: Some((65534, 65534)), shutdown_timeout: Some(Duration::from_secs(90)), ..global() };
    let text = whole(&global, &Plan::new()).text;
    insta::assert_snapshot!(text);
    assert_eq!(wrong(&text), None);
}

#[test]
fn very_many_networks_fit() {
    let allow = (0..2000u32).map(|n| format!("2001:db8:{n:x}::/48").parse().unwrap()).collect();
    let plan = plan(&[("default/web", vec![Listener { allow, ..listener(80, &["10.0.0.1:80"]) }])]);
    assert_eq!(wrong(&whole(&global(), &plan).text), None);
}

#[test]
fn servers_are_no_part_of_the_layout_and_all_else_is() {
    let of = |listener: Listener| {
        let plan = plan(&[("default/web", vec![listener])]);
        whole(&global(), &plan).layout
    };
    let layout = of(listener(80, &["10.0.0.1:80"]));
    assert_eq!(of(listener(80, &["10.0.0.2:80", "10.0.0.3:81"])), layout);
    assert_eq!(of(listener(80, &[])), layout);
    for other in [
        listener(81, &[]),
        Listener { addresses: vec![ip("::")].into(), ..listener(80, &[]) },
        Listener { allow: vec!["10.0.0.0/8".parse().unwrap()].into(), ..listener(80, &[]) },
        Listener { connect_timeout: Duration::from_secs(4), ..listener(80, &[]) },
        Listener { idle_timeout: Duration::from_secs(4), ..listener(80, &[]) },
        Listener { algorithm: Algorithm::LeastConn, ..listener(80, &[]) },
        Listener { algorithm: Algorithm::ClientIp, ..listener(80, &[]) },
    ] {
        assert_ne!(of(other.clone()), layout, "{other:?}");
    }
    let plan = plan(&[("default/web", vec![listener(80, &[])])]);
    assert_ne!(whole(&Global { retries: 2, ..global() }, &plan).layout, layout);
}

#[test]
fn every_line_has_its_owner() {
    let plan = plan(&[("default/a", vec![listener(80, &["10.0.0.1:80"])]), ("default/b", vec![listener(81, &[])])]);
    let file = whole(&global(), &plan);
    let lines: Vec<&str> = file.text.lines().collect();
    let at = |words: &str| 1 + lines.iter().position(|line| line.contains(words)).unwrap();
    assert_eq!(file.owner(at("listen default:a:80")), Some("default/a"));
    assert_eq!(file.owner(at("server 10.0.0.1:80")), Some("default/a"));
    assert_eq!(file.owner(at("bind ipv4@0.0.0.0:81")), Some("default/b"));
    assert_eq!(file.owner(lines.len()), Some("default/b"));
    assert_eq!((file.owner(at("mode tcp")), file.owner(lines.len() + 1)), (None, None));
}

#[test]
fn names_that_are_none_and_udp_are_refused() {
    let service = |protocol| Service { created: None, listeners: vec![Listener { protocol, ..listener(53, &[]) }] };
    for name in ["web", "a b/c", "a/b\n    bind :1", "a/", "/b", "a/b/c", "a/b:c", "\u{e9}/b", "a/$b", "a/b#"] {
        assert_eq!(proxies(name, &service(Protocol::Tcp)).unwrap_err().code, "NameUnsupported", "{name:?}");
    }
    let refusal = proxies("default/dns", &service(Protocol::Udp)).unwrap_err();
    assert_eq!(refusal.message, "HAProxy carries no UDP (port 53)");
}

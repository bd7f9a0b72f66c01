//! What becomes of a desired state: the commands for nft, and nft's own opinion of them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lbex_nftables::change::{change, close, replace};
use lbex_nftables::config::Config;
use lbex_nftables::plan::{Facts, Ruleset, plan};
use lbex_nftables::render::Table;
use lbex_plugin_sdk::{Algorithm, Listener, Protocol, Server, Service};
use serde_json::Value;

fn table() -> Table {
    Table { name: "lbex".to_owned(), owner: "LBEX /var/lib/lbex".to_owned(), keep_client_address: false }
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

fn facts() -> Facts {
    Facts { addresses: vec![ip("192.0.2.1")], forwards_v4: true, forwards_v6: true, route_localnet: false }
}

fn planned(name: &str, listeners: Vec<Listener>, facts: &Facts) -> (Ruleset, Vec<String>) {
    let (ruleset, refused) = plan(name, &Service { created: None, listeners }, facts);
    (ruleset, refused.into_iter().map(|refusal| format!("{}: {}", refusal.code, refusal.message)).collect())
}

fn everything() -> Ruleset {
    let mut web = listener(80, &["10.0.0.1:8080", "10.0.0.2:8080", "[fd00::1]:8080"]);
    let mut dns = listener(53, &["10.0.0.1:53"]);
    dns.protocol = Protocol::Udp;
    dns.addresses = vec![ip("192.0.2.1"), ip("127.0.0.1"), ip("2001:db8::1")].into();
    // They overlap.
    web.allow = ["10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/16", "fd00::/8"].map(|net| net.parse().unwrap()).into();
    let local = listener(81, &["127.0.0.1:8081", "192.0.2.1:8081"]);
    let (mut all, refused) = planned("default/web", vec![web, dns, local, listener(82, &[])], &facts());
    assert_eq!(refused, [""; 0]);
    let sticky = Listener { algorithm: Algorithm::ClientIp, ..listener(83, &["10.0.0.1:80"]) };
    all.extend(planned("other/sticky", vec![sticky], &facts()).0);
    all
}

/// One command a line.
fn lines(commands: &[Value]) -> String {
    commands.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn everything_that_a_service_can_ask_for() {
    let empty = Ruleset::new();
    let all = everything();
    insta::assert_snapshot!(lines(&change(&table(), &empty, &all, all.keys().copied())));
}

#[test]
fn the_table_itself() {
    insta::assert_snapshot!(lines(&replace(&table(), &Ruleset::new())));
    let keep = lines(&replace(&Table { keep_client_address: true, ..table() }, &Ruleset::new()));
    let masquerades: Vec<&str> = keep.lines().filter(|line| line.contains("masquerade")).collect();
    assert!(masquerades.len() == 4 && masquerades.iter().all(|line| line.contains("saddr")), "{masquerades:?}");
}

#[test]
fn a_change_has_the_commands_of_what_differs_only() {
    let before = everything();
    let (mut web, _) = planned("default/web", vec![listener(82, &["10.0.0.9:80"])], &facts());
    let mut after = before.clone();
    after.append(&mut web);
    let commands = change(&table(), &before, &after, after.keys().copied());
    let text = lines(&commands);
    assert!(commands.len() == 3 && text.lines().all(|line| line.contains("tcp-82-ip")), "{text}");
    assert!(text.contains(r#"{"flush":{"chain""#) && text.contains("10.0.0.9"), "{text}");
    assert_eq!(change(&table(), &before, &before, before.keys().copied()), [Value::Null; 0]);
    // One that goes: its elements before its chain.
    let (key, _) = after.pop_first().unwrap();
    let text = lines(&change(&table(), &before, &after, [key].into_iter()));
    let delete = |what: &str| text.find(&format!(r#"{{"delete":{{"{what}""#)).unwrap();
    assert!(delete("element") < delete("chain") && !text.contains(r#"{"add""#), "{text}");
    assert!(lines(&close(&table(), &before)).lines().all(|line| line.contains(r#"{"delete":{"element""#)));
}

#[test]
fn what_this_host_is_not_made_for_is_told() {
    let no_forwarding = Facts { forwards_v4: false, ..facts() };
    let (ruleset, refused) = planned("a/b", vec![listener(80, &["10.0.0.1:80", "[fd00::1]:80"])], &no_forwarding);
    assert_eq!(ruleset.len(), 1, "it is served over IPv6");
    let why = "its server 10.0.0.1 is elsewhere and this host does not forward IPv4: set net.ipv4.ip_forward to 1";
    assert_eq!(refused, [format!("ForwardingOff: {why}")]);
    // Servers of its own need none.
    assert_eq!(planned("a/b", vec![listener(80, &["192.0.2.1:80", "127.0.0.2:80"])], &no_forwarding).1, [""; 0]);

    let loopback = Listener { addresses: vec![ip("127.0.0.1")].into(), ..listener(80, &["10.0.0.1:80"]) };
    let (ruleset, refused) = planned("a/b", vec![loopback.clone()], &facts());
    assert!(ruleset.is_empty() && refused[0].contains("net.ipv4.conf.all.route_localnet is 0"), "{refused:?}");
    assert_eq!(planned("a/b", vec![loopback], &Facts { route_localnet: true, ..facts() }).1, [""; 0]);

    let v6_only = Listener { addresses: vec![ip("0.0.0.0")].into(), ..listener(80, &["[fd00::1]:80"]) };
    let refused = planned("a/b", vec![v6_only], &facts()).1;
    assert!(refused[0].starts_with("NoCommonFamily: its servers have IPv6 addresses"), "{refused:?}");
}

#[test]
fn the_settings_of_the_guide_are_taken() {
    let guide = include_str!("../../../docs/nftables.md");
    let example = guide.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let config = Config::read(Some(example)).unwrap();
    assert_eq!(config, Config { table: "lbex-public".to_owned(), ..Config::default() });
}

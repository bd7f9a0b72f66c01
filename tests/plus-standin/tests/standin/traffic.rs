//! Connections go where the state says, from the answer of each call on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use lbex_plus_standin::traffic::{OpenSource, Route};
use lbex_plus_standin::{Fault, Rule, StandIn};
use lbex_test_harness::Scratch;
use lbex_test_harness::backends::{Conversation, Echo, tcp_ask, tcp_tally, udp_ask};
use lbex_test_harness::ports::free_port;
use serde_json::json;

use crate::client::{call, json};

const SERVERS: &str = "/api/9/stream/upstreams/web/servers";

struct World {
    plus: StandIn,
    tcp: SocketAddr,
    udp: SocketAddr,
    _folder: Scratch,
}

impl World {
    async fn start(servers: &[SocketAddr]) -> Result<Self> {
        let folder = Scratch::for_nginx("plus")?;
        let listen = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (tcp, udp) = (listen(free_port()?), listen(free_port()?));
        let route = |listen, udp| Route { listen, udp, upstream: "web".to_owned() };
        let nginx = OpenSource::new(&folder.join("nginx"), vec![route(tcp, false), route(udp, true)]).await?;
        let plus = StandIn::builder().tcp(0).upstream("web", servers).traffic(nginx).start().await?;
        Ok(Self { plus, tcp, udp, _folder: folder })
    }

    async fn call(&self, method: &str, path: &str, body: serde_json::Value, status: u16) -> Result<serde_json::Value> {
        json(self.plus.address(), method, path, &body.to_string(), status).await
    }
}

/// Who answers, asked often enough for everyone to have a turn; no waiting: each call is to count at once.
async fn who(server: SocketAddr) -> Result<BTreeSet<String>> {
    Ok(tcp_tally(server, 6).await?.into_keys().collect())
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn each_call_counts_for_the_next_connection() -> Result<()> {
    let (a, b) = (Echo::new("a").start()?, Echo::new("b").start()?);
    let world = World::start(&[a.address()]).await?;
    assert_eq!(who(world.tcp).await?, names(&["a"]));
    let id = world.call("POST", SERVERS, json!({"server": b.address()}), 201).await?["id"].clone();
    assert_eq!(who(world.tcp).await?, names(&["a", "b"]));
    let mut held = Conversation::open(world.tcp).await?;
    world.call("PATCH", &format!("{SERVERS}/0"), json!({"down": true}), 200).await?;
    assert_eq!(who(world.tcp).await?, names(&["b"]));
    held.say("connections stay where they are").await?;
    world.call("PATCH", &format!("{SERVERS}/0"), json!({"down": false, "weight": 2}), 200).await?;
    assert_eq!(tcp_tally(world.tcp, 9).await?, BTreeMap::from([("a".to_owned(), 6), ("b".to_owned(), 3)]));
    world.call("DELETE", &format!("{SERVERS}/0"), json!({}), 200).await?;
    assert_eq!(who(world.tcp).await?, names(&["b"]));
    assert_eq!(udp_ask(world.udp, "who", Duration::from_secs(2)).await?, "b");
    held.say("also when their server is removed").await?;
    world.call("DELETE", &format!("{SERVERS}/{id}"), json!({}), 200).await?;
    let closed = tcp_ask(world.tcp).await.expect_err("nobody is there").kind();
    assert!([ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&closed), "{closed}");
    Ok(())
}

#[tokio::test]
async fn what_did_not_happen_did_not_happen_to_traffic() -> Result<()> {
    let (a, b) = (Echo::new("a").start()?, Echo::new("b").start()?);
    let world = World::start(&[a.address()]).await?;
    let body = json!({"server": b.address()}).to_string();
    world.plus.inject(Rule::new(Fault::DropBefore));
    assert!(call(world.plus.address(), "POST", SERVERS, &body).await.is_err());
    assert_eq!(who(world.tcp).await?, names(&["a"]));
    world.plus.inject(Rule::new(Fault::DropAfter));
    assert!(call(world.plus.address(), "POST", SERVERS, &body).await.is_err());
    assert_eq!(who(world.tcp).await?, names(&["a", "b"]));
    // Somebody else's change is one too, and so is a restart that loses everything.
    world.plus.change(|state| drop(state.upstreams.get_mut("web").map(|web| web.servers.remove(0)))).await?;
    assert_eq!(who(world.tcp).await?, names(&["b"]));
    world.plus.restart(false).await?;
    assert_eq!(who(world.tcp).await?, names(&["a"]));
    Ok(())
}

#[tokio::test]
async fn a_backup_gets_who_finds_nobody_else_and_calls_at_once_are_carried_together() -> Result<()> {
    let (a, spare) = (Echo::new("a").start()?, Echo::new("spare").start()?);
    let world = World::start(&[]).await?;
    world.call("POST", SERVERS, json!({"server": spare.address(), "backup": true}), 201).await?;
    assert_eq!(who(world.tcp).await?, names(&["spare"]));
    let body = json!({"server": a.address()}).to_string();
    let calls = (0..8).map(|_| call(world.plus.address(), "POST", SERVERS, &body));
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer?.status, 201);
    }
    assert_eq!(who(world.tcp).await?, names(&["a"]));
    assert_eq!(world.plus.up("web").len(), 9);
    Ok(())
}

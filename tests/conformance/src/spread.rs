//! Who gets a client: in turn, the least busy, or always the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use lbex_test_harness::backends::{Conversation, Echo, tcp_ask_from, tcp_tally, udp_ask_from, udp_tally};
use lbex_test_harness::manifests::{ANSWER, at, local, pods, pods_slice, servers, tcp_reaches};
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually};
use serde_json::json;

use crate::common::{is_told, reaches, start, told, web};
use crate::{Feature, Subject};

/// Round robin over all workers together: exactly even.
pub async fn round_robin(subject: &dyn Subject) -> Result<()> {
    let (port, servers) = (free_port()?, servers(3)?);
    let _world = start(subject, [&web(subject, "web", port) as _, &pods_slice("web", &servers) as _]).await?;
    let even: BTreeMap<String, usize> = ["a", "b", "c"].map(|name| (name.to_owned(), 10)).into();
    assert_eq!(tcp_tally(at(port), 30).await?, even);
    if subject.lacks(Feature::Udp).is_none() {
        assert_eq!(udp_tally(at(port), 30).await?, even);
    }
    Ok(())
}

/// Where two connections have ended, the next two go.
pub async fn least_conn(subject: &dyn Subject) -> Result<()> {
    let (port, servers) = (free_port()?, servers(3)?);
    let web = web(subject, "web", port).lbex("algorithm", "least_conn");
    let world = start(subject, [&web as _, &pods_slice("web", &servers) as _]).await?;
    if let Some(words) = subject.lacks(Feature::LeastConn) {
        return told(&world, "web", words).await;
    }
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(Conversation::open(at(port)).await?);
    }
    assert_eq!(servers.iter().map(Echo::open_connections).collect::<Vec<_>>(), [2, 2, 2]);
    held.retain(|connection| connection.name() != "b");
    eventually("the connections to b have ended", SOON, || async {
        let open = servers[1].open_connections();
        ensure!(open == 0, "{open} are open");
        Ok(())
    })
    .await?;
    for _ in 0..2 {
        held.push(Conversation::open(at(port)).await?);
        assert_eq!(held.last().map(Conversation::name), Some("b"));
    }
    Ok(())
}

/// In each of its ways it serves every endpoint; without it, the Service is told and served in turn.
pub async fn least_time(subject: &dyn Subject) -> Result<()> {
    let (port, servers) = (free_port()?, servers(2)?);
    let web = |method: &str| web(subject, "web", port).lbex("algorithm", "least_time").lbex("method", method);
    let slice = pods_slice("web", &servers);
    let world = start(subject, [&web("connect") as _, &slice as _]).await?;
    if let Some(words) = subject.lacks(Feature::LeastTime) {
        told(&world, "web", words).await?;
        return reaches(subject, at(port), &["a", "b"]).await;
    }
    for method in
        ["connect", "first_byte", "last_byte", "connect inflight", "first_byte inflight", "last_byte inflight"]
    {
        world.put([&web(method) as _, &slice as _])?;
        world.wait_applied().await?;
        reaches(subject, at(port), &["a", "b"]).await?;
    }
    assert_eq!(world.lbex.metric("lbex_rejections", &[]).await?, None);
    Ok(())
}

/// Each client address has its server, for TCP and UDP, and keeps it when another server goes.
pub async fn client_ip(subject: &dyn Subject) -> Result<()> {
    let (port, servers) = (free_port()?, servers(4)?);
    let web = web(subject, "web", port).spec(json!({"sessionAffinity": "ClientIP"}));
    let world = start(subject, [&web as _, &pods_slice("web", &servers) as _]).await?;
    if let Some(words) = subject.lacks(Feature::ClientIp) {
        return told(&world, "web", words).await;
    }
    let clients: Vec<IpAddr> = (1..=30).map(|n| local(20, n)).collect();
    let before = who_has_whom(subject, &clients, at(port)).await?;
    let used: BTreeSet<&String> = before.values().collect();
    assert!(used.len() >= 3, "30 clients reach only {used:?}");

    let gone = before[&clients[0]].clone();
    let left: Vec<_> = servers.iter().filter(|server| server.name() != gone).collect();
    world.put([&web as _, &pods_slice("web", left) as _])?;
    eventually("the first client has another server", SOON, || async {
        let now = tcp_ask_from(clients[0], at(port)).await?;
        ensure!(now != gone, "still {now}");
        Ok(())
    })
    .await?;
    // Until then workers that know the old servers still take clients.
    world.wait_applied().await?;
    for (client, server) in who_has_whom(subject, &clients, at(port)).await? {
        assert!(before[&client] == gone || before[&client] == server, "{client} was moved to {server}: {before:?}");
    }
    Ok(())
}

async fn who_has_whom(
    subject: &dyn Subject,
    clients: &[IpAddr],
    server: SocketAddr,
) -> Result<BTreeMap<IpAddr, String>> {
    let has_udp = subject.lacks(Feature::Udp).is_none();
    let mut found = BTreeMap::new();
    for client in clients {
        let name = tcp_ask_from(*client, server).await?;
        for _ in 0..3 {
            let again = tcp_ask_from(*client, server).await?;
            ensure!(again == name, "TCP client {client} reached {name}, then {again}");
            if has_udp {
                let udp = udp_ask_from((*client, 0).into(), server, "me", ANSWER).await?;
                ensure!(udp == name, "client {client} reaches {name} over TCP and {udp} over UDP");
            }
        }
        found.insert(*client, name);
    }
    Ok(found)
}

/// Datagrams of one client socket stay with one server, whatever the number of workers.
pub async fn udp_sessions(subject: &dyn Subject) -> Result<()> {
    let (port, servers) = (free_port()?, servers(3)?);
    let (web, slice) = (pods("web", port), pods_slice("web", &servers));
    if let Some(words) = subject.lacks(Feature::Udp) {
        return is_told(subject, [&web as _, &slice as _], "web", words).await;
    }
    let _world = start(subject, [&web as _, &slice as _]).await?;
    tcp_reaches(at(port), &["a", "b", "c"]).await?;
    for _ in 0..10 {
        let socket = tokio::net::UdpSocket::bind(at(0)).await?;
        socket.connect(at(port)).await?;
        let mut names = BTreeSet::new();
        for number in 0..20 {
            let mut buffer = [0; 64];
            socket.send(format!("{number}").as_bytes()).await?;
            let length = tokio::time::timeout(ANSWER, socket.recv(&mut buffer)).await??;
            names.insert(String::from_utf8_lossy(&buffer[..length]).split(' ').next().map(ToOwned::to_owned));
        }
        assert_eq!(names.len(), 1, "one client reached {names:?}");
    }
    Ok(())
}

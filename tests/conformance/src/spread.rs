//! Who gets a client: in turn, the least busy, or always the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use lbex_test_harness::backends::{Conversation, Echo, tcp_ask, tcp_ask_from, tcp_tally, udp_ask_from, udp_tally};
use lbex_test_harness::manifests::{ANSWER, World, at, local, pods_slice, servers};
use lbex_test_harness::ports::{free_port, free_ports};
use lbex_test_harness::wait::{SOON, eventually};
use serde_json::json;

use crate::common::{reaches, start, told, web};
use crate::{Feature, Subject};

/// Round robin over all workers together: exactly even. Datagrams of one client socket stay with one server.
pub async fn round_robin(subject: &dyn Subject) -> Result<()> {
    let (port, servers) = (free_port()?, servers(3)?);
    let _world = start(subject, [&web(subject, "web", port) as _, &pods_slice("web", &servers) as _]).await?;
    let even: BTreeMap<String, usize> = ["a", "b", "c"].map(|name| (name.to_owned(), 10)).into();
    assert_eq!(tcp_tally(at(port), 30).await?, even);
    if subject.lacks(Feature::Udp).is_none() {
        assert_eq!(udp_tally(at(port), 30).await?, even);
        udp_sessions(at(port)).await?;
    }
    Ok(())
}

/// Datagrams of one client socket stay with one server, whatever the number of workers.
async fn udp_sessions(server: SocketAddr) -> Result<()> {
    for _ in 0..10 {
        let socket = tokio::net::UdpSocket::bind(at(0)).await?;
        socket.connect(server).await?;
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

/// The least busy server gets a client, by connections (`least_conn`) or by time (`least_time`). What the backend lacks the Service is
/// told, and it is served in turn.
pub async fn least_busy(subject: &dyn Subject) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(3)?);
    let conn = web(subject, "conn", ports[0]).lbex("algorithm", "least_conn");
    let time = web(subject, "time", ports[1]).lbex("algorithm", "least_time");
    let slices = [pods_slice("conn", &servers), pods_slice("time", &servers)];
    let world = start(subject, [&conn as _, &slices[0] as _, &time as _, &slices[1] as _]).await?;
    match subject.lacks(Feature::LeastConn) {
        Some(words) => {
            told(&world, "conn", words).await?;
            reaches(subject, at(ports[0]), &["a", "b", "c"]).await?;
        }
        None => least_conn(at(ports[0]), &servers).await?,
    }
    if let Some(words) = subject.lacks(Feature::LeastTime) {
        told(&world, "time", words).await?;
        return reaches(subject, at(ports[1]), &["a", "b", "c"]).await;
    }
    let put = |method: &str| {
        let time = time.clone().lbex("method", method);
        world.put([&conn as _, &slices[0] as _, &time as _, &slices[1] as _])
    };
    least_time(&world, at(ports[1]), put).await
}

/// Where two connections have ended, the next two go.
async fn least_conn(server: SocketAddr, servers: &[Echo]) -> Result<()> {
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(Conversation::open(server).await?);
    }
    assert_eq!(servers.iter().map(Echo::open_connections).collect::<Vec<_>>(), [2, 2, 2]);
    let (ended, mut held): (Vec<_>, Vec<_>) = held.into_iter().partition(|connection| connection.name() == "b");
    for connection in ended {
        connection.finish(SOON).await?;
    }
    for _ in 0..2 {
        held.push(Conversation::open(server).await?);
        assert_eq!(held.last().map(Conversation::name), Some("b"));
    }
    Ok(())
}

/// Each of its methods is taken, and clients are served. (How long servers take is nothing that a test here could tell.)
async fn least_time(world: &World, server: SocketAddr, put: impl Fn(&str) -> Result<()>) -> Result<()> {
    for method in
        ["first_byte", "last_byte", "connect inflight", "first_byte inflight", "last_byte inflight", "connect"]
    {
        let before = world.lbex.metric("lbex_desired_generation", &[]).await?;
        put(method)?;
        eventually("the method is planned", SOON, || async {
            let now = world.lbex.metric("lbex_desired_generation", &[]).await?;
            ensure!(now > before, "generation {now:?}, as before");
            Ok(())
        })
        .await?;
        world.wait_applied().await?;
        tcp_ask(server).await?;
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

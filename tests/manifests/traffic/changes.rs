//! Connections that a change does not concern go on.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use lbex_test_harness::backends::Conversation;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::{SOON, eventually};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::support::{World, at, pods, pods_slice, servers, tcp_reaches, tcp_refused};

/// A connection lives on over reloads for another Service, and while its own endpoint is removed.
async fn connections_survive(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(3)?);
    let (held, other) = (pods("held", ports[0]), pods("other", ports[1]));
    let held_slice = pods_slice("held", [&servers[0]]);
    let world = World::start(nginx, [&held as _, &held_slice as _]).await?;
    let mut connection = Conversation::open(at(ports[0])).await?;
    connection.say("before").await?;

    let before = world.reloads().await?;
    world.put([&held as _, &held_slice as _, &other as _, &pods_slice("other", [&servers[1]]) as _])?;
    tcp_reaches(at(ports[1]), &["b"]).await?;
    connection.say("after a Service came").await?;
    world.put([&held as _, &held_slice as _, &other as _, &pods_slice("other", [&servers[2]]) as _])?;
    tcp_reaches(at(ports[1]), &["c"]).await?;
    connection.say("after its endpoint changed").await?;
    world.put([&held as _, &held_slice as _])?;
    tcp_refused(at(ports[1])).await?;
    connection.say("after it went").await?;
    // The metric follows when the new workers have confirmed. The embedded NGINX is told of endpoints without a reload.
    let expected = if nginx == Nginx::Embedded { 2.0 } else { 3.0 };
    eventually("the reloads are counted", SOON, || async {
        let reloads = world.reloads().await? - before;
        ensure!((reloads - expected).abs() < 0.5, "{reloads} instead of {expected}");
        Ok(())
    })
    .await?;
    let reason = async |reason| world.lbex.metric("lbex_reloads_total", &[("reason", reason)]).await;
    assert_eq!((reason("listeners").await?, reason("endpoints").await?), (Some(2.0), Some(expected - 2.0)));

    // Its own endpoint is replaced: new clients go elsewhere, this one stays where it is.
    world.put([&held as _, &pods_slice("held", [&servers[1]]) as _])?;
    tcp_reaches(at(ports[0]), &["b"]).await?;
    connection.say("after its endpoint was removed").await?;
    assert_eq!((connection.name(), servers[0].open_connections()), ("a", 1));

    // Old workers end with their last connection, and until then they are counted.
    eventually("a draining worker is counted", SOON, || async {
        let draining = world.lbex.metric("lbex_draining_workers", &[]).await?;
        let connections = world.lbex.metric("lbex_draining_connections", &[]).await?;
        ensure!(draining >= Some(1.0) && connections >= Some(2.0), "{draining:?} {connections:?}");
        Ok(())
    })
    .await?;
    drop(connection);
    eventually("no worker is draining", SOON, || async {
        let draining = world.lbex.metric("lbex_draining_workers", &[]).await?;
        let connections = world.lbex.metric("lbex_draining_connections", &[]).await?;
        ensure!((draining, connections) == (Some(0.0), Some(0.0)), "{draining:?} {connections:?}");
        Ok(())
    })
    .await
}

/// Clients that come while NGINX reloads again and again are all served.
async fn no_client_is_lost(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(2)?);
    let (steady, moving) = (pods("steady", ports[0]), pods("moving", ports[1]));
    let slice = pods_slice("steady", [&servers[0]]);
    let flags = ["--reload-interval=100ms", "--endpoint-updates=reload"];
    let world = World::start_with(nginx, &flags, [&steady as _, &slice as _]).await?;
    let before = world.reloads().await?;
    let (enough, mut told) = tokio::sync::watch::channel(false);
    let clients = tokio::spawn(async move {
        let mut count = 0;
        while !*told.borrow_and_update() {
            Conversation::open(at(ports[0])).await?.say("here").await?;
            count += 1;
        }
        std::io::Result::Ok(count)
    });
    let mut turn = 0;
    eventually("five reloads under these clients", SOON, || {
        turn += 1;
        let moved = pods_slice("moving", [&servers[turn % 2]]);
        let put = world.put([&steady as _, &slice as _, &moving as _, &moved as _]);
        let (world, clients) = (&world, &clients);
        async move {
            put?;
            ensure!(!clients.is_finished(), "a client failed");
            tokio::time::sleep(Duration::from_millis(150)).await;
            let reloads = world.reloads().await? - before;
            ensure!(reloads >= 5.0, "{reloads} reloads");
            Ok(())
        }
    })
    .await?;
    enough.send(true)?;
    let served = clients.await??;
    assert!(served > 100, "{served} clients");
    Ok(())
}

/// UDP clients that keep their ports and go on sending reach a server that is there when theirs is removed.
async fn udp_clients_leave_a_removed_endpoint(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_ports(1)?[0], servers(2)?);
    let web = pods("web", port);
    let world = World::start(nginx, [&web as _, &pods_slice("web", &servers) as _]).await?;
    tcp_reaches(at(port), &["a", "b"]).await?;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let socket = UdpSocket::bind(at(0)).await?;
        socket.connect(at(port)).await?;
        clients.push(socket);
    }
    let ask = async |client: &UdpSocket| -> Result<char> {
        client.send(b"who").await?;
        let mut answer = [0; 64];
        timeout(Duration::from_millis(500), client.recv(&mut answer)).await??;
        Ok(char::from(answer[0]))
    };
    let mut first = BTreeSet::new();
    for client in &clients {
        first.insert(ask(client).await?);
    }
    assert_eq!(first, BTreeSet::from(['a', 'b']), "each server has clients");

    world.put([&web as _, &pods_slice("web", [&servers[1]]) as _])?;
    eventually("every client reaches the server that is there", SOON, async || {
        for client in &clients {
            let name = ask(client).await?;
            ensure!(name == 'b', "{name} answers");
        }
        Ok(())
    })
    .await
}

on_each_nginx!(connections_survive, no_client_is_lost, udp_clients_leave_a_removed_endpoint);

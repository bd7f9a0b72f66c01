//! Connections that a change does not concern go on.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use lbex_test_harness::backends::Conversation;
use lbex_test_harness::manifests::{ANSWER, World, at, pods, pods_slice, servers, tcp_reaches, tcp_refused};
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::{SOON, eventually, eventually_is};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::common::{is_told, start, web};
use crate::{Feature, Subject};

/// A connection lives on while another Service comes, changes its endpoints, moves to another port and goes, and while its own endpoint is
/// removed.
pub async fn connections_stay(subject: &dyn Subject) -> Result<()> {
    let (ports, servers) = (free_ports(3)?, servers(3)?);
    let held = web(subject, "held", ports[0]);
    let held_slice = pods_slice("held", [&servers[0]]);
    let world = start(subject, [&held as _, &held_slice as _]).await?;
    let mut connection = Conversation::open(at(ports[0])).await?;
    connection.say("before").await?;
    let reloads = async |reason| {
        let count = world.lbex.metric("lbex_reloads_total", &[("reason", reason)]).await?;
        anyhow::Ok(count.unwrap_or_default())
    };
    let (listeners, endpoints) = (reloads("listeners").await?, reloads("endpoints").await?);

    let put_other = |port, server| {
        let (other, slice) = (web(subject, "other", port), pods_slice("other", [server]));
        world.put([&held as _, &held_slice as _, &other as _, &slice as _])
    };
    put_other(ports[1], &servers[1])?;
    tcp_reaches(at(ports[1]), &["b"]).await?;
    connection.say("after a Service came").await?;
    put_other(ports[1], &servers[2])?;
    tcp_reaches(at(ports[1]), &["c"]).await?;
    connection.say("after its endpoint changed").await?;
    put_other(ports[2], &servers[2])?;
    tcp_reaches(at(ports[2]), &["c"]).await?;
    tcp_refused(at(ports[1])).await?;
    connection.say("after its port changed").await?;
    world.put([&held as _, &held_slice as _])?;
    tcp_refused(at(ports[2])).await?;
    connection.say("after it went").await?;
    // The metric follows when the new workers have confirmed.
    let times = |count: f64, by_reload| if by_reload { count } else { 0.0 };
    let ways = subject.ways();
    let expected = (times(3.0, ways.listeners_by_reload), times(1.0, ways.endpoints_by_reload));
    eventually("the reloads are counted", SOON, || async {
        let seen = (reloads("listeners").await? - listeners, reloads("endpoints").await? - endpoints);
        ensure!(
            format!("{seen:?}") == format!("{expected:?}"),
            "for listeners and endpoints {seen:?}, not {expected:?}"
        );
        Ok(())
    })
    .await?;

    // Its own endpoint is replaced: new clients go elsewhere, this one stays where it is.
    world.put([&held as _, &pods_slice("held", [&servers[1]]) as _])?;
    tcp_reaches(at(ports[0]), &["b"]).await?;
    connection.say("after its endpoint was removed").await?;
    assert_eq!(connection.name(), "a");
    eventually_is("it has this one alone", SOON, 1, || async { servers[0].open_connections() }).await?;
    if ways.old_workers_drain {
        old_workers_end_with_their_last(&world, connection).await?;
    }
    Ok(())
}

/// Old workers end with their last connection, and until then they are counted.
async fn old_workers_end_with_their_last(world: &World, connection: Conversation) -> Result<()> {
    let draining = async || {
        let workers = world.lbex.metric("lbex_draining_workers", &[]).await?;
        anyhow::Ok((workers, world.lbex.metric("lbex_draining_connections", &[]).await?))
    };
    eventually("a draining worker is counted", SOON, || async {
        let seen = draining().await?;
        ensure!(seen.0 >= Some(1.0) && seen.1 >= Some(2.0), "{seen:?}");
        Ok(())
    })
    .await?;
    drop(connection);
    eventually("no worker is draining", SOON, || async {
        let seen = draining().await?;
        ensure!(seen == (Some(0.0), Some(0.0)), "{seen:?}");
        Ok(())
    })
    .await
}

/// Clients that come while another Service comes and goes, again and again, are all served.
pub async fn no_client_is_lost(subject: &dyn Subject) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(2)?);
    let (steady, moving) = (web(subject, "steady", ports[0]), web(subject, "moving", ports[1]));
    let slices = [pods_slice("steady", [&servers[0]]), pods_slice("moving", [&servers[1]])];
    let world = start(subject, [&steady as _, &slices[0] as _]).await?;
    let (enough, mut told) = tokio::sync::watch::channel(false);
    let client = at(ports[0]);
    let clients = tokio::spawn(async move {
        let mut count = 0;
        while !*told.borrow_and_update() {
            Conversation::open(client).await?.say("here").await?;
            count += 1;
        }
        std::io::Result::Ok(count)
    });
    for round in 0..3 {
        world.put([&steady as _, &slices[0] as _, &moving as _, &slices[1] as _])?;
        tcp_reaches(at(ports[1]), &["b"]).await?;
        world.put([&steady as _, &slices[0] as _])?;
        tcp_refused(at(ports[1])).await?;
        ensure!(!clients.is_finished(), "a client failed in round {round}: {:?}", clients.await);
    }
    enough.send(true)?;
    let served = clients.await??;
    assert!(served > 100, "{served} clients");
    Ok(())
}

/// UDP clients that keep their ports and go on sending reach a server that is there when theirs is removed.
pub async fn udp_clients_leave_a_removed_endpoint(subject: &dyn Subject) -> Result<()> {
    let (port, servers) = (free_ports(1)?[0], servers(2)?);
    let (web, slice) = (pods("web", port), pods_slice("web", &servers));
    if let Some(words) = subject.lacks(Feature::Udp) {
        return is_told(subject, [&web as _, &slice as _], "web", words).await;
    }
    let world = start(subject, [&web as _, &slice as _]).await?;
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
        timeout(ANSWER, client.recv(&mut answer)).await??;
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

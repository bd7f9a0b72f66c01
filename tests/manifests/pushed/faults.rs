//! LBEX or NGINX are stopped, reloaded and killed by others.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbex_test_harness::backends::tcp_ask;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::Signal;

use super::load::{Held, Load};
use super::{Counts, on_nginx};
use crate::support::{World, at, pods, pods_slice, servers, signal, tcp_reaches, udp_reaches};

/// LBEX is stopped while endpoints change. Clients notice nothing, and what changed arrives when it goes on.
async fn lbex_is_paused(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(4)?);
    let web = pods("web", port);
    let world = World::start(nginx, [&web as _, &pods_slice("web", &servers[..2]) as _]).await?;
    let mut held = Held::default();
    held.hold_tcp(at(port), "a", 2).await?;
    held.hold_udp(at(port), "a", 2).await?;
    let before = Counts::of(&world.lbex).await?;
    let mut load = Load::both(&[at(port)]);
    world.lbex.signal(Signal::SIGSTOP)?;
    for round in 0..6 {
        world.put([&web as _, &pods_slice("web", [&servers[0], &servers[1 + round % 3]]) as _])?;
        // NGINX repeats its questions meanwhile, every five seconds.
        tokio::time::sleep(Duration::from_secs(1)).await;
        load.goes_on(5).await?;
    }
    world.lbex.signal(Signal::SIGCONT)?;
    tcp_reaches(at(port), &["a", "d"]).await?;
    udp_reaches(at(port), &["a", "d"]).await?;
    world.wait_applied().await?;
    held.check().await?;
    load.finish().await?;
    before.only_pushed(&world.lbex, 1).await?;
    // And at once from then on.
    world.put([&web as _, &pods_slice("web", [&servers[0], &servers[2]]) as _])?;
    tcp_reaches(at(port), &["a", "c"]).await?;
    before.only_pushed(&world.lbex, 2).await
}

/// Somebody reloads NGINX by hand, again and again, while endpoints change. LBEX does not, and all changes arrive.
async fn nginx_is_reloaded_by_hand(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(3)?);
    let web = pods("web", port);
    let world = World::start(nginx, [&web as _, &pods_slice("web", &servers[..2]) as _]).await?;
    let mut held = Held::default();
    held.hold_tcp(at(port), "a", 2).await?;
    let before = Counts::of(&world.lbex).await?;
    let (master, old) = (world.lbex.nginx_pid()?, world.nginx_pids());
    let load = Load::both(&[at(port)]);
    for round in 1..=20 {
        let moving = &servers[1 + round % 2];
        if round % 4 == 0 {
            signal(master, Signal::SIGHUP)?;
        }
        world.put([&web as _, &pods_slice("web", [&servers[0], moving]) as _])?;
        tcp_reaches(at(port), &["a", moving.name()]).await?;
    }
    eventually("new workers serve", SOON, || async {
        let new = world.nginx_pids();
        let both: Vec<_> = new.iter().filter(|pid| old.contains(pid)).collect();
        ensure!(both == [&master], "{old:?}, then {new:?}");
        Ok(())
    })
    .await?;
    for round in 0..4 {
        let moving = &servers[1 + round % 2];
        world.put([&web as _, &pods_slice("web", [&servers[0], moving]) as _])?;
        tcp_reaches(at(port), &["a", moving.name()]).await?;
        udp_reaches(at(port), &["a", moving.name()]).await?;
    }
    held.check().await?;
    load.finish().await?;
    before.only_pushed(&world.lbex, 20).await
}

/// Each worker is killed in turn, the one that asks among them: the next one asks again.
async fn workers_are_killed(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(2)?);
    let web = pods("web", port);
    let world = World::start(nginx, [&web as _, &pods_slice("web", &servers) as _]).await?;
    let before = Counts::of(&world.lbex).await?;
    let master = world.lbex.nginx_pid()?;
    let workers: Vec<u32> = world.nginx_pids().into_iter().filter(|pid| *pid != master).collect();
    for (round, worker) in workers.iter().enumerate() {
        signal(*worker, Signal::SIGKILL)?;
        let left = &servers[round % 2];
        world.put([&web as _, &pods_slice("web", [left]) as _])?;
        eventually("another worker runs", SOON, || async {
            let now = world.nginx_pids();
            ensure!(now.len() == workers.len() + 1 && !now.contains(worker), "{now:?}");
            Ok(())
        })
        .await?;
        tcp_reaches(at(port), &[left.name()]).await?;
        udp_reaches(at(port), &[left.name()]).await?;
        world.wait_applied().await?;
    }
    before.only_pushed(&world.lbex, u32::try_from(workers.len())?).await
}

/// LBEX is away, NGINX is killed, endpoints change, and LBEX comes back: what it starts serves the new ones from the first client on.
async fn nginx_dies_while_lbex_is_away(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(3)?);
    let web = pods("web", port);
    let mut world = World::start(nginx, [&web as _, &pods_slice("web", &servers[..1]) as _]).await?;
    tcp_reaches(at(port), &["a"]).await?;
    world.lbex.kill().await?;
    for process in world.lbex.nginx_processes() {
        signal(process.pid, Signal::SIGKILL)?;
    }
    eventually("NGINX is gone", SOON, || async {
        let left = world.lbex.nginx_processes();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    world.put([&web as _, &pods_slice("web", &servers[1..]) as _])?;
    world.lbex.start_again()?;
    // From the moment that something listens, clients are served.
    let accepted = eventually("a client is accepted", SOON, || async {
        match tcp_ask(at(port)).await {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Err(error),
            other => Ok(other),
        }
    });
    let first = accepted.await??;
    ensure!(["b", "c"].contains(&first.as_str()), "{first}");
    tcp_reaches(at(port), &["b", "c"]).await?;
    udp_reaches(at(port), &["b", "c"]).await?;
    world.wait_applied().await?;
    let before = Counts::of(&world.lbex).await?;
    world.put([&web as _, &pods_slice("web", &servers[..1]) as _])?;
    tcp_reaches(at(port), &["a"]).await?;
    before.only_pushed(&world.lbex, 1).await
}

on_nginx!(Embedded: lbex_is_paused, nginx_is_reloaded_by_hand, workers_are_killed, nginx_dies_while_lbex_is_away);

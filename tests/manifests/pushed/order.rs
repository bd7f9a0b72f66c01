//! Endpoints and listeners that change at the same time.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lbex_test_harness::backends::{tcp_ask, udp_ask};
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::service;
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::Signal;

use super::{Counts, on_nginx};
use crate::support::{ANSWER, World, at, pods, pods_slice, servers, signal, tcp_reaches, tcp_refused, udp_reaches};

/// A listener of a Service moves, and one of its endpoints is removed, in one change. The listener that stays gives the removed one
/// no client once the new listener serves, and it never was to wait for the reload.
async fn listener_and_endpoint(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(3)?, servers(3)?);
    let web = |udp| {
        let both = service("web").ask().lbex("upstream-type", "pod").tcp("tcp", 80, 0).udp("udp", 80, 0);
        both.listen("tcp", ports[0]).listen("udp", udp)
    };
    let world = World::start(nginx, [&web(ports[1]) as _, &pods_slice("web", &servers) as _]).await?;
    tcp_reaches(at(ports[0]), &["a", "b", "c"]).await?;
    let before = Counts::of(&world.lbex).await?;
    world.put([&web(ports[2]) as _, &pods_slice("web", &servers[..2]) as _])?;
    eventually("the moved listener serves", SOON, || udp_ask(at(ports[2]), "moved", ANSWER)).await?;
    let seen = (servers[2].connections(), servers[2].datagrams());
    for _ in 0..30 {
        tcp_ask(at(ports[0])).await?;
        udp_ask(at(ports[2]), "after", ANSWER).await?;
    }
    world.wait_applied().await?;
    for _ in 0..30 {
        tcp_ask(at(ports[0])).await?;
        udp_ask(at(ports[2]), "applied", ANSWER).await?;
    }
    let now = (servers[2].connections(), servers[2].datagrams());
    ensure!(now == seen, "the removed endpoint got {now:?} clients instead of {seen:?}");
    before.then(&world.lbex, 0, 1).await?;

    // Back, and pushed as ever after.
    world.put([&web(ports[2]) as _, &pods_slice("web", &servers) as _])?;
    tcp_reaches(at(ports[0]), &["a", "b", "c"]).await?;
    udp_reaches(at(ports[2]), &["a", "b", "c"]).await?;
    before.then(&world.lbex, 1, 1).await
}

/// While a reload for one Service hangs, another one's endpoint changes arrive, and so does the removal of an endpoint of the
/// Service that the reload is for.
async fn a_reload_holds_nothing_up(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(3)?, servers(3)?);
    let (web, other, new) = (pods("web", ports[0]), pods("other", ports[1]), pods("new", ports[2]));
    let moved = service("other").ask().lbex("upstream-type", "pod").tcp("tcp", 80, 0).listen("tcp", ports[1]);
    let slices =
        |web: usize, other: usize| (pods_slice("web", [&servers[web]]), pods_slice("other", [&servers[other]]));
    let (a, b) = slices(0, 0);
    let world = World::start(nginx, [&web as _, &a as _, &other as _, &b as _]).await?;
    let before = Counts::of(&world.lbex).await?;

    // A stopped master takes no new configuration; its workers serve.
    let master = world.lbex.nginx_pid()?;
    signal(master, Signal::SIGSTOP)?;
    let result = async {
        let new_slice = pods_slice("new", [&servers[2]]);
        // Its UDP listener goes, and its endpoint is another one.
        let (a, b) = slices(0, 1);
        world.put([&web as _, &a as _, &moved as _, &b as _, &new as _, &new_slice as _])?;
        // What waits for the reload waits longer: the master does not go on before the end.
        let (begin, slow) = (Instant::now(), Duration::from_secs(10));
        eventually("the endpoint is replaced", SOON, || is(ports[1], "b")).await?;
        ensure!(begin.elapsed() < slow, "a replaced endpoint took {:?}", begin.elapsed());
        for round in 0..20 {
            let (a, b) = slices(1 + round % 2, 1);
            let begin = Instant::now();
            world.put([&web as _, &a as _, &moved as _, &b as _, &new as _, &new_slice as _])?;
            eventually("a push arrives", SOON, || is(ports[0], servers[1 + round % 2].name())).await?;
            ensure!(begin.elapsed() < slow, "a push took {:?}", begin.elapsed());
        }
        // What takes the next reload waits for it, and the endpoints of the same change do not.
        let (a, b) = slices(2, 0);
        let begin = Instant::now();
        world.put([&web as _, &a as _, &other as _, &b as _, &new as _, &new_slice as _])?;
        eventually("the endpoint is replaced again", SOON, || is(ports[1], "a")).await?;
        ensure!(begin.elapsed() < slow, "a replaced endpoint took {:?}", begin.elapsed());
        ensure!(tcp_ask(at(ports[2])).await.is_err(), "the reload did not wait");
        Ok(())
    }
    .await;
    signal(master, Signal::SIGCONT)?;
    result?;
    tcp_reaches(at(ports[2]), &["c"]).await?;
    tcp_reaches(at(ports[0]), &["c"]).await?;
    tcp_reaches(at(ports[1]), &["a"]).await?;
    udp_reaches(at(ports[1]), &["a"]).await?;
    before.then(&world.lbex, 20, 2).await?;
    world.put([&web as _])?;
    tcp_refused(at(ports[1])).await
}

async fn is(port: u16, name: &str) -> Result<()> {
    let found = tcp_ask(at(port)).await?;
    ensure!(found == name, "{found}");
    Ok(())
}

on_nginx!(Embedded: listener_and_endpoint, a_reload_holds_nothing_up);

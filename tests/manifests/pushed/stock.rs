//! An NGINX without LBEX's changes: pushed within a second or so, and what cannot be pushed is reloaded.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lbex_test_harness::backends::tcp_ask_from;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::service;
use lbex_test_harness::ports::{free_port, free_ports};
use lbex_test_harness::wait::{SOON, eventually};
use serde_json::json;

use super::load::Held;
use super::{Counts, on_nginx};
use crate::support::{World, at, local, pods, pods_slice, servers, tcp_closes, tcp_reaches, udp_reaches, udp_silent};

/// A second, and more for a machine that is busy with other tests. What is not pushed and not reloaded comes after eleven.
const SECOND: Duration = Duration::from_secs(8);

/// Changes, none, some again, and a restart of LBEX: no reload, and what is there stays.
async fn takes_changes(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(3)?);
    let tcp = service("tcp").ask().lbex("upstream-type", "pod").tcp("tcp", 80, 0).listen("tcp", ports[0]);
    let udp = service("udp").ask().lbex("upstream-type", "pod").udp("udp", 80, 0).listen("udp", ports[1]);
    let put = |world: &World, of_tcp: &[usize], of_udp: &[usize]| {
        let slice = |name, which: &[usize]| pods_slice(name, which.iter().map(|index| &servers[*index]));
        world.put([&tcp as _, &slice("tcp", of_tcp) as _, &udp as _, &slice("udp", of_udp) as _])
    };
    let slices = ["tcp", "udp"].map(|name| pods_slice(name, &servers[..2]));
    let mut world = World::start(nginx, [&tcp as _, &slices[0] as _, &udp as _, &slices[1] as _]).await?;
    let mut held = Held::default();
    held.hold_tcp(at(ports[0]), "a", 2).await?;
    held.hold_udp(at(ports[1]), "a", 2).await?;
    let before = Counts::of(&world.lbex).await?;
    let begin = Instant::now();
    put(&world, &[0, 1, 2], &[0, 1, 2])?;
    tcp_reaches(at(ports[0]), &["a", "b", "c"]).await?;
    udp_reaches(at(ports[1]), &["a", "b", "c"]).await?;
    ensure!(begin.elapsed() < SECOND, "pushed within {:?}", begin.elapsed());
    held.check().await?;

    put(&world, &[], &[0, 1, 2])?;
    tcp_closes(at(ports[0])).await?;
    world.wait_applied().await?;
    let begin = Instant::now();
    put(&world, &[0, 1], &[0, 1])?;
    tcp_reaches(at(ports[0]), &["a", "b"]).await?;
    udp_reaches(at(ports[1]), &["a", "b"]).await?;
    ensure!(begin.elapsed() < SECOND, "TCP is back after {:?}", begin.elapsed());
    before.only_pushed(&world.lbex, 3).await?;
    held.check().await?;

    let pids = world.nginx_pids();
    world.lbex.terminate().await?;
    world.lbex.start_again()?;
    world.lbex.wait_healthy().await?;
    world.wait_applied().await?;
    put(&world, &[0, 2], &[0, 2])?;
    tcp_reaches(at(ports[0]), &["a", "c"]).await?;
    udp_reaches(at(ports[1]), &["a", "c"]).await?;
    Counts { pushes: 0.0, late: 0.0, reloads: 0.0 }.only_pushed(&world.lbex, 1).await?;
    ensure!(world.nginx_pids() == pids, "{pids:?}, then {:?}", world.nginx_pids());
    Ok(())
}

/// Ten changes a second, when NGINX asks once in a second: it has one of them each time, and all count as taken.
async fn takes_many_changes(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(3)?);
    let web = pods("web", port);
    let slice = |round: usize| pods_slice("web", [&servers[0], &servers[1 + round % 2]]);
    let world = World::start(nginx, [&web as _, &slice(0) as _]).await?;
    let before = Counts::of(&world.lbex).await?;
    // More than LBEX waits for one of them.
    for round in 1..=80 {
        world.put([&web as _, &slice(round) as _])?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tcp_reaches(at(port), &["a", "b"]).await?;
    udp_reaches(at(port), &["a", "b"]).await?;
    before.only_pushed(&world.lbex, 40).await
}

/// A UDP Service that loses its last endpoint: NGINX asks again after eleven seconds only, for which nobody waits. It takes a
/// reload, and so does what comes next.
async fn udp_without_endpoints_takes_a_reload(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(2)?);
    let web = pods("web", port);
    let world = World::start(nginx, [&web as _, &pods_slice("web", &servers) as _]).await?;
    world.put([&web as _, &pods_slice("web", []) as _])?;
    tcp_closes(at(port)).await?;
    udp_silent(at(port)).await?;
    world.lbex.wait_log("did not get their changed endpoints without a reload", SOON).await?;
    world.wait_applied().await?;
    let begin = Instant::now();
    world.put([&web as _, &pods_slice("web", &servers) as _])?;
    udp_reaches(at(port), &["a", "b"]).await?;
    tcp_reaches(at(port), &["a", "b"]).await?;
    ensure!(begin.elapsed() < SECOND, "UDP is back after {:?}", begin.elapsed());
    Ok(())
}

/// Affinity to pushed endpoints is not to be had: such a Service is reloaded, and the others are pushed.
async fn affinity_takes_reloads(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(3)?);
    let sticky = pods("sticky", ports[0]).spec(json!({"sessionAffinity": "ClientIP"}));
    let other = pods("other", ports[1]);
    let slices = |from: usize| (pods_slice("sticky", &servers[from..]), pods_slice("other", &servers[from..]));
    let (of_sticky, of_other) = slices(0);
    let world = World::start(nginx, [&sticky as _, &of_sticky as _, &other as _, &of_other as _]).await?;
    let one_each = async |without: &str| {
        for client in (1..=20).map(|n| local(20, n)) {
            let name = tcp_ask_from(client, at(ports[0])).await?;
            ensure!(name != without, "{client} reaches {name}");
            for _ in 0..4 {
                let again = tcp_ask_from(client, at(ports[0])).await?;
                ensure!(again == name, "{client} reaches {name}, then {again}");
            }
        }
        Ok(())
    };
    one_each("nobody").await?;
    let before = Counts::of(&world.lbex).await?;
    let (of_sticky, of_other) = slices(1);
    world.put([&sticky as _, &of_sticky as _, &other as _, &of_other as _])?;
    tcp_reaches(at(ports[1]), &["b", "c"]).await?;
    eventually("clients have servers that are left", SOON, || one_each("a")).await?;
    // What was pushed may be there before what takes a reload.
    before.then(&world.lbex, 1, 1).await?;
    world.wait_applied().await?;
    one_each("a").await
}

on_nginx!(
    Stock: takes_changes, takes_many_changes, udp_without_endpoints_takes_a_reload, affinity_takes_reloads
);

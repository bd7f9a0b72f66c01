//! An NGINX without LBEX's changes: pushed within a second or so, and what cannot be pushed is reloaded.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lbex_test_harness::backends::tcp_ask_from;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::ports::{free_port, free_ports};
use lbex_test_harness::wait::{SOON, eventually};
use serde_json::json;

use super::load::Held;
use super::{Counts, on_nginx};
use crate::support::{World, at, local, pods, pods_slice, servers, tcp_closes, tcp_reaches, udp_reaches, udp_silent};

/// A second, and as much again for a machine that runs other tests.
const SECOND: Duration = Duration::from_secs(4);

/// Changes, none, some again, and a restart of LBEX: no reload, and what is there stays.
async fn takes_changes(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(3)?);
    let web = pods("web", port);
    let mut world = World::start(nginx, [&web as _, &pods_slice("web", &servers[..2]) as _]).await?;
    let mut held = Held::default();
    held.hold_tcp(at(port), "a", 2).await?;
    held.hold_udp(at(port), "a", 2).await?;
    let before = Counts::of(&world.lbex).await?;
    let begin = Instant::now();
    world.put([&web as _, &pods_slice("web", &servers) as _])?;
    tcp_reaches(at(port), &["a", "b", "c"]).await?;
    udp_reaches(at(port), &["a", "b", "c"]).await?;
    ensure!(begin.elapsed() < SECOND, "pushed within {:?}", begin.elapsed());
    held.check().await?;

    world.put([&web as _, &pods_slice("web", []) as _])?;
    tcp_closes(at(port)).await?;
    udp_silent(at(port)).await?;
    world.wait_applied().await?;
    let begin = Instant::now();
    world.put([&web as _, &pods_slice("web", &servers[..2]) as _])?;
    tcp_reaches(at(port), &["a", "b"]).await?;
    ensure!(begin.elapsed() < SECOND, "TCP is back after {:?}", begin.elapsed());
    // An answer without addresses is held against the name for eleven seconds.
    udp_reaches(at(port), &["a", "b"]).await?;
    before.only_pushed(&world.lbex, 3).await?;

    let pids = world.nginx_pids();
    world.lbex.terminate().await?;
    world.lbex.start_again()?;
    world.lbex.wait_healthy().await?;
    world.wait_applied().await?;
    world.put([&web as _, &pods_slice("web", [&servers[0], &servers[2]]) as _])?;
    tcp_reaches(at(port), &["a", "c"]).await?;
    udp_reaches(at(port), &["a", "c"]).await?;
    Counts { pushes: 0.0, late: 0.0, reloads: 0.0 }.only_pushed(&world.lbex, 1).await?;
    ensure!(world.nginx_pids() == pids, "{pids:?}, then {:?}", world.nginx_pids());
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
    world.wait_applied().await?;
    one_each("a").await?;
    before.then(&world.lbex, 1, 1).await
}

on_nginx!(Stock: takes_changes, affinity_takes_reloads);

//! LBEX is killed at any moment of a storm of changes.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::Object;
use lbex_test_harness::ports::free_ports;

use super::load::{Held, Load};
use super::{Counts, on_nginx};
use crate::support::{World, at, pods, pods_slice, servers, tcp_reaches, tcp_refused, udp_reaches};

/// Kills that are spread over what an LBEX does in its first moments and later.
const MOMENTS: [u64; 8] = [30, 80, 150, 250, 400, 600, 900, 1_500];

/// Endpoints change all the time, now and then a Service comes or goes, and LBEX is killed and started again. No connection or UDP
/// session with an endpoint that stays is cut, no client fails, and in the end what is wanted is served.
async fn at_any_moment(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(4)?, servers(3)?);
    let names = ["s0", "s1", "s2", "s3"];
    let services: Vec<_> = names.iter().zip(&ports).map(|(name, port)| pods(name, *port)).collect();
    let put = |world: &World, round: usize, count: usize| {
        let moving = &servers[1 + round % 2];
        let slices: Vec<_> = names.iter().map(|name| pods_slice(name, [&servers[0], moving])).collect();
        let services = services[..count].iter().map(|one| one as &dyn Object);
        world.put(services.chain(slices[..count].iter().map(|one| one as _)))
    };
    let slice = pods_slice("s0", &servers[..1]);
    let mut world = World::start(nginx, [&services[0] as _, &slice as _]).await?;
    put(&world, 0, 3)?;
    for port in &ports[..3] {
        tcp_reaches(at(*port), &["a", "b"]).await?;
    }
    world.wait_applied().await?;
    let mut held = Held::default();
    for port in &ports[..3] {
        held.hold_tcp(at(*port), "a", 2).await?;
    }
    let load = Load::both(&ports[..3].iter().map(|port| at(*port)).collect::<Vec<_>>());
    let mut round = 0;
    for moment in MOMENTS {
        let until = tokio::time::Instant::now() + Duration::from_millis(moment);
        while tokio::time::Instant::now() < until {
            round += 1;
            // The fourth one is there in half of the time.
            put(&world, round, 3 + (round / 8) % 2)?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.lbex.kill().await?;
        held.check().await?;
        world.lbex.start_again()?;
    }
    world.lbex.wait_healthy().await?;
    put(&world, 1, 3)?;
    for port in &ports[..3] {
        tcp_reaches(at(*port), &["a", "c"]).await?;
        udp_reaches(at(*port), &["a", "c"]).await?;
    }
    tcp_refused(at(ports[3])).await?;
    world.wait_applied().await?;
    held.check().await?;
    let served = load.finish().await?;
    ensure!(served > 100, "{served} clients were served");
    let before = Counts::of(&world.lbex).await?;
    put(&world, 2, 3)?;
    tcp_reaches(at(ports[0]), &["a", "b"]).await?;
    before.only_pushed(&world.lbex, 1).await
}

on_nginx!(Embedded: at_any_moment);

//! Thousands of changes under load.

use anyhow::{Result, ensure};
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::Object;
use lbex_test_harness::ports::free_ports;

use super::load::{Held, Load};
use super::{Counts, on_nginx};
use crate::support::{LONG, World, at, error_log, pods, pods_slice, servers, tcp_reaches, udp_reaches};

/// Services that change at the same time.
const SERVICES: usize = 10;

/// 2,000 changes of endpoints ([`LONG`]: 10,000): no reload; no client fails; connections and UDP sessions with endpoints that stay
/// are where they were.
async fn changes_under_load(nginx: Nginx) -> Result<()> {
    let rounds: u16 = if std::env::var_os(LONG).is_some() { 1_000 } else { 200 };
    let (ports, servers) = (free_ports(SERVICES)?, servers(3)?);
    let names: Vec<String> = (0..SERVICES).map(|n| format!("s{n}")).collect();
    let services: Vec<_> = names.iter().zip(&ports).map(|(name, port)| pods(name, *port)).collect();
    // The first one stays, the other one is in turn one of two.
    let slices = |round: u16| -> Vec<_> {
        let moving = &servers[1 + usize::from(round % 2)];
        names.iter().map(|name| pods_slice(name, [&servers[0], moving])).collect()
    };
    let first = slices(0);
    let objects = services.iter().map(|one| one as &dyn Object).chain(first.iter().map(|one| one as _));
    // Each UDP client of the last seconds has a port of the host's: in a minute, these would be more than there are.
    let flags = ["--reload-interval=100ms", "--udp-idle-timeout=20s"];
    let world = World::start_with(nginx, &flags, objects).await?;

    let mut held = Held::default();
    for port in &ports {
        held.hold_tcp(at(*port), "a", 3).await?;
        held.hold_udp(at(*port), "a", 3).await?;
    }
    let (before, log) = (Counts::of(&world.lbex).await?, error_log(&world.lbex)?);
    let load = Load::both(&ports.iter().map(|port| at(*port)).collect::<Vec<_>>());
    for round in 1..=rounds {
        let slices = slices(round);
        world.put(services.iter().map(|one| one as &dyn Object).chain(slices.iter().map(|one| one as _)))?;
        let moving = servers[1 + usize::from(round % 2)].name();
        tcp_reaches(at(ports[usize::from(round) % SERVICES]), &["a", moving]).await?;
        world.wait_applied().await?;
        if round % 10 == 0 {
            held.check().await?;
        }
    }
    held.check().await?;
    let repeated = load.repeated();
    let served = load.finish().await?;
    for port in &ports {
        tcp_reaches(at(*port), &["a", "b"]).await?;
        udp_reaches(at(*port), &["a", "b"]).await?;
    }
    before.only_pushed(&world.lbex, rounds.into()).await?;
    ensure!(repeated == 0, "{repeated} questions over UDP had no answer");
    ensure!(served > usize::from(rounds), "{served} clients were served");
    let said = error_log(&world.lbex)?;
    ensure!(said.len() == log.len(), "NGINX says: {}", &said[log.len()..]);
    eprintln!("{} changes, {served} clients served meanwhile", usize::from(rounds) * SERVICES);
    Ok(())
}

on_nginx!(Embedded: changes_under_load);

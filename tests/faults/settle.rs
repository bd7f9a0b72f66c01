//! After everything is healed: what is served equals the oracle's plan, and nothing is left over.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lbex_core::model::Protocol;
use lbex_test_harness::backends::{tcp_ask, udp_ask};
use lbex_test_harness::wait::eventually;

use crate::oracle::{Plan, plan};
use crate::world::{HEALED, World};

/// How often a listener is asked until each of its few servers had a turn, whichever worker answers.
const ASKS: usize = 60;

/// How long silence over UDP is listened to.
const SILENCE: Duration = Duration::from_millis(200);

/// Everybody's name for what a listener does.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Refused,
    /// Accepted and closed at once, or silent: no endpoints.
    Nobody,
    Servers(BTreeSet<String>),
}

/// Waits until LBEX says that it is done, and all listeners answer as the oracle plans.
pub(crate) async fn is_as_planned(world: &World) -> Result<()> {
    let plan = plan(&world.cluster.objects())?;
    let services = plan.keys().map(|(_, port)| port).collect::<BTreeSet<_>>().len();
    eventually("LBEX is done", HEALED, || says_so(world, services)).await?;
    let ports = world.services.iter().map(|served| served.port).chain(world.spare_ports.iter().copied());
    for port in ports {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let expected = expected(world, &plan, protocol, port)?;
            let what = format!("{protocol} {port} is as planned");
            eventually(&what, HEALED, || async {
                let seen = look(protocol, port, &expected).await?;
                ensure!(seen == expected, "{seen:?}, planned is {expected:?}");
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

/// By health and metrics.
async fn says_so(world: &World, services: usize) -> Result<()> {
    let lbex = world.lbex().await;
    for path in ["/", "/readyz", "/livez"] {
        let answer = lbex.get(path).await?;
        ensure!(answer.status == 200, "{path}: {} {:?}", answer.status, answer.body);
    }
    let metric = async |name: &str| lbex.metric(name, &[]).await?.with_context(|| format!("no {name}"));
    let planned = metric("lbex_desired_generation").await?;
    let pushed = lbex.metric("lbex_push_names", &[("state", "behind")]).await?;
    let services = f64::from(u32::try_from(services)?);
    for (name, expected) in [
        ("lbex_source_connected", 1.0),
        ("lbex_removals_held", 0.0),
        ("lbex_cluster_held", 0.0),
        ("lbex_proxy_healthy", 1.0),
        ("lbex_applied_generation", planned),
        ("lbex_services_served", services),
        ("lbex_refusals", 0.0),
    ] {
        let value = lbex.metric(name, &[]).await?.unwrap_or_default();
        ensure!((value - expected).abs() < 0.5, "{name} is {value}, not {expected}");
    }
    ensure!(pushed.unwrap_or_default() < 0.5, "{pushed:?} names are behind");
    Ok(())
}

/// What a listener should do.
fn expected(world: &World, plan: &Plan, protocol: Protocol, port: u16) -> Result<Seen> {
    let Some(servers) = plan.get(&(protocol, port)) else { return Ok(Seen::Refused) };
    let name = |address: &SocketAddr| {
        let mut all = world.services.iter().flat_map(|served| &served.servers);
        let server = all.find(|server| server.address() == *address);
        server.map(|server| server.name().to_owned()).with_context(|| format!("nobody is at {address}"))
    };
    let names: BTreeSet<_> = servers.iter().map(name).collect::<Result<_>>()?;
    Ok(if names.is_empty() { Seen::Nobody } else { Seen::Servers(names) })
}

/// What it does, looked at until it can be told from what is expected.
async fn look(protocol: Protocol, port: u16, expected: &Seen) -> Result<Seen> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut names = BTreeSet::new();
    for _ in 0..ASKS {
        let asked = match protocol {
            Protocol::Tcp => tcp_ask(at).await,
            Protocol::Udp => {
                let patience = if matches!(expected, Seen::Servers(_)) { SILENCE * 10 } else { SILENCE };
                udp_ask(at, "who", patience).await
            }
        };
        match asked {
            Ok(name) => names.insert(name),
            Err(error) if names.is_empty() => match error.kind() {
                ErrorKind::ConnectionRefused => return Ok(Seen::Refused),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::TimedOut => return Ok(Seen::Nobody),
                _ => bail!("{error}"),
            },
            Err(error) => bail!("{names:?}, then {error}"),
        };
        if matches!(expected, Seen::Servers(all) if *all == names) {
            // And as often again, in case that there is one too many.
            for _ in 0..names.len() * 2 {
                names.insert(match protocol {
                    Protocol::Tcp => tcp_ask(at).await?,
                    Protocol::Udp => udp_ask(at, "who", SILENCE * 10).await?,
                });
            }
            break;
        }
    }
    Ok(Seen::Servers(names))
}

/// Waits until no worker is left that serves nobody, and no file is left that nothing needs.
pub(crate) async fn nothing_is_left(world: &World) -> Result<()> {
    eventually("nothing is left over", HEALED, || async {
        let nginx = world.nginx();
        let masters = nginx.iter().filter(|process| process.is_master()).count();
        let draining: Vec<_> = nginx.iter().filter(|process| process.is_shutting_down()).collect();
        ensure!(masters == 1 && draining.is_empty(), "{nginx:?}");
        let prefix = world.disk.prefix();
        let main = std::fs::read_to_string(prefix.join("conf/nginx.conf"))?;
        let files = |folder: &str| -> Result<BTreeSet<String>> {
            let entries = std::fs::read_dir(prefix.join(folder)).with_context(|| format!("no {folder}"))?;
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        };
        let include =
            |line: &str| Some(line.trim().strip_prefix("include ../services/")?.strip_suffix(';')?.to_owned());
        let included: BTreeSet<_> = main.lines().filter_map(include).collect();
        let there = files("services")?;
        ensure!(there == included, "files of Services: {there:?}, included are {included:?}");
        for (folder, known) in [
            ("conf", &["nginx.conf", "last-good.conf", "candidate.conf"][..]),
            ("run", &["nginx.pid", "generation.sock", "known", "questions"]),
            ("state", &["last-good.json"]),
        ] {
            let unknown: Vec<_> = files(folder)?.into_iter().filter(|file| !known.contains(&file.as_str())).collect();
            ensure!(unknown.is_empty(), "{folder} has {unknown:?} too");
        }
        Ok(())
    })
    .await
}

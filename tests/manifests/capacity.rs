//! How much goes through: many clients at once, and more Services than files may be opened for.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbex_test_harness::backends::{Conversation, Echo, tcp_ask, udp_ask_from};
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::{list, service};
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::{free_port, free_ports};
use lbex_test_harness::process::tail;
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::task::JoinSet;

use crate::support::{LONG, Manifests, World, alone, at, lbex_on, local, pods, pods_slice, servers};

/// TCP connections that stay open.
const HELD: usize = 2_000;

/// UDP clients with one datagram each.
const ONE_SHOT: usize = 50_000;

/// UDP clients that wait for their answer at one time, at the most.
const AT_ONCE: usize = 32;

/// 2,000 held TCP connections and 50,000 UDP clients with one question each: every one of them gets its answer.
///
/// With [`LONG`] it takes the three minutes that the numbers are meant for: 50,000 UDP clients within 180 s, their sessions kept for
/// 60 s. Otherwise time runs nine times as fast: there are as many sessions at once.
///
/// Each UDP session has a port of the host's own towards its endpoint, and no other session of the host has that port, whatever the
/// endpoint: some 28,000 sessions at one time, unless `net.ipv4.ip_local_port_range` is widened. A network namespace has ports of
/// its own, so as root everything happens inside one, and what else runs on the host does not matter.
async fn clients(nginx: Nginx) -> Result<()> {
    alone(|| serve_all(nginx)).await
}

async fn serve_all(nginx: Nginx) -> Result<()> {
    let (over, idle) = if std::env::var_os(LONG).is_some() { (180, "60s") } else { (20, "6667ms") };
    raise_file_limit()?;
    let (port, servers) = (free_port()?, servers(4)?);
    let flags = [format!("--udp-idle-timeout={idle}")];
    let objects = [&pods("web", port) as _, &pods_slice("web", &servers) as _];
    let world = World::start_with(nginx, &[&flags[0]], objects).await?;
    let mut held = hold(at(port), HELD).await?;
    let begin = Instant::now();
    let error_log = world.lbex.prefix().join("logs/error.log");
    let asked = one_shots(at(port), Duration::from_secs(over)).await;
    asked.with_context(|| format!("after {:?}; NGINX says: {}", begin.elapsed(), tail(&error_log)))?;
    eprintln!("{HELD} TCP connections held, {ONE_SHOT} UDP clients served within {:?}", begin.elapsed());

    for connection in &mut held {
        connection.say("still here").await.context("a held connection is gone")?;
    }
    assert_eq!(servers.iter().map(Echo::datagrams).sum::<usize>(), ONE_SHOT);
    for server in &servers {
        assert_eq!(server.open_connections(), HELD / servers.len());
        // Nearly even: some clients have by chance the address and port of an earlier one, and so its session.
        let (have, even) = (server.datagrams(), ONE_SHOT / servers.len());
        assert!(have.abs_diff(even) < even / 50, "{} has {have} of them", server.name());
    }
    let log = std::fs::read_to_string(error_log)?;
    assert!(!log.contains("[alert]") && !log.contains("[crit]") && !log.contains("not enough"), "{log}");
    assert_eq!(world.lbex.get("/").await?.status, 200);
    Ok(())
}

/// Clients and servers of all tests are in this process.
pub(crate) fn raise_file_limit() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("failed to raise the limit on open files")
}

/// Opens that many connections, 50 at one time.
pub(crate) async fn hold(server: SocketAddr, count: usize) -> Result<Vec<Conversation>> {
    let mut held = Vec::new();
    for batch in 0..count / 50 {
        let opening: Vec<_> = (0..50).map(|_| tokio::spawn(Conversation::open(server))).collect();
        for connection in opening {
            held.push(connection.await?.with_context(|| format!("a connection after {batch} times 50"))?);
        }
    }
    Ok(held)
}

/// Spread evenly over that time, or slower where the machine is.
async fn one_shots(server: SocketAddr, over: Duration) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let mut askers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let next = next.clone();
        askers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number >= ONE_SHOT {
                    return io::Result::Ok(());
                }
                let at = over.mul_f64(f64::from(u32::try_from(number).unwrap_or(u32::MAX)) / 50_000.0);
                tokio::time::sleep_until((begin + at).into()).await;
                // Many addresses: a port that comes again on the same one would be the same client again.
                let client = local(30, u8::try_from(number % 250).unwrap_or_default());
                udp_ask_from((client, 0).into(), server, &number.to_string(), Duration::from_secs(10)).await?;
            }
        });
    }
    while let Some(asker) = askers.join_next().await {
        asker?.with_context(|| format!("one of about {} clients", next.load(Ordering::SeqCst)))?;
    }
    Ok(())
}

/// 1,000 Services, and 1,024 files for each process: what fits is served, the rest is told in numbers why not.
async fn file_limit(nginx: Nginx) -> Result<()> {
    alone(|| files_are_short(nginx)).await
}

async fn files_are_short(nginx: Nginx) -> Result<()> {
    const SERVICES: usize = 1_000;
    let (ports, server) = (free_ports(SERVICES)?, Echo::new("a").start()?);
    let manifests = Manifests::new()?;
    let services: Vec<_> = ports
        .iter()
        .enumerate()
        .map(|(n, port)| {
            let one = service(&format!("s{n:03}")).ask().lbex("upstream-type", "cluster-ip");
            let ip = server.address().ip().to_string();
            one.tcp("tcp", server.port(), 0).listen("tcp", *port).spec(serde_json::json!({"clusterIP": ip}))
        })
        .collect();
    manifests.write("all.json", &list(services.iter().map(|service| service as _)))?;
    let prlimit = ["/usr/bin/prlimit", "--nofile=1024:1024"];
    let lbex = lbex_on(&manifests, nginx).arg("--listen-address=127.0.0.1").under(prlimit).start().await?;
    lbex.wait_healthy().await?;
    let (served, refused) = eventually("each is either served or refused", SOON, || counts(&lbex, SERVICES)).await?;

    // The numbers are true.
    let mut answers = BTreeMap::new();
    for port in &ports {
        let answer = tcp_ask(at(*port)).await.map_err(|error| error.kind());
        *answers.entry(answer.map_err(|kind| format!("{kind:?}"))).or_insert(0_usize) += 1;
    }
    let expected = [(Ok("a".to_owned()), served), (Err("ConnectionRefused".to_owned()), refused)];
    assert_eq!(answers, BTreeMap::from(expected));
    assert_eq!(lbex.get("/").await?.status, 200);
    // With 1,024 files there is room for most.
    assert!(served > 700, "{served} are served, {refused} refused");
    let line = lbex.wait_log("reason=FileLimit", SOON).await?;
    for word in ["files per process", "LimitNOFILE", "ulimit -n"] {
        assert!(line.contains(word), "no {word:?} in: {line}");
    }
    let line = lbex.wait_log("NGINX may open 1024 files per process", SOON).await?;
    assert!(line.contains("room for"), "{line}");
    eprintln!("of {SERVICES} Services {served} are served and {refused} refused");
    Ok(())
}

async fn counts(lbex: &Lbex, services: usize) -> Result<(usize, usize)> {
    let metric = async |name: &str, labels: &[(&str, &str)]| -> Result<usize> {
        let value = lbex.metric(name, labels).await?.unwrap_or_default();
        Ok(format!("{value:.0}").parse()?)
    };
    let served = metric("lbex_services_served", &[]).await?;
    let refused = metric("lbex_refusals", &[("code", "FileLimit")]).await?;
    // All count as served between the report and what it refuses.
    ensure!(refused > 0 && served + refused == services, "{served} served, {refused} refused");
    Ok((served, refused))
}

on_each_nginx!(clients, file_limit);

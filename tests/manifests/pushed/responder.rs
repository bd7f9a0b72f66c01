//! The port where LBEX answers NGINX: somebody else has it, or wants to.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::backends::tcp_ask;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::SOON;
use nix::unistd::geteuid;

use super::load::{Held, Load};
use super::{Counts, on_nginx};
use crate::support::{World, at, pods, pods_slice, servers, tcp_reaches, udp_reaches};

/// Where NGINX asks, by its configuration.
fn asked(lbex: &Lbex) -> Result<SocketAddr> {
    let path = lbex.prefix().join("conf/nginx.conf");
    let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("resolver ")).context("no resolver")?;
    let address = line.split([' ', ';']).next().unwrap_or(line);
    address.parse().with_context(|| format!("{address:?}"))
}

/// Somebody takes the port while LBEX is away: LBEX answers at another one, which takes a reload and a warning; traffic goes on.
async fn taken(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(3)?);
    let web = pods("web", port);
    let mut world = World::start(nginx, [&web as _, &pods_slice("web", &servers[..2]) as _]).await?;
    let mut held = Held::default();
    held.hold_tcp(at(port), "a", 3).await?;
    let mut load = Load::both(&[at(port)]);
    let before = asked(&world.lbex)?;
    world.lbex.terminate().await?;
    let _other = UdpSocket::bind(before).with_context(|| format!("failed to bind {before}"))?;
    load.goes_on(20).await?;
    let mark = world.lbex.log_mark();
    world.lbex.start_again()?;
    world.lbex.wait_healthy().await?;
    world.wait_applied().await?;
    let line = world.lbex.wait_log_since(mark, &before.to_string(), SOON).await?;
    ensure!(line.contains("another port is used"), "{line}");
    let now = asked(&world.lbex)?;
    ensure!(now != before && now.ip().is_loopback(), "{before}, then {now}");
    let start = Counts { pushes: 0.0, late: 0.0, reloads: 0.0 };
    start.then(&world.lbex, 0, 1).await?;

    world.put([&web as _, &pods_slice("web", [&servers[0], &servers[2]]) as _])?;
    tcp_reaches(at(port), &["a", "c"]).await?;
    udp_reaches(at(port), &["a", "c"]).await?;
    start.then(&world.lbex, 1, 1).await?;
    held.check().await?;
    load.finish().await.map(drop)
}

/// LBEX is away, and a local user wants NGINX to send clients elsewhere. As root LBEX has a port that ordinary users cannot have,
/// and what comes from another one NGINX does not hear.
async fn somebody_else_answers(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(2)?);
    let web = pods("web", port);
    let mut world = World::start(nginx, [&web as _, &pods_slice("web", &servers[..1]) as _]).await?;
    let responder = asked(&world.lbex)?;
    let before = world.nginx_pids();
    world.lbex.terminate().await?;
    if geteuid().is_root() {
        ensure!(responder.port() < 1024, "NGINX asks {responder}");
        let error = bind_as_nobody(responder)?;
        ensure!(error.contains("Permission denied"), "{error}");
    }
    let name = format!("{}.{port}.tcp.default.web.lbex", servers[0].port());
    let nginx_sockets = asking(responder)?;
    ensure!(!nginx_sockets.is_empty(), "no socket of NGINX's is connected to {responder}");
    let stranger = UdpSocket::bind("127.0.0.1:0")?;
    for socket in &nginx_sockets {
        for id in 0..=u16::MAX {
            // A full queue of the receiver, or nobody at this address, is no concern here.
            stranger.send_to(&answer(id, &name, [127, 0, 10, 2]), socket).ok();
        }
    }
    for _ in 0..50 {
        let name = tcp_ask(at(port)).await?;
        ensure!(name == "a", "a client reached {name}");
    }
    world.lbex.start_again()?;
    world.lbex.wait_healthy().await?;
    world.wait_applied().await?;
    ensure!(world.nginx_pids() == before, "{before:?}, then {:?}", world.nginx_pids());
    world.put([&web as _, &pods_slice("web", &servers) as _])?;
    tcp_reaches(at(port), &["a", "b"]).await?;
    Counts { pushes: 0.0, late: 0.0, reloads: 0.0 }.only_pushed(&world.lbex, 1).await
}

/// Why a process of an ordinary user cannot bind this address.
fn bind_as_nobody(address: SocketAddr) -> Result<String> {
    let script = "use Socket; socket(S, PF_INET, SOCK_DGRAM, 0) || die $!; \
                  bind(S, sockaddr_in($ARGV[1], inet_aton($ARGV[0]))) || die $!; print 'bound'";
    let mut command = Command::new("/usr/bin/setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
        "/usr/bin/perl",
        "-e",
        script,
    ]);
    let output = command.args([address.ip().to_string(), address.port().to_string()]).output()?;
    ensure!(!output.status.success(), "an ordinary user can bind {address}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The local addresses of UDP sockets that are connected to `peer`, an IPv4 address.
fn asking(peer: SocketAddr) -> Result<Vec<SocketAddr>> {
    let read = |text: &str| -> Option<SocketAddr> {
        let (ip, port) = text.split_once(':')?;
        let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
        Some((ip, u16::from_str_radix(port, 16).ok()?).into())
    };
    // This thread's network namespace may be another one than the process's.
    let table = std::fs::read_to_string("/proc/thread-self/net/udp")?;
    let pairs = table.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        Some((read(words.next()?)?, read(words.next()?)?))
    });
    Ok(pairs.filter(|(_, remote)| *remote == peer).map(|(local, _)| local).collect())
}

/// An answer to the question `id` for the address of `name`.
fn answer(id: u16, name: &str, address: [u8; 4]) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    // An answer without error, with one question and one record.
    message.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend(label.as_bytes());
    }
    // The end of the name, A, IN; then a record of the same name that lasts an hour.
    message.extend([0, 0, 1, 0, 1, 0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4]);
    message.extend(address);
    message
}

on_nginx!(Embedded: taken, somebody_else_answers);

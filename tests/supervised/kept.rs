//! LBEX is away, and its supervisor keeps the sockets on which NGINX asks.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbex_test_harness::lbex::{Builder, Lbex};
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually};
use socket2::{Domain, Socket, Type};

use crate::supervisor::{Supervisor, User};
use crate::support::{Manifests, alone, at, error_log, pods, pods_slice, servers, serving_pids, tcp_reaches};

/// NGINX repeats a question after five seconds: who has no question pushes later than this.
const AT_ONCE: Duration = Duration::from_secs(4);

/// Nobody else can have this port, whatever they try.
fn nobody_can_bind(address: SocketAddr) -> Result<()> {
    for kind in [Type::DGRAM, Type::STREAM] {
        for (reuse_address, reuse_port) in [(false, false), (true, false), (false, true), (true, true)] {
            let socket = Socket::new(Domain::for_address(address), kind, None)?;
            socket.set_reuse_address(reuse_address)?;
            socket.set_reuse_port(reuse_port)?;
            let bound = socket.bind(&address.into()).and_then(|()| match kind {
                Type::STREAM => socket.listen(1),
                _ => Ok(()),
            });
            let error = bound.err().with_context(|| format!("somebody else has {address}"))?;
            ensure!([ErrorKind::AddrInUse, ErrorKind::PermissionDenied].contains(&error.kind()), "{error}");
        }
    }
    Ok(())
}

async fn wait_ready(lbex: &Lbex) -> Result<()> {
    lbex.wait_healthy().await?;
    lbex.wait_ready().await
}

async fn reloads(lbex: &Lbex) -> Result<f64> {
    let name = "lbex_apply_duration_seconds_count";
    Ok(lbex.metric(name, &[("action", "reloaded")]).await?.unwrap_or_default())
}

/// Killed and started again with what was kept: meanwhile nobody gets the port and NGINX sees nothing, and then the first change of
/// endpoints does not wait until NGINX asks again. Without what was kept, a stock NGINX does see something.
async fn over_a_kill(nginx: Nginx, user: User) -> Result<()> {
    let (port, servers) = (free_port()?, servers(3)?);
    let (manifests, supervisor) = (Manifests::new()?, Supervisor::new(user)?);
    let web = pods("web", port);
    let put = |server: usize| manifests.put("all.json", [&web as _, &pods_slice("web", [&servers[server]]) as _]);
    put(0)?;
    let flag = format!("--manifests={}", manifests.path().display());
    let which = format!("--nginx={}", supervisor.nginx(nginx)?);
    let flags = |builder: Builder| builder.args([&flag, &which]);

    let lbex = supervisor.start(flags).await?;
    supervisor.hears("READY=1").await?;
    ensure!(lbex.get("/readyz").await?.status == 200, "not ready");
    supervisor.hears("WATCHDOG=1").await?;
    supervisor.hears("WATCHDOG=1").await?;
    supervisor.keeps(2).await?;
    tcp_reaches(at(port), &["a"]).await?;
    let asked = UdpSocket::from(supervisor.kept("lbex-push-udp")?);
    let address = asked.local_addr()?;
    let workers = serving_pids(&lbex);
    let before = error_log(&lbex)?;
    lbex.kill().await?;

    nobody_can_bind(address)?;
    eventually("NGINX has repeated its question", SOON, || async { asked.peek_from(&mut [0; 512]) }).await?;
    let said = error_log(&lbex)?;
    ensure!(said == before, "NGINX says: {}", said.strip_prefix(&before).unwrap_or(&said));
    nobody_can_bind(address)?;

    drop(lbex);
    let lbex = supervisor.start(flags).await?;
    wait_ready(&lbex).await?;
    supervisor.hears("READY=1").await?;
    lbex.wait_log(&format!("were kept at {address}"), SOON).await?;
    supervisor.keeps(2).await?;
    let begin = Instant::now();
    put(1)?;
    tcp_reaches(at(port), &["b"]).await?;
    let took = begin.elapsed();
    ensure!(took < AT_ONCE, "pushed after {took:?}");
    eprintln!("pushed after {took:?}");
    ensure!(reloads(&lbex).await? < 0.5, "NGINX was reloaded");
    ensure!(serving_pids(&lbex) == workers, "{workers:?}, then {:?}", serving_pids(&lbex));
    lbex.terminate().await?;
    supervisor.hears("STOPPING=1").await?;

    if nginx != Nginx::Stock {
        return Ok(()); // it asks on without a word
    }
    // The same without.
    supervisor.forget();
    drop(asked);
    drop(lbex);
    let lbex = supervisor.start(flags).await?;
    wait_ready(&lbex).await?;
    supervisor.keeps(2).await?;
    tcp_reaches(at(port), &["b"]).await?;
    let before = error_log(&lbex)?;
    lbex.kill().await?;
    supervisor.forget();
    eventually("NGINX meets a closed port", SOON, || async {
        let said = error_log(&lbex)?;
        ensure!(said.len() > before.len(), "nothing is said");
        Ok(())
    })
    .await
}

/// With `--endpoint-updates=reload` nothing is to be kept.
async fn not_needed(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(1)?);
    let (manifests, supervisor) = (Manifests::new()?, Supervisor::new(User::Same)?);
    manifests.put("all.json", [&pods("web", port) as _, &pods_slice("web", &servers) as _])?;
    let flag = format!("--manifests={}", manifests.path().display());
    let lbex = supervisor.start(|builder| builder.arg(&flag).nginx(nginx)).await?;
    wait_ready(&lbex).await?;
    supervisor.keeps(2).await?;
    let address = UdpSocket::from(supervisor.kept("lbex-push-udp")?).local_addr()?;
    lbex.terminate().await?;
    drop(lbex);
    let lbex = supervisor.start(|builder| builder.args([&flag, "--endpoint-updates=reload"]).nginx(nginx)).await?;
    wait_ready(&lbex).await?;
    supervisor.keeps(0).await?;
    tcp_reaches(at(port), &["a"]).await?;
    // Closed in LBEX, too; the copies of whoever handed them over end with this.
    lbex.terminate().await?;
    drop(lbex);
    // A child of another test may have a copy until it runs its program.
    eventually(&format!("{address} is free"), SOON, || async { UdpSocket::bind(address) }).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_kill_as_root_on_stock() -> Result<()> {
    alone(|| over_a_kill(Nginx::Stock, User::Same)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_kill_as_an_ordinary_user_on_stock() -> Result<()> {
    alone(|| over_a_kill(Nginx::Stock, User::Ordinary)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_kill_on_the_embedded_one() -> Result<()> {
    alone(|| over_a_kill(Nginx::Embedded, User::Ordinary)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_given_up_where_endpoints_are_not_pushed() -> Result<()> {
    alone(|| not_needed(Nginx::Embedded)).await
}

//! `make quickstart`: LBEX on this machine, without root, cluster or anything installed.
//!
//! Starts a few small servers that stand for Pods, and LBEX with its own NGINX on a temporary copy of the manifests beside this
//! file; sends requests and shows who answers; then edits the manifests and shows when each change arrives in traffic. Leaves
//! nothing running. Exit code 1, with the reason and the end of LBEX's log, where something does not work.
//!
//! `cargo run --example quickstart [PATH OF lbex]`; without a path, the `lbex` that was built beside it is taken.

mod backends;
mod controller;
mod manifests;
mod traffic;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use backends::{Backends, Protocol, listener_port};
use controller::Controller;
use manifests::{Manifests, Ports};
use traffic::Target;

/// Requests sent to see who answers.
const REQUESTS: usize = 12;
/// Between two changes: NGINX is reloaded once a second at the most (`--reload-interval`), and each change is to be seen alone.
const PAUSE: Duration = Duration::from_millis(1100);
/// The whole of it must be done by then.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().context("failed to start threads");
    match runtime.and_then(|runtime| runtime.block_on(quickstart())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe quickstart failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn quickstart() -> Result<()> {
    let started = Instant::now();
    let binary = binary()?;
    let folder = tempfile::Builder::new().prefix("lbex-quickstart-").tempdir().context("failed to make a folder")?;
    let mut backends = Backends::default();
    let ports = ports(&mut backends).await?;
    let manifests = Manifests::copy_to(folder.path().join("manifests"), ports)?;

    println!("LBEX quickstart: {}", binary.display());
    println!("  manifests in {} (a copy of examples/quickstart)", manifests.folder().display());
    replaced(ports);
    let mut lbex = Controller::start(&binary, manifests.folder(), folder.path()).await?;
    let shown = tokio::select! {
        shown = tokio::time::timeout(LIMIT, show(&mut lbex, &manifests, ports)) => {
            shown.unwrap_or_else(|_| bail!("it took longer than {LIMIT:?}"))
        }
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
    };
    let stopped = match shown {
        Ok(changes) => lbex.stop().await.map(|()| changes),
        Err(error) => Err(error),
    };
    match stopped {
        Ok(changes) => {
            let left = lbex.left();
            ensure!(left.is_empty(), "processes still run after LBEX stopped NGINX: {left:?}");
            summary(&changes, started.elapsed());
            Ok(())
        }
        Err(error) => bail!("{error:#}\n{}", lbex.abandon().await),
    }
}

/// The `lbex` to run: as the command line says, else the one beside this program's folder (`target/debug/examples`).
fn binary() -> Result<PathBuf> {
    let path = if let Some(path) = std::env::args_os().nth(1) {
        PathBuf::from(path)
    } else {
        let own = std::env::current_exe().context("failed to find the folder of this program")?;
        own.parent().and_then(Path::parent).context("this program is in no folder")?.join("lbex")
    };
    ensure!(path.is_file(), "there is no {}; build it with `cargo build --bin lbex`, or give its path", path.display());
    Ok(path)
}

fn loopback(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// Starts the backends and finds free ports for everything.
async fn ports(backends: &mut Backends) -> Result<Ports> {
    let web = [("web-1", loopback(21)), ("web-2", loopback(22)), ("web-3", loopback(23))];
    Ok(Ports {
        web_http: backends.tcp(&web).await?,
        web_https: backends.tcp(&web).await?,
        node: backends.udp(&[("ntp on node-1", loopback(11)), ("ntp on node-2", loopback(12))]).await?,
        ntp: listener_port(Protocol::Udp, 123).await?,
        http: listener_port(Protocol::Tcp, 80).await?,
        https: listener_port(Protocol::Tcp, 443).await?,
        echo: listener_port(Protocol::Tcp, 7000).await?,
    })
}

/// Says which ports of the manifests are others in the copy.
fn replaced(ports: Ports) {
    let listeners = [("UDP 123", 123, ports.ntp), ("TCP 80", 80, ports.http), ("TCP 443", 443, ports.https)];
    let others: Vec<_> = listeners.iter().filter(|(_, wanted, got)| wanted != got).collect();
    if !others.is_empty() {
        let others: Vec<_> = others.iter().map(|(name, _, got)| format!("{name} -> {got}")).collect();
        println!("  ports that need root or are taken are others in the copy: {}", others.join(", "));
    }
}

/// A change and how long it took to arrive.
struct Change {
    what: &'static str,
    took: Duration,
}

async fn show(lbex: &mut Controller, manifests: &Manifests, ports: Ports) -> Result<Vec<Change>> {
    let start = Instant::now();
    lbex.ready().await?;
    println!("\nLBEX and its NGINX serve after {}. Who answers {REQUESTS} requests each:", millis(start.elapsed()));
    let tcp = |port| Target { protocol: Protocol::Tcp, port };
    let ntp = Target { protocol: Protocol::Udp, port: ports.ntp };
    let (http, https, echo) = (tcp(ports.http), tcp(ports.https), tcp(ports.echo));
    answers("ntp", ntp, &["ntp on node-1", "ntp on node-2"]).await?;
    answers("web, port http", http, &["web-1", "web-2"]).await?;
    answers("web, port https", https, &["web-1", "web-2"]).await?;

    println!("\nEditing the manifests while LBEX runs, and watching the traffic:");
    let mut changes = Vec::new();
    let mut done = |what, sign, took| {
        println!("  {what:<22} {sign} after {:>9}", millis(took));
        changes.push(Change { what, took });
    };

    let change = pause().await;
    manifests.add_endpoint("3-web.yaml", "127.0.0.23", "node-1")?;
    done("web-3 is added", "first answer", http.until_answered_by("web-3", change).await?);

    let change = pause().await;
    manifests.remove_endpoint("3-web.yaml", "127.0.0.21")?;
    done("web-1 is removed", "last answer", http.until_without("web-1", change).await?);

    let change = pause().await;
    manifests.remove_endpoint("2-ntp.yaml", "127.0.0.32")?;
    done("ntp leaves node-2", "last answer", ntp.until_without("ntp on node-2", change).await?);

    let change = pause().await;
    manifests.add_echo()?;
    done("Service echo is added", "first answer", echo.until_answered_by("web-2", change).await?);

    println!("\nWho answers now:");
    answers("ntp", ntp, &["ntp on node-1"]).await?;
    answers("web, port http", http, &["web-2", "web-3"]).await?;
    answers("web, port https", https, &["web-2", "web-3"]).await?;
    answers("echo", echo, &["web-2"]).await?;
    Ok(changes)
}

/// Waits a little; returns the time of the change that comes next.
async fn pause() -> Instant {
    tokio::time::sleep(PAUSE).await;
    Instant::now()
}

async fn answers(name: &str, target: Target, wanted: &[&str]) -> Result<()> {
    let answers: BTreeMap<_, _> = target.spread(REQUESTS, wanted).await.with_context(|| format!("Service {name}"))?;
    let answers: Vec<_> = answers.iter().map(|(who, count)| format!("{who} {count}")).collect();
    println!("  {name:<16} {:<20} {}", target.to_string(), answers.join(", "));
    Ok(())
}

fn summary(changes: &[Change], total: Duration) {
    let slowest = changes.iter().max_by_key(|change| change.took);
    println!("\nLBEX and NGINX are stopped, nothing is left running.");
    println!("TCP and UDP were balanced, and {} changes arrived in traffic without a restart", changes.len());
    if let Some(slowest) = slowest {
        println!("(the slowest: {}, {}), in {:.1} s.", slowest.what, millis(slowest.took), total.as_secs_f64());
    }
    println!("\nNext: the tour of a real cluster in README.md, or your own manifests: lbex --manifests FOLDER");
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

//! From LBEX's start to serving, with 1,000 and 5,000 Services in manifest files: once with endpoints that are pushed, once with
//! `--endpoint-updates reload`; and beside them NGINX alone, started with the very configuration that the latter wrote (that of
//! the former has no servers without LBEX). Aim: LBEX starts NGINX once, and reloads it once at the most: where endpoints are
//! pushed, NGINX begins with addresses and is then told to ask for them.
//!
//! A run ends when listeners spread over all of them, the first and the last included, have let a connection through to the
//! Service's endpoint; then, not timed, all of the others are asked too. `cargo bench --bench start`; without `--bench` once,
//! with 20 Services.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::proxy::{Bare, PATIENCE, answered, local, patiently};
use common::stats::{Samples, ratio, time};
use common::table::{Table, aim};
use futures::future::try_join_all;
use lbex_test_harness::Scratch;
use lbex_test_harness::backends::{Echo, tcp_ask};
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::eventually;

/// How many listeners are asked while the clock runs.
const WATCHED: usize = 50;

fn main() -> Result<()> {
    let files = common::raise_file_limit()?;
    let (sizes, rounds) = if common::whole() { (&[1_000, 5_000][..], 3) } else { (&[20][..], 1) };
    let runtime = common::runtime()?;
    let mut table = Table::new(["", "Services", "median", "max", "median / NGINX alone", "starts", "reloads"]);
    let mut once = true;
    for &services in sizes {
        let [pushed, reloaded, alone] = runtime.block_on(measure(services, rounds))?;
        let took = |runs: &[Run]| runs.iter().map(|run| run.took).collect::<Samples>();
        let beside = took(&alone).median();
        for (name, runs) in [("LBEX, pushed", &pushed), ("LBEX, by reload", &reloaded), ("NGINX alone", &alone)] {
            let took = took(runs);
            let most = |count: fn(&Run) -> f64| runs.iter().map(count).fold(0.0, f64::max);
            let (starts, reloads) = (most(|run| run.starts), most(|run| run.reloads));
            once &= starts <= 1.0 && reloads <= 1.0;
            table.row([
                name.to_owned(),
                services.to_string(),
                time(took.median()),
                time(took.max()),
                ratio(took.median(), beside),
                starts.to_string(),
                reloads.to_string(),
            ]);
        }
    }
    table.print(&format!("Start to serving, {rounds} run(s) each, at most {files} open files per process"));
    aim("one start of NGINX, and one reload at the most", once);
    Ok(())
}

/// One start.
struct Run {
    took: Duration,
    starts: f64,
    reloads: f64,
}

/// The starts of LBEX with endpoints pushed, of LBEX by reload, and of NGINX alone.
async fn measure(services: usize, rounds: usize) -> Result<[Vec<Run>; 3]> {
    let echo = Echo::new("endpoint").tcp_only().start()?;
    let ports = free_ports(services)?;
    let scratch = Scratch::for_nginx("bench-start")?;
    let objects: Vec<_> = ports
        .iter()
        .enumerate()
        .flat_map(|(number, port)| {
            let name = format!("service-{number}");
            common::cluster::pod_service(&name, *port, &[("127.0.0.1".to_owned(), echo.port())])
        })
        .collect();
    let manifests = scratch.join("manifests");
    common::cluster::write_manifests(&manifests, &objects)?;

    let mut runs = [const { Vec::new() }; 3];
    for round in 0..rounds {
        let prefix = |way: &str| scratch.join(format!("prefix-{round}-{way}"));
        runs[0].push(run(&prefix("push"), &manifests, &ports, "push").await?);
        Bare::new(&prefix("push")).stop().await?;
        runs[1].push(run(&prefix("reload"), &manifests, &ports, "reload").await?);
        runs[2].push(run_alone(&Bare::new(&prefix("reload")), &ports).await?);
    }
    Ok(runs)
}

async fn run(prefix: &Path, manifests: &Path, ports: &[u16], updates: &str) -> Result<Run> {
    let manifests = manifests.to_str().context("a path that is not UTF-8")?;
    let builder = Lbex::builder(common::lbex())
        .args(["--manifests", manifests, "--listen-address", "127.0.0.1", "--endpoint-updates", updates])
        .prefix(prefix);
    let begin = Instant::now();
    let lbex = builder.start().await?;
    serving(ports).await.with_context(|| lbex.log_tail())?;
    let took = begin.elapsed();
    every(ports).await?;
    lbex.wait_healthy().await?;
    let applied = async || {
        let started = lbex.metric("lbex_apply_duration_seconds_count", &[("action", "started")]).await?;
        started.filter(|count| *count > 0.0).context("NGINX's start is not complete")
    };
    let starts = eventually("the first apply is complete", PATIENCE, applied).await.with_context(|| lbex.log_tail())?;
    let reloads = lbex.metric("lbex_reloads_total", &[]).await?.unwrap_or_default();
    lbex.terminate().await?;
    Ok(Run { took, starts, reloads })
}

/// Stops the NGINX that LBEX left, starts it again without LBEX, and stops it.
async fn run_alone(nginx: &Bare, ports: &[u16]) -> Result<Run> {
    nginx.stop().await?;
    let begin = Instant::now();
    nginx.start().await?;
    serving(ports).await?;
    let took = begin.elapsed();
    nginx.stop().await?;
    Ok(Run { took, starts: 1.0, reloads: 0.0 })
}

/// Until the watched listeners let connections through.
async fn serving(ports: &[u16]) -> Result<()> {
    let step = ports.len().div_ceil(WATCHED);
    let watched = ports.iter().step_by(step).chain(ports.last());
    let all = async {
        // One client alone until somebody listens: many that are refused take the CPU from what they wait for.
        answered(local(ports[ports.len() - 1]), None).await?;
        try_join_all(watched.map(|port| answered(local(*port), None))).await.map(drop)
    };
    patiently("all listeners answer", all).await
}

/// Asks every listener once.
async fn every(ports: &[u16]) -> Result<()> {
    for port in ports {
        let name = tcp_ask(local(*port)).await.with_context(|| format!("port {port}"))?;
        ensure!(name == "endpoint", "{name} answers on port {port}");
    }
    Ok(())
}

//! From LBEX's start to serving, with 1,000 and 5,000 Services in manifest files, and beside it NGINX alone, started with the very
//! configuration that LBEX wrote. Aim: LBEX starts NGINX once and never reloads it.
//!
//! A run ends when listeners spread over all of them, the first and the last included, have let a connection through to the
//! Service's endpoint; then, not timed, all of the others are asked too. `cargo bench --bench start`; without `--bench` once,
//! with 20 Services.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::proxy::{Bare, answered, local, patiently};
use common::stats::{Samples, ratio, time};
use common::table::{Table, aim};
use futures::future::try_join_all;
use lbex_test_harness::Scratch;
use lbex_test_harness::backends::{Echo, tcp_ask};
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::ports::free_ports;

/// How many listeners are asked while the clock runs.
const WATCHED: usize = 50;

fn main() -> Result<()> {
    let files = common::raise_file_limit()?;
    let (sizes, rounds) = if common::whole() { (&[1_000, 5_000][..], 3) } else { (&[20][..], 1) };
    let runtime = common::runtime()?;
    let mut table =
        Table::new(["Services", "LBEX, median", "max", "NGINX alone, median", "max", "ratio", "starts", "reloads"]);
    let mut once = true;
    for &services in sizes {
        let runs = runtime.block_on(measure(services, rounds))?;
        let lbex: Samples = runs.iter().map(|run| run.lbex).collect();
        let bare: Samples = runs.iter().map(|run| run.bare).collect();
        let most = |count: fn(&Run) -> f64| runs.iter().map(count).fold(0.0, f64::max);
        let (starts, reloads) = (most(|run| run.starts), most(|run| run.reloads));
        once &= runs.iter().all(|run| run.starts.total_cmp(&1.0).is_eq() && run.reloads.total_cmp(&0.0).is_eq());
        table.row([
            services.to_string(),
            time(lbex.median()),
            time(lbex.max()),
            time(bare.median()),
            time(bare.max()),
            ratio(lbex.median(), bare.median()),
            starts.to_string(),
            reloads.to_string(),
        ]);
    }
    table.print(&format!("Start to serving, {rounds} run(s) each, at most {files} open files per process"));
    aim("exactly one start of NGINX and no reload", once);
    Ok(())
}

/// One start of LBEX, and one of NGINX alone with the same files.
struct Run {
    lbex: Duration,
    bare: Duration,
    starts: f64,
    reloads: f64,
}

async fn measure(services: usize, rounds: usize) -> Result<Vec<Run>> {
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

    let mut runs = Vec::new();
    for round in 0..rounds {
        runs.push(run(&scratch.join(format!("prefix-{round}")), &manifests, &ports).await?);
    }
    Ok(runs)
}

async fn run(prefix: &Path, manifests: &Path, ports: &[u16]) -> Result<Run> {
    let manifests = manifests.to_str().context("a path that is not UTF-8")?;
    let builder =
        Lbex::builder(common::lbex()).args(["--manifests", manifests, "--listen-address", "127.0.0.1"]).prefix(prefix);
    let begin = Instant::now();
    let lbex = builder.start().await?;
    serving(ports).await.with_context(|| lbex.log_tail())?;
    let took = begin.elapsed();
    every(ports).await?;
    lbex.wait_healthy().await?;
    let count = async |action| {
        let count = lbex.metric("lbex_apply_duration_seconds_count", &[("action", action)]).await?;
        anyhow::Ok(count.unwrap_or_default())
    };
    let (starts, reloads) = (count("started").await?, count("reloaded").await?);
    lbex.terminate().await?;

    let nginx = Bare::new(prefix);
    nginx.stop().await?;
    let begin = Instant::now();
    nginx.start().await?;
    serving(ports).await?;
    let bare = begin.elapsed();
    nginx.stop().await?;
    Ok(Run { lbex: took, bare, starts, reloads })
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

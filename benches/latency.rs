//! From an endpoint's change to the first connection that the new endpoint answers, with 100 and 1,000 Services: LBEX on manifest
//! files (from before the file is written), LBEX on a real API server (from before the request that writes the change), and beside
//! them NGINX alone with the same configuration, edited by hand and told SIGHUP. Every change is one reload
//! (`--endpoint-updates reload`; changes that are pushed are measured by `push`).
//!
//! The three take turns, change by change. A client connects again and again, half a millisecond after each answer, which is what
//! the figures are good for. Changes are further apart than `--reload-interval`, here 100 ms.
//! `cargo bench --bench latency`; without `--bench` a few changes with 5 Services and without an API server.

mod common;
#[path = "latency/systems.rs"]
mod systems;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use common::proxy::answered;
use common::stats::{Samples, ratio, time};
use common::table::Table;
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::backends::Echo;
use systems::{NODES, System, endpoints};

/// The pause after each change: the old workers end meanwhile.
const PAUSE: Duration = Duration::from_millis(300);

fn main() -> Result<()> {
    common::raise_file_limit()?;
    let (sizes, changes, with_api) =
        if common::whole() { (&[100, 1_000][..], 100, true) } else { (&[5][..], 2, false) };
    let runtime = common::runtime()?;
    let server = runtime.block_on(api_server(with_api));
    let mut table = Table::new(["", "Services", "p50", "p99", "max", "p50 / NGINX alone"]);
    for &services in sizes {
        // New ones each time: an API server gives a node port to one Service only.
        let endpoints = endpoints()?;
        let systems = runtime.block_on(start(services, server.as_ref(), &endpoints))?;
        let all = runtime.block_on(measure(&systems, changes))?;
        let alone = all.last().map_or(f64::NAN, Samples::median);
        for (system, samples) in systems.iter().zip(&all) {
            table.row([
                system.name.to_owned(),
                services.to_string(),
                time(samples.median()),
                time(samples.percentile(99)),
                time(samples.max()),
                ratio(samples.median(), alone),
            ]);
        }
    }
    table.print(&format!("Change to traffic, by reload: {changes} changes each"));
    Ok(())
}

/// A real API server, where the machine has what it takes.
async fn api_server(wanted: bool) -> Option<ApiServer> {
    if !wanted {
        return None;
    }
    match ApiServer::start().await {
        Ok(server) => Some(server),
        Err(error) => {
            println!("not measured: LBEX on the Kubernetes API (`make test-tools` installs what it takes): {error:#}");
            None
        }
    }
}

/// The load balancers to measure; the last is NGINX alone.
async fn start(services: usize, server: Option<&ApiServer>, endpoints: &[Echo]) -> Result<Vec<System>> {
    let node_port = endpoints.first().context("no endpoints")?.port();
    let mut systems = vec![System::manifests(services, node_port).await?];
    if let Some(server) = server {
        systems.push(System::api(server, services, node_port).await?);
    }
    systems.push(System::by_hand(services, node_port).await?);
    Ok(systems)
}

/// The times of `changes` changes of each, in turns.
async fn measure(systems: &[System], changes: usize) -> Result<Vec<Samples>> {
    let mut times = vec![Vec::with_capacity(changes); systems.len()];
    for number in 0..changes {
        let node = (number + 1) % NODES.len();
        for (system, times) in systems.iter().zip(&mut times) {
            let begin = Instant::now();
            system.move_to(node).await?;
            answered(system.listener, Some(NODES[node].0)).await.with_context(|| system.log_tail())?;
            times.push(begin.elapsed());
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(times.into_iter().map(Samples::from_iter).collect())
}

//! A change of one endpoint through the API of NGINX Plus, with 1 and 1,000 upstreams, beside the reload of the same change by the
//! open-source NGINX: from the call of the backend until it says that the change is in effect.
//!
//! NGINX Plus cannot be had here: its API is that of the stand-in (`tests/plus-standin`), which answers at once and carries no traffic
//! in this benchmark. So what is measured of the first row is LBEX's part and the calls; of the second all of it.
//! `cargo bench -p lbex-backend-nginx-plus --bench change`; without `--bench` each is tried once, with 1 and 20 upstreams.

#[path = "../../benches/common/stats.rs"]
#[allow(dead_code)]
mod stats;
#[path = "../tests/plus/support.rs"]
#[allow(dead_code)]
mod support;
#[path = "../../benches/common/table.rs"]
#[allow(dead_code)]
mod table;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lbex_backend_nginx::binary::NginxChoice;
use lbex_backend_nginx::process::Starter;
use lbex_backend_nginx::{EndpointUpdates, NginxBackend, NginxOptions};
use lbex_core::backend::ProxyBackend;
use lbex_plus_standin::StandIn;
use lbex_test_harness::Scratch;
use lbex_test_harness::ports::free_ports;
use stats::{Samples, ratio, time};
use support::{PACE, Wanted, push, remote, upstream};
use table::Table;

/// Between which servers the first Service's endpoint changes. Nothing connects to them.
const SERVERS: [&str; 2] = ["127.0.0.1:1", "127.0.0.1:2"];

fn name(number: usize) -> String {
    format!("s{number}")
}

fn wanted(ports: &[u16]) -> Wanted {
    let mut wanted = Wanted::default();
    for (number, port) in ports.iter().enumerate() {
        wanted.set(&name(number), *port, &SERVERS[..1]);
    }
    wanted
}

/// Changes made through the API.
async fn by_api(ports: &[u16], rounds: usize) -> Result<Samples> {
    let folder = Scratch::new("bench-plus")?;
    let named = ports.iter().enumerate();
    let builder = named.fold(StandIn::builder().tcp(0), |builder, (number, port)| {
        builder.upstream(&upstream(&name(number), *port), &[])
    });
    let plus = builder.start().await?;
    let backend = remote(folder.path(), PACE, &[&plus]).await?;
    let mut wanted = wanted(ports);
    ensure!(wanted.apply_all(&backend).await?.refused.is_empty());
    let mut times = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let delta = wanted.set(&name(0), ports[0], &[SERVERS[(round + 1) % 2]]);
        let begin = Instant::now();
        push(&backend, &delta).await?;
        times.push(begin.elapsed());
    }
    Ok(times.into_iter().collect())
}

/// The same changes by reload.
async fn by_reload(ports: &[u16], rounds: usize) -> Result<Samples> {
    let folder = Scratch::for_nginx("bench-reload")?;
    let options = NginxOptions {
        choice: NginxChoice::Embedded,
        prefix: folder.join("prefix"),
        worker_shutdown_timeout: Some(Duration::from_secs(5)),
        endpoint_updates: EndpointUpdates::Reload,
        starter: Starter::Own,
        socket_keeper: None,
    };
    let backend = NginxBackend::open(options).await?;
    let mut wanted = wanted(ports);
    ensure!(wanted.apply_all(&backend).await?.refused.is_empty());
    let mut times = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let delta = wanted.set(&name(0), ports[0], &[SERVERS[(round + 1) % 2]]);
        let begin = Instant::now();
        ensure!(backend.apply(&wanted.0, &delta).await?.refused.is_empty());
        times.push(begin.elapsed());
    }
    backend.stop(Duration::ZERO).await?;
    Ok(times.into_iter().collect())
}

#[tokio::main]
async fn main() -> Result<()> {
    let whole = std::env::args().any(|argument| argument == "--bench");
    let (counts, rounds) = if whole { ([1, 1000], 100) } else { ([1, 20], 2) };
    let mut table = Table::new(["", "API p50", "API p99", "reload p50", "reload p99", "reload / API"]);
    for count in counts {
        let ports = free_ports(count)?;
        let (api, reload) = (by_api(&ports, rounds).await?, by_reload(&ports, rounds.min(20)).await?);
        table.row([
            format!("{count} upstreams"),
            time(api.median()),
            time(api.percentile(99)),
            time(reload.median()),
            time(reload.percentile(99)),
            ratio(reload.median(), api.median()),
        ]);
    }
    table.print(&format!("A change of one endpoint, {rounds} times through the API"));
    Ok(())
}

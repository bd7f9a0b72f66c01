//! From the write of an EndpointSlice to a real API server to the first connection that the new endpoint answers, with 100, 1,000 and
//! 5,000 Services, changes 2 s apart and 10 a second to one Service: pushed to the embedded NGINX, pushed to one without LBEX's
//! changes, and by reload; beside each, when a bare watcher of the API server is told of the change. Then: clients of a
//! Service one of whose endpoints is black-holed, and what LBEX and NGINX take with 5,000 Services when nothing happens.
//!
//! One LBEX runs at a time. Aim, pushed to the embedded NGINX: the median within 2 ms and the 99th percentile within 10 ms of the bare
//! watcher's. `make bench-push`; without `--bench` a few changes with 5 Services. Needs a real API server (`make test-tools`).

#[path = "push/cluster.rs"]
mod cluster;
mod common;
#[path = "push/endpoints.rs"]
mod endpoints;
#[path = "push/hole.rs"]
mod hole;
#[path = "push/idle.rs"]
mod idle;
#[path = "push/measure.rs"]
mod measure;
#[path = "push/prober.rs"]
mod prober;
#[path = "push/report.rs"]
mod report;
#[path = "push/systems.rs"]
mod systems;
#[path = "push/usage.rs"]
mod usage;
#[path = "push/watcher.rs"]
mod watcher;

use std::time::Duration;

use anyhow::{Context, Result};
use cluster::Cluster;
use endpoints::Endpoints;
use lbex_test_harness::apiserver::ApiServer;
use report::{Report, Row};
use systems::System;

/// A rate of changes. No whole seconds: LBEX and NGINX do some things every second.
struct Rate {
    name: &'static str,
    period: Duration,
    /// How many changes to the embedded NGINX when pushed, and to the others.
    changes: [usize; 2],
}

/// How much is measured.
struct Scale {
    sizes: &'static [usize],
    rates: [Rate; 2],
    /// How long clients meet a black hole.
    hole: Duration,
    /// How long nothing happens.
    idle: Duration,
}

impl Scale {
    fn whole() -> Self {
        let slow = Rate { name: "2 s apart", period: Duration::from_millis(2_037), changes: [25, 8] };
        let fast = Rate { name: "10 a second", period: Duration::from_millis(100), changes: [200, 100] };
        let (hole, idle) = (Duration::from_secs(12), Duration::from_secs(30));
        Self { sizes: &[100, 1_000, 5_000], rates: [slow, fast], hole, idle }
    }

    fn tiny() -> Self {
        let slow = Rate { name: "0.5 s apart", period: Duration::from_millis(500), changes: [2, 2] };
        let fast = Rate { name: "10 a second", period: Duration::from_millis(100), changes: [5, 5] };
        let (hole, idle) = (Duration::from_secs(1), Duration::from_millis(200));
        Self { sizes: &[5], rates: [slow, fast], hole, idle }
    }
}

fn main() -> Result<()> {
    common::raise_file_limit()?;
    let scale = if common::whole() { Scale::whole() } else { Scale::tiny() };
    common::runtime()?.block_on(async {
        match ApiServer::start().await {
            Ok(server) => measure_all(server, &scale).await?.print(),
            Err(error) => println!("not measured: there is no API server (`make test-tools` installs one): {error:#}"),
        }
        Ok(())
    })
}

async fn measure_all(server: ApiServer, scale: &Scale) -> Result<Report> {
    let endpoints = Endpoints::start()?;
    let connect_timeout = format!("{}ms", hole::CONNECT_TIMEOUT.as_millis());
    let mut cluster = Cluster::new(server, endpoints.port(), &connect_timeout).await?;
    let mut report = Report::default();
    for &services in scale.sizes {
        eprintln!("filling the API server: {services} Services");
        cluster.grow_to(services).await?;
        for system in System::all() {
            eprintln!("measuring: {services} Services, {}", system.name());
            let lbex = system.start(&cluster).await.with_context(|| format!("{} did not start", system.name()))?;
            for rate in &scale.rates {
                let changes = rate.changes[usize::from(system != System::Embedded)];
                let run = measure::run(&cluster, &lbex, changes, rate.period).await?;
                report.rows.push(Row { system: system.clone(), services, rate: rate.name, run });
            }
            if scale.sizes.first() == Some(&services) {
                let tally = hole::run(&cluster, &lbex, endpoints.port(), scale.hole, scale.rates[1].period).await?;
                report.holes.push((system.clone(), tally));
            }
            if scale.sizes.last() == Some(&services) && !matches!(system, System::Stock(_)) {
                report.idle.push((system.clone(), services, idle::run(&lbex, scale.idle).await?));
            }
            lbex.terminate().await?;
        }
    }
    Ok(report)
}

//! A full plan and render at 10,000 Services, and beside it what one change costs: the Service planned again, its file
//! rendered, and the main file that includes all files. No files are written and no NGINX runs.
//!
//! `cargo bench --bench plan_and_render`; without `--bench` once, in a small cluster.

mod common;
#[path = "../lbex-core/benches/planner/cluster.rs"]
#[allow(dead_code)] // this benchmark uses a part of it
mod planner_cluster;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::stats::{Samples, ratio, time};
use common::table::{Table, aim};
use lbex_backend_nginx::binary::{Candidate, NginxChoice, find};
use lbex_backend_nginx::limits::{Demand, Host, limits};
use lbex_backend_nginx::render::{
    Dialect, MainFile, MainInput, Part, ServiceFileName, Templates, render_service, zone_size,
};
use lbex_backend_nginx::{EndpointUpdates, RenderOptions, render_only};
use lbex_core::desired::DesiredState;
use lbex_core::names::ServiceKey;
use lbex_core::planner::Planner;
use planner_cluster::Size;

/// The aim for the planner's part of one change.
const AIM: Duration = Duration::from_micros(100);

fn main() -> Result<()> {
    let (services, rounds) = if common::whole() { (10_000, 5) } else { (100, 1) };
    let candidate = common::runtime()?.block_on(find(&NginxChoice::Auto))?;
    let size = Size { services };

    let fulls = (0..rounds).map(|_| Full::measure(size, &candidate)).collect::<Result<Vec<_>>>()?;
    let changes = Change::measure(size, &candidate, 40 * rounds)?;
    report(size, &fulls, &changes);
    Ok(())
}

/// The times of a full plan and render.
struct Full {
    ingest: Duration,
    plan: Duration,
    render: Duration,
}

impl Full {
    fn measure(size: Size, candidate: &Candidate) -> Result<Self> {
        let lists = planner_cluster::fill(size);
        let mut planner = Planner::new(planner_cluster::rules());
        let begin = Instant::now();
        lists.into_iter().for_each(|change| planner.ingest(change));
        let ingest = begin.elapsed();

        let begin = Instant::now();
        let outcome = planner.plan();
        let plan = begin.elapsed();
        ensure!(outcome.delta.changes.len() == size.services, "all Services are served");

        let options = RenderOptions {
            candidate: candidate.clone(),
            prefix: "/prefix".into(),
            worker_shutdown_timeout: None,
            endpoint_updates: EndpointUpdates::Reload,
        };
        let begin = Instant::now();
        let files = render_only(planner.desired(), &options)?;
        let render = begin.elapsed();
        ensure!(files.len() == size.services + 1, "one file for each Service, and the main file");
        Ok(Self { ingest, plan, render })
    }

    fn total(&self) -> Duration {
        self.ingest + self.plan + self.render
    }
}

/// The times of one endpoint that comes or goes.
struct Change {
    plan: Duration,
    service: Duration,
    main: Duration,
}

impl Change {
    fn measure(size: Size, candidate: &Candidate, rounds: usize) -> Result<Vec<Self>> {
        let mut planner = Planner::new(planner_cluster::rules());
        planner_cluster::fill(size).into_iter().for_each(|change| planner.ingest(change));
        planner.plan();
        let mut rendered = Rendered::new(planner.desired(), candidate)?;
        let mut changes = Vec::new();
        for round in 0..rounds {
            // A prime, so that consecutive changes concern Services that are far apart.
            for change in planner_cluster::endpoint_of_pod_service(size, round * 7919) {
                let begin = Instant::now();
                planner.ingest(change);
                let outcome = planner.plan();
                let plan = begin.elapsed();
                let key = outcome.delta.changes.keys().next().context("the change changes nothing")?;
                let (service, main) = rendered.again(planner.desired(), key)?;
                changes.push(Self { plan, service, main });
            }
        }
        Ok(changes)
    }

    fn total(&self) -> Duration {
        self.plan + self.service + self.main
    }
}

/// What the NGINX backend keeps between changes.
struct Rendered {
    templates: Templates,
    dialect: Dialect,
    input: MainInput,
    parts: BTreeMap<ServiceKey, Part>,
}

impl Rendered {
    fn new(desired: &DesiredState, candidate: &Candidate) -> Result<Self> {
        let dialect = Dialect::of(candidate.version(), candidate.capabilities());
        let input = MainInput {
            made_for: candidate.version().to_string(),
            modules: Vec::new(),
            user: None,
            worker_shutdown_timeout: None,
            generation_socket: PathBuf::from("/prefix/run/generation.sock"),
            dialect,
            resolver: None,
            api_socket: None,
        };
        let mut this = Self { templates: Templates::new()?, dialect, input, parts: BTreeMap::new() };
        for key in desired.services.keys() {
            this.service(desired, key)?;
        }
        Ok(this)
    }

    fn service(&mut self, desired: &DesiredState, key: &ServiceKey) -> Result<()> {
        let text = render_service(&self.templates, &desired.services[key], self.dialect)?;
        self.parts.insert(key.clone(), Part::read(ServiceFileName::of(key, &text), &text));
        Ok(())
    }

    /// Renders a Service's file, and the main file; how long each took.
    fn again(&mut self, desired: &DesiredState, key: &ServiceKey) -> Result<(Duration, Duration)> {
        let begin = Instant::now();
        self.service(desired, key)?;
        let service = begin.elapsed();
        let begin = Instant::now();
        let files = 1 << 20;
        let limits = limits(
            Demand { shared: self.parts.len() as u64, per_worker: 0 },
            &Host { cpus: 2, master: files, worker: files },
        );
        let servers = self.parts.values().map(|part| u64::from(part.servers)).sum();
        let zone = zone_size(self.parts.len() as u64, servers);
        let main = MainFile::render(&self.templates, &self.input, &limits, zone, self.parts.values())?;
        let took = begin.elapsed();
        ensure!(MainFile::includes_in(&main.text).count() == self.parts.len(), "the main file includes all files");
        Ok((service, took))
    }
}

fn report(size: Size, fulls: &[Full], changes: &[Change]) {
    let full = |part: fn(&Full) -> Duration| fulls.iter().map(part).collect::<Samples>().median();
    let change = |part: fn(&Change) -> Duration| changes.iter().map(part).collect::<Samples>();
    let mut table = Table::new(["", "all Services", "one change", "p99", "all / one"]);
    let mut row = |name: &str, whole: f64, one: &Samples| {
        let cells = [time(whole), time(one.median()), time(one.percentile(99)), ratio(whole, one.median())];
        let [a, b, c, d] = cells;
        table.row([name.to_owned(), a, b, c, d]);
    };
    let plan = change(|change| change.plan);
    row("take in and plan", full(|full| full.ingest + full.plan), &plan);
    row("render", full(|full| full.render), &change(|change| change.service + change.main));
    row("of that the Service's file", f64::NAN, &change(|change| change.service));
    row("of that the main file", f64::NAN, &change(|change| change.main));
    row("in all", full(Full::total), &change(Change::total));
    table.print(&format!(
        "Plan and render, {} Services with 3 endpoints each: medians of {} (all) and {} (one change)",
        size.services,
        fulls.len(),
        changes.len()
    ));
    aim("planning one change takes less than 100 µs", plan.median() < AIM.as_secs_f64());
}

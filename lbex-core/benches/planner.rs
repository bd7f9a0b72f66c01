//! What one event costs the planner, with the real resolvers, in clusters of 100, 1,000 and 10,000 Services, and what planning from
//! scratch would cost instead (design invariant 2; aim: flat, under 100 µs per event).
//!
//! Each Service has three endpoints, and there is a node for every ten Services, so that each node runs 30 endpoints in a cluster of any
//! size. `cargo bench -p lbex-core --bench planner`; without `--bench` (`cargo test --benches`) each event is tried a few times
//! in the smallest cluster. Every run compares the planner with the oracle at its end, and fails if they differ.

#[path = "planner/cluster.rs"]
mod cluster;

use std::time::{Duration, Instant};

use cluster::Size;
use lbex_core::oracle;
use lbex_core::planner::Planner;
use lbex_core::snapshot::Change;

/// The aim for an event.
const AIM: Duration = Duration::from_micros(100);

/// An event and the one that takes it back, so that both can be repeated.
struct Event {
    name: &'static str,
    /// Whether it is to change the desired state.
    changes: bool,
    /// The pair for the Service or node of this number.
    pair: fn(Size, usize) -> [Change; 2],
}

const EVENTS: [Event; 7] = [
    Event { name: "endpoint comes or goes, pod", changes: true, pair: cluster::endpoint_of_pod_service },
    Event { name: "endpoint comes or goes, node-set host", changes: true, pair: cluster::endpoint_of_node_service },
    Event { name: "Service annotation changes", changes: true, pair: cluster::annotation },
    Event { name: "Service removed or added", changes: true, pair: cluster::service_gone_and_back },
    Event { name: "port taken over by an older Service", changes: true, pair: cluster::takeover },
    Event { name: "node changes, node-set host", changes: true, pair: cluster::node_address },
    Event { name: "node reports the same again", changes: false, pair: cluster::node_heartbeat },
];

/// What an event costs: half of the runs take less than the median, 99 of 100 less than the 99th percentile.
struct Cost {
    median: Duration,
    p99: Duration,
    /// Services whose part of the desired state an event changed, on average.
    services: usize,
}

fn main() {
    let whole = std::env::args().any(|arg| arg == "--bench");
    let (sizes, rounds) = if whole { (&[100, 1_000, 10_000][..], 500) } else { (&[100][..], 3) };
    let runs: Vec<_> = sizes.iter().map(|&services| run(Size { services }, rounds)).collect();
    report(&runs);
}

/// What was measured in a cluster of one size.
struct Run {
    size: Size,
    from_scratch: Duration,
    costs: Vec<Cost>,
}

fn run(size: Size, rounds: usize) -> Run {
    let mut planner = Planner::new(cluster::rules());
    cluster::fill(size).into_iter().for_each(|change| planner.ingest(change));
    let outcome = planner.plan();
    assert_eq!(outcome.delta.changes.len(), size.services, "all Services are served");
    assert!(planner.rejections().is_empty(), "{:?}", planner.rejections().first_key_value());
    let costs = EVENTS.iter().map(|event| measure(&mut planner, size, event, rounds)).collect();
    Run { size, from_scratch: from_scratch(&planner), costs }
}

fn measure(planner: &mut Planner, size: Size, event: &Event, rounds: usize) -> Cost {
    let mut times = Vec::with_capacity(2 * rounds);
    let mut services = 0;
    for round in 0..rounds {
        // A prime, so that consecutive events concern Services that are far apart.
        for change in (event.pair)(size, round * 7919) {
            let start = Instant::now();
            planner.ingest(change);
            let outcome = planner.plan();
            times.push(start.elapsed());
            assert_eq!(!outcome.delta.is_empty(), event.changes, "{}", event.name);
            services += outcome.delta.changes.len();
        }
    }
    times.sort_unstable();
    let percentile = |percent: usize| times[(times.len() - 1) * percent / 100];
    Cost { median: percentile(50), p99: percentile(99), services: services.div_ceil(times.len()) }
}

/// The median of a few plans from scratch of the cluster as it is; the planner must have come to the same.
fn from_scratch(planner: &Planner) -> Duration {
    let rules = cluster::rules();
    let mut times = [Duration::ZERO; 5];
    for time in &mut times {
        let start = Instant::now();
        let plan = oracle::plan(&rules, planner.cluster());
        *time = start.elapsed();
        assert_eq!(plan.services, planner.desired().services, "the planner agrees with the oracle");
        assert_eq!(&plan.rejections, planner.rejections());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

fn report(runs: &[Run]) {
    println!("{:<40}{:>9}{:>12}{:>12}{:>10}{:>15}", "event", "Services", "median", "p99", "touched", "from scratch");
    for (number, event) in EVENTS.iter().enumerate() {
        for run in runs {
            let Cost { median, p99, services } = run.costs[number];
            let ratio = run.from_scratch.as_secs_f64() / median.as_secs_f64();
            let size = run.size.services;
            let (median_us, p99_us) = (micros(median), micros(p99));
            let aim = if median > AIM { "  over the aim of 100 µs" } else { "" };
            println!("{:<40}{size:>9}{median_us:>12}{p99_us:>12}{services:>10}{ratio:>14.0}x{aim}", event.name);
        }
    }
    for run in runs {
        println!("planning {} Services from scratch: {}", run.size.services, micros(run.from_scratch));
    }
}

fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

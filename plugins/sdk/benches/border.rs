//! What the border costs: the desired state of 10,000 Services across it, as a whole and as a delta, into a plugin that keeps it in memory
//! (the example `memory`, a `cdylib` as LBEX loads it). Times are from LBEX's own types to the report that was read.
//!
//! Beside it, in the same rounds, what it costs without a border: a backend that is linked in, gets the same state by reference, and keeps
//! it in memory too. No bytes cross there.
//!
//! `cargo build --release -p lbex-plugin-sdk --examples && cargo bench -p lbex-plugin-sdk --bench border`; without `--bench`
//! (`cargo test --benches`) each is tried once with 100 Services.

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Loaded;
use lbex_core::desired::{
    Algorithm, Delta as CoreDelta, DesiredState, Listener, Servers, ServiceChange, ServiceConfig, Upstream,
};
use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;
use lbex_plugin_sdk::abi::documents::{Delta, Desired};
use lbex_plugin_sdk::abi::tables::code;
use lbex_plugin_sdk::abi::{Document, service_from_core, write};

/// Servers of each Service.
const SERVERS: u8 = 10;

fn service(number: u16, last: u8) -> ServiceConfig {
    let [high, low] = number.to_be_bytes();
    let server = |server: u8| ([10, high, low, if server == SERVERS { last } else { server }], 8080).into();
    let listener = Listener {
        protocol: Protocol::Tcp,
        port: 1024 + number,
        addresses: vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()].into(),
        allow: Vec::new().into(),
        connect_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(3600),
        upstream: Upstream {
            algorithm: Algorithm::RoundRobin,
            servers: Servers::Addresses((1..=SERVERS).map(server).collect()),
        },
    };
    let service = ServiceKey::new("default", &format!("service-{number}")).unwrap();
    ServiceConfig { service, created: Some(1_700_000_000), listeners: vec![listener] }
}

/// What one round takes.
struct Cost {
    /// Of the document.
    bytes: usize,
    /// Across the border.
    across: Duration,
    /// In one process, by reference.
    linked_in: Duration,
}

/// A backend that is linked in: what the plugin does, without a border.
#[derive(Default)]
struct LinkedIn(DesiredState);

impl LinkedIn {
    fn apply_all(&mut self, desired: &DesiredState) -> Duration {
        let begin = Instant::now();
        self.0 = std::hint::black_box(desired).clone();
        begin.elapsed()
    }

    fn apply(&mut self, delta: &CoreDelta) -> Duration {
        let begin = Instant::now();
        self.0.advance(std::hint::black_box(delta));
        begin.elapsed()
    }
}

/// Both backends, and what they were told last.
struct Bench {
    loaded: Loaded,
    linked_in: LinkedIn,
    desired: DesiredState,
    revision: u32,
}

impl Bench {
    fn all(&mut self) -> Cost {
        self.revision += 1;
        let begin = Instant::now();
        let services = self.desired.services.values();
        let services = services.map(|config| (config.service.to_string(), service_from_core(config).into()));
        let services = services.collect::<BTreeMap<_, Arc<_>>>();
        let document = Desired { revision: self.revision.to_string(), services, ..Desired::default() };
        let (bytes, across) = self.cross(begin, &document);
        Cost { bytes, across, linked_in: self.linked_in.apply_all(&self.desired) }
    }

    /// The first `changed` Services get another last server.
    fn delta(&mut self, changed: u16, last: u8) -> Cost {
        let change = |number| {
            let after = Arc::new(service(number, last));
            let (key, before) = (after.service.clone(), self.desired.services.get(&after.service).cloned());
            Some((key, ServiceChange::between(before, Some(after))?))
        };
        let (from, to) = (self.desired.generation, self.desired.generation + 1);
        let delta = CoreDelta { from, to, changes: (0..changed).filter_map(change).collect() };
        assert_eq!(delta.changes.len(), usize::from(changed), "there is a change");
        let begin = Instant::now();
        let from = self.revision.to_string();
        self.revision += 1;
        let becomes = |change: &ServiceChange| change.after().map(|config| Arc::new(service_from_core(config)));
        let services = delta.changes.iter().map(|(key, change)| (key.to_string(), becomes(change))).collect();
        let revision = self.revision.to_string();
        let document = Delta { from, revision, live: true, services, ..Delta::default() };
        let (bytes, across) = self.cross(begin, &document);
        let linked_in = self.linked_in.apply(&delta);
        self.desired.advance(&delta);
        Cost { bytes, across, linked_in }
    }

    /// Writes the document, has the plugin apply it, reads the report. Bytes, and how long it took since `begin`.
    fn cross<D: Document>(&self, begin: Instant, document: &D) -> (usize, Duration) {
        let done = self.loaded.apply(document).0;
        let took = begin.elapsed();
        assert_eq!(done, code::OK);
        (write(document).unwrap().len(), took)
    }
}

fn main() {
    let whole = std::env::args().any(|arg| arg == "--bench");
    let (services, rounds) = if whole { (10_000, 20) } else { (100, 1) };
    let all = (0..services).map(|number| Arc::new(service(number, SERVERS)));
    let desired = DesiredState {
        services: all.map(|config| (config.service.clone(), config)).collect(),
        ..DesiredState::default()
    };
    let loaded = Loaded::load("memory", None).unwrap();
    let mut bench = Bench { loaded, linked_in: LinkedIn::default(), desired, revision: 0 };
    println!("{services} Services with {SERVERS} servers each, median of {rounds}");
    println!("| | bytes | across the border | linked in | ratio |\n| --- | --- | --- | --- | --- |");
    row("all", &median(rounds, |_| bench.all()));
    for changed in [1, 100, services] {
        // Another last server each time, so that there is a change.
        row(&format!("delta of {changed}"), &median(rounds, |round| bench.delta(changed, SERVERS + 1 + round % 2)));
        // The next begins with what all began with.
        bench.delta(changed, SERVERS);
    }
}

/// The median of each.
fn median(rounds: u8, cost: impl FnMut(u8) -> Cost) -> Cost {
    let costs: Vec<Cost> = (0..rounds).map(cost).collect();
    let middle = |took: fn(&Cost) -> Duration| {
        let mut all: Vec<Duration> = costs.iter().map(took).collect();
        all.sort();
        all[all.len() / 2]
    };
    Cost { bytes: costs[0].bytes, across: middle(|cost| cost.across), linked_in: middle(|cost| cost.linked_in) }
}

fn row(name: &str, cost: &Cost) {
    let Cost { bytes, across, linked_in } = cost;
    let (across, linked_in) = (across.as_secs_f64() * 1e3, linked_in.as_secs_f64() * 1e3);
    println!("| {name} | {bytes} | {across:.3} ms | {linked_in:.4} ms | {:.0} |", across / linked_in.max(1e-6));
}

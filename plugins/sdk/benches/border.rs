//! What the border costs: the desired state of 10,000 Services across it, as a whole and as a delta, into a plugin that keeps it in memory
//! (the example `memory`, a `cdylib` as LBEX loads it). Times are from LBEX's own types to the report that was read.
//!
//! `cargo build --release -p lbex-plugin-sdk --examples && cargo bench -p lbex-plugin-sdk --bench border`; without `--bench`
//! (`cargo test --benches`) each is tried once with 100 Services.

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Loaded;
use lbex_core::desired::{Algorithm, Listener, Servers, ServiceConfig, Upstream};
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

/// What one crossing takes.
struct Cost {
    bytes: usize,
    took: Duration,
}

fn main() {
    let whole = std::env::args().any(|arg| arg == "--bench");
    let (services, rounds) = if whole { (10_000, 20) } else { (100, 1) };
    let loaded = Loaded::load("memory", None).unwrap();
    let all: Vec<ServiceConfig> = (0..services).map(|number| service(number, SERVERS)).collect();
    let mut revision = 0_u32;
    println!("{services} Services with {SERVERS} servers each, median of {rounds}");
    println!("| | bytes | took |\n| --- | --- | --- |");
    let full = median(rounds, || {
        revision += 1;
        let begin = Instant::now();
        let services = all.iter().map(|config| (config.service.to_string(), service_from_core(config).into()));
        let services = services.collect::<BTreeMap<_, Arc<_>>>();
        let document = Desired { revision: revision.to_string(), services, ..Desired::default() };
        cross(&loaded, begin, &document)
    });
    row("all", &full);
    for changed in [1, 100, services] {
        let mut round = 0;
        let cost = median(rounds, || {
            round += 1;
            // Another last server each time, so that there is a change.
            let changes: Vec<ServiceConfig> =
                (0..changed).map(|number| service(number, SERVERS + 1 + round % 2)).collect();
            let begin = Instant::now();
            let from = revision.to_string();
            revision += 1;
            let services =
                changes.iter().map(|config| (config.service.to_string(), Some(Arc::new(service_from_core(config)))));
            let (services, revision) = (services.collect(), revision.to_string());
            let document = Delta { from, revision, live: true, services, ..Delta::default() };
            cross(&loaded, begin, &document)
        });
        row(&format!("delta of {changed}"), &cost);
    }
}

/// Writes the document, has the plugin apply it, reads the report.
fn cross<D: Document>(loaded: &Loaded, begin: Instant, document: &D) -> Cost {
    let done = loaded.apply(document).0;
    let took = begin.elapsed();
    assert_eq!(done, code::OK);
    Cost { bytes: write(document).unwrap().len(), took }
}

fn median(rounds: usize, mut cost: impl FnMut() -> Cost) -> Cost {
    let mut costs: Vec<Cost> = (0..rounds).map(|_| cost()).collect();
    costs.sort_by_key(|cost| cost.took);
    costs.swap_remove(rounds / 2)
}

fn row(name: &str, cost: &Cost) {
    println!("| {name} | {} | {:.1?} |", cost.bytes, cost.took);
}

//! Resident memory of the LBEX process (not of NGINX) that serves 10,000 Services with 100,000 endpoints, read from manifest files
//! and from the Kubernetes API, and beside it a process that holds the same objects in the full types of k8s-openapi, and
//! nothing else. Aim: under 100 MB.
//!
//! The API server is a stand-in (see `memory/api.rs`). Each LBEX has an NGINX that listens on 10,000 ports of 127.0.0.1.
//! `cargo bench --bench memory`; without `--bench` once, with 20 Services.

#[path = "memory/api.rs"]
mod api;
mod common;
#[path = "memory/objects.rs"]
mod objects;

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::Api;
use common::proxy::PATIENCE;
use common::stats::{megabytes, ratio};
use common::table::{Table, aim};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use lbex_test_harness::Scratch;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::objects::Object;
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::eventually;
use objects::{Kind, Size};

const WHOLE: Size = Size { services: 10_000, endpoints_each: 10, nodes: 100 };
const TINY: Size = Size { services: 20, endpoints_each: 2, nodes: 3 };

/// The aim for LBEX's resident memory, in bytes.
const AIM: f64 = 100e6;

/// How long LBEX is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(3);

/// Tells a second process of this benchmark that it is to hold objects: `full` or `lean`.
const HOLD: &str = "BENCH_MEMORY_HOLD";

fn main() -> Result<()> {
    let size = if common::whole() { WHOLE } else { TINY };
    if let Ok(how) = std::env::var(HOLD) {
        return hold(size, how == "lean");
    }
    let files = common::raise_file_limit()?;
    if files < 2 * size.services as u64 {
        println!("at most {files} open files per process: some of the Services will be refused");
    }
    let ports = free_ports(size.services)?;
    let scratch = Scratch::new("bench-memory")?;
    let manifests = scratch.join("manifests");
    common::cluster::write_manifests(&manifests, &all(size, &ports))?;
    let server = Api { size, ports }.serve()?;

    let runtime = common::runtime()?;
    let manifests = manifests.to_str().context("a path that is not UTF-8")?.to_owned();
    let from_files = runtime.block_on(measure(size, ["--manifests".to_owned(), manifests]))?;
    let from_api = runtime.block_on(measure(size, ["--proxy".to_owned(), format!("http://{server}")]))?;
    let (full, lean) = (holding("full")?, holding("lean")?);

    let mut table = Table::new(["", "resident", "of that heap", "highest", "full types / it"]);
    let mut row = |name: &str, memory: Memory| {
        let Memory { resident, anonymous, highest } = memory;
        table.row([
            name.to_owned(),
            megabytes(resident),
            megabytes(anonymous),
            megabytes(highest),
            ratio(full.resident, resident),
        ]);
    };
    row("LBEX, from manifest files", from_files);
    row("LBEX, from the Kubernetes API", from_api);
    row("k8s-openapi types, nothing else", full);
    row("the same without managedFields", lean);
    let Size { services, endpoints_each, nodes } = size;
    table.print(&format!("Memory, {services} Services, {} endpoints, {nodes} Nodes", services * endpoints_each));
    aim("LBEX from manifest files under 100 MB", from_files.resident < AIM);
    aim("LBEX from the Kubernetes API under 100 MB", from_api.resident < AIM);
    Ok(())
}

/// A process's memory, in bytes.
#[derive(Debug, Clone, Copy)]
struct Memory {
    resident: f64,
    /// Heap and stacks: what is not mapped from files.
    anonymous: f64,
    /// The most that was ever resident.
    highest: f64,
}

impl Memory {
    fn of(process: &str) -> Result<Self> {
        let path = format!("/proc/{process}/status");
        let status = std::fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
            kib.map(|kib| kib * 1024.0).with_context(|| format!("{path} has no {name}"))
        };
        Ok(Self { resident: field("VmRSS:")?, anonymous: field("RssAnon:")?, highest: field("VmHWM:")? })
    }
}

fn all(size: Size, ports: &[u16]) -> Vec<Box<dyn Object>> {
    let objects = |kind: Kind| (0..kind.count(size)).map(move |number| kind.object(size, number, ports));
    Kind::ALL.into_iter().flat_map(objects).map(|object| Box::new(object) as Box<dyn Object>).collect()
}

async fn measure(size: Size, source: [String; 2]) -> Result<Memory> {
    let lbex = Lbex::builder(common::lbex()).args(source).args(["--listen-address", "127.0.0.1"]).start().await?;
    let served = eventually("all Services are served", PATIENCE, async || {
        let served = lbex.metric("lbex_services_served", &[]).await?.unwrap_or_default();
        ensure!(reaches(served, size.services), "{served} Services are served");
        anyhow::Ok(())
    });
    served.await.with_context(|| lbex.log_tail())?;
    tokio::time::sleep(SETTLE).await;
    let endpoints = lbex.metric("lbex_endpoints", &[]).await?.unwrap_or_default();
    ensure!(reaches(endpoints, size.services * size.endpoints_each), "only {endpoints} endpoints are served");
    let memory = Memory::of(&lbex.pid().to_string())?;
    lbex.terminate().await?;
    Ok(memory)
}

#[allow(clippy::cast_precision_loss)] // far below 2^53
fn reaches(value: f64, count: usize) -> bool {
    value >= count as f64
}

/// The memory of a process of its own that holds all objects.
fn holding(how: &str) -> Result<Memory> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).env(HOLD, how).stdout(Stdio::piped());
    let output = command.output().context("failed to run this benchmark as a second process")?;
    ensure!(output.status.success(), "the process that holds objects failed: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<f64>);
    let mut next = || anyhow::Ok(numbers.next().context("the process that holds objects said too little")??);
    Ok(Memory { resident: next()?, anonymous: next()?, highest: next()? })
}

/// Holds all objects, each read from its JSON on its own, and prints the memory that takes.
fn hold(size: Size, lean: bool) -> Result<()> {
    let ports: Vec<u16> = (0..size.services).map(|_| 10_000).collect();
    let (mut services, mut nodes, mut slices) =
        (Vec::<Service>::new(), Vec::<Node>::new(), Vec::<EndpointSlice>::new());
    let clean = |metadata: &mut ObjectMeta| {
        if lean {
            metadata.managed_fields = None;
        }
    };
    for kind in Kind::ALL {
        for number in 0..kind.count(size) {
            let json = kind.object(size, number, &ports).to_string();
            match kind {
                Kind::Service => {
                    services.push(serde_json::from_str(&json)?);
                    services.last_mut().into_iter().for_each(|object| clean(&mut object.metadata));
                }
                Kind::Node => {
                    nodes.push(serde_json::from_str(&json)?);
                    nodes.last_mut().into_iter().for_each(|object| clean(&mut object.metadata));
                }
                Kind::EndpointSlice => {
                    slices.push(serde_json::from_str(&json)?);
                    slices.last_mut().into_iter().for_each(|object| clean(&mut object.metadata));
                }
            }
        }
    }
    let Memory { resident, anonymous, highest } = Memory::of("self")?;
    println!("{resident} {anonymous} {highest}");
    drop((services, nodes, slices));
    Ok(())
}

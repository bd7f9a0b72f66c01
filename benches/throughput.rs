//! Throughput through the configuration that LBEX writes, against a minimal one written by hand, on the same NGINX: new TCP
//! connections per second, bytes per second over held connections, and datagrams sent and answered per second.
//!
//! Both serve the same endpoints on this machine. They take turns, and so does a run without any NGINX, which shows how much of
//! the cost is the clients' and the servers' own. `cargo bench --bench throughput`; without `--bench` each once, for a moment.

mod common;
#[path = "throughput/load.rs"]
mod load;

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::proxy::{Bare, PATIENCE, local};
use common::stats::{Samples, ratio};
use common::table::{Table, aim};
use lbex_test_harness::Scratch;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::objects::{Object, service, slice};
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::eventually;

/// How many clients there are at a time.
const CLIENTS: usize = 16;

/// What LBEX's configuration may cost: the least share of the hand-written one's throughput.
const AIM: f64 = 0.9;

/// What is measured.
struct Test {
    name: &'static str,
    unit: &'static str,
    /// What one of the unit is.
    scale: f64,
    udp: bool,
    run: fn(SocketAddr, usize, Duration) -> Result<f64>,
}

const TESTS: [Test; 3] = [
    Test { name: "new TCP connections", unit: "/s", scale: 1.0, udp: false, run: load::connections },
    Test { name: "TCP, held connections", unit: " MB/s", scale: 1e6, udp: false, run: load::bytes },
    Test { name: "UDP round trips", unit: "/s", scale: 1.0, udp: true, run: load::datagrams },
];

fn main() -> Result<()> {
    common::raise_file_limit()?;
    let (rounds, period) = if common::whole() { (7, Duration::from_secs(2)) } else { (1, Duration::from_millis(100)) };
    let servers = servers()?;
    let runtime = common::runtime()?;
    let lbex = runtime.block_on(LbexConfiguration::start(&servers))?;
    let plain = runtime.block_on(PlainConfiguration::start(&servers, lbex.prefix()))?;

    let mut table = Table::new(["", "LBEX", "by hand", "LBEX / by hand", "no NGINX", "by hand / no NGINX"]);
    let mut met = true;
    for (number, test) in TESTS.iter().enumerate() {
        let ways = [lbex.listeners[number], plain.listeners[number], servers[number]];
        let mut results = [const { Vec::new() }; 3];
        for round in 0..rounds {
            // Nobody is always first.
            for place in 0..ways.len() {
                let way = (round + place) % ways.len();
                results[way].push((test.run)(ways[way], CLIENTS, period).with_context(|| test.name)?);
            }
        }
        let [ours, by_hand, direct] = results.map(|values| values.into_iter().collect::<Samples>().median());
        let show = |value: f64| format!("{:.0}{}", value / test.scale, test.unit);
        met &= ours >= AIM * by_hand;
        let (us, them) = (ratio(ours, by_hand), ratio(by_hand, direct));
        table.row([test.name.to_owned(), show(ours), show(by_hand), us, show(direct), them]);
    }
    table.print(&format!("Throughput, {CLIENTS} clients, medians of {rounds} run(s) of {period:?} each"));
    aim("at least 0.9 of what a configuration by hand carries", met);
    runtime.block_on(lbex.end())?;
    drop(plain);
    Ok(())
}

/// The endpoints: for connections, for bytes, for datagrams.
fn servers() -> Result<[SocketAddr; 3]> {
    let tcp = || TcpListener::bind("127.0.0.1:0");
    let (connections, bytes, datagrams) = (tcp()?, tcp()?, UdpSocket::bind("127.0.0.1:0")?);
    let addresses = [connections.local_addr()?, bytes.local_addr()?, datagrams.local_addr()?];
    load::serve_connections(connections);
    load::serve_bytes(bytes);
    load::serve_datagrams(datagrams);
    Ok(addresses)
}

/// Until each listener carries something.
async fn wait(listeners: &[SocketAddr; 3]) -> Result<()> {
    for (listener, test) in listeners.iter().zip(&TESTS) {
        let (run, listener) = (test.run, *listener);
        let carries = async || {
            let moment = Duration::from_millis(20);
            let rate = tokio::task::spawn_blocking(move || run(listener, 1, moment)).await??;
            ensure!(rate > 0.0, "nothing comes back");
            anyhow::Ok(())
        };
        eventually(test.name, PATIENCE, carries).await?;
    }
    Ok(())
}

/// LBEX with one Service for each test.
struct LbexConfiguration {
    lbex: Lbex,
    listeners: [SocketAddr; 3],
    _scratch: Scratch,
}

impl LbexConfiguration {
    async fn start(servers: &[SocketAddr; 3]) -> Result<Self> {
        let scratch = Scratch::new("bench-throughput")?;
        let ports = free_ports(servers.len())?;
        let listeners = [local(ports[0]), local(ports[1]), local(ports[2])];
        let mut objects: Vec<Box<dyn Object>> = Vec::new();
        for (number, (test, server)) in TESTS.iter().zip(servers).enumerate() {
            let name = format!("test-{number}");
            let service = service(&name).ask().listen("it", ports[number]).lbex("upstream-type", "pod");
            let slice = slice(&format!("{name}-1"), &name).ready(server.ip(), "node-a");
            let port = server.port();
            objects.push(Box::new(if test.udp { service.udp("it", 80, 0) } else { service.tcp("it", 80, 0) }));
            objects.push(Box::new(if test.udp { slice.udp("it", port) } else { slice.tcp("it", port) }));
        }
        let manifests = scratch.join("manifests");
        common::cluster::write_manifests(&manifests, &objects)?;
        let manifests = manifests.to_str().context("a path that is not UTF-8")?;
        let builder = Lbex::builder(common::lbex()).args(["--manifests", manifests, "--listen-address=127.0.0.1"]);
        let lbex = builder.start().await?;
        wait(&listeners).await.with_context(|| lbex.log_tail())?;
        Ok(Self { lbex, listeners, _scratch: scratch })
    }

    /// Its prefix, with the NGINX that it runs.
    fn prefix(&self) -> &Path {
        self.lbex.prefix()
    }

    async fn end(self) -> Result<()> {
        self.lbex.terminate().await.map(drop)
    }
}

/// The same NGINX with what one would write who wants nothing but this.
struct PlainConfiguration {
    listeners: [SocketAddr; 3],
    _scratch: Scratch,
}

impl PlainConfiguration {
    async fn start(servers: &[SocketAddr; 3], lbex: &Path) -> Result<Self> {
        let scratch = Scratch::for_nginx("bench-plain")?;
        let ports = free_ports(servers.len())?;
        let listeners = [local(ports[0]), local(ports[1]), local(ports[2])];
        for folder in ["conf", "run", "logs", "bin"] {
            std::fs::create_dir_all(scratch.join(folder))?;
        }
        std::fs::copy(lbex.join("bin/nginx"), scratch.join("bin/nginx")).context("failed to copy NGINX")?;
        std::fs::write(scratch.join("conf/nginx.conf"), plain_text(&listeners, servers, lbex)?)?;
        Bare::new(scratch.path()).start().await?;
        wait(&listeners).await?;
        Ok(Self { listeners, _scratch: scratch })
    }
}

/// UDP has `reuseport` here too: without it a client's datagrams land on both workers, and each makes a session of its own.
fn plain_text(listeners: &[SocketAddr; 3], servers: &[SocketAddr; 3], lbex: &Path) -> Result<String> {
    let written = std::fs::read_to_string(lbex.join("conf/nginx.conf")).context("failed to read what LBEX wrote")?;
    // A system's NGINX may have to load the stream module.
    let mut modules = String::new();
    for line in written.lines().filter(|line| line.starts_with("load_module ")) {
        writeln!(modules, "{line}")?;
    }
    let mut blocks = String::new();
    for ((listener, server), test) in listeners.iter().zip(servers).zip(&TESTS) {
        let udp = if test.udp { " udp reuseport" } else { "" };
        write!(blocks, "    server {{\n        listen {listener}{udp};\n        proxy_pass {server};\n    }}\n")?;
    }
    Ok(format!(
        "{modules}worker_processes auto;\npid run/nginx.pid;\nerror_log logs/error.log;\nevents {{\n    worker_connections 8192;\n}}\nstream {{\n{blocks}}}\n"
    ))
}

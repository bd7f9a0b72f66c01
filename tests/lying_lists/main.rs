//! An API server whose lists are complete and wrong, LBEX with its NGINX, and clients: traffic goes on. And objects that a current API
//! server would refuse, and clocks that are wrong.

mod clock;
mod hostile;
mod restart;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::backends::{Echo, tcp_ask};
use lbex_test_harness::lbex::{Builder, Lbex};
use lbex_test_harness::liar::Liar;
use lbex_test_harness::objects::{EndpointSlice, Object, Service, service, slice};
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::Signal;
use tokio::task::JoinHandle;

/// How many Services there are.
const MANY: usize = 12;

/// LBEX on an API server that may lie, with many Services that one server answers for.
struct World {
    api: Liar,
    lbex: Lbex,
    _echo: Echo,
    ports: Vec<u16>,
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn objects<T: Object>(all: &[T]) -> impl Iterator<Item = &dyn Object> {
    all.iter().map(|object| object as &dyn Object)
}

fn pods(name: &str, listener: u16) -> Service {
    service(name).ask().lbex("upstream-type", "pod").tcp("tcp", listener, 0).listen("tcp", listener)
}

fn lbex() -> Builder {
    Lbex::builder(Path::new(env!("CARGO_BIN_EXE_lbex"))).arg("--reload-interval=100ms")
}

fn lbex_on(api: &Liar, flags: &[&str]) -> Builder {
    lbex().arg(format!("--proxy={}", api.address())).args(flags)
}

async fn start(api: &Liar, flags: &[&str]) -> Result<Lbex> {
    let lbex = lbex_on(api, flags).start().await?;
    lbex.wait_healthy().await?;
    Ok(lbex)
}

impl World {
    async fn start(flags: &[&str]) -> Result<Self> {
        let api = Liar::start()?;
        let lbex = lbex_on(&api, flags);
        Self::serve(api, lbex).await
    }

    async fn serve(api: Liar, lbex: Builder) -> Result<Self> {
        let echo = Echo::new("echo").ip(IpAddr::from([127, 0, 30, 1])).start()?;
        let ports = free_ports(MANY)?;
        let services: Vec<_> = ports.iter().enumerate().map(|(n, port)| pods(&format!("s{n}"), *port)).collect();
        let slice = |n| slice(&format!("s{n}-1"), &format!("s{n}")).tcp("tcp", echo.port()).ready("127.0.30.1", "n");
        let slices: Vec<_> = (0..MANY).map(slice).collect();
        api.set("services", objects(&services));
        api.set("endpointslices", objects(&slices));
        let lbex = lbex.arg("--allow-endpoint-cidrs=127.0.30.0/24").start().await?;
        lbex.wait_healthy().await?;
        let this = Self { api, lbex, _echo: echo, ports, services, slices };
        this.all_answer().await?;
        Ok(this)
    }

    async fn all_answer(&self) -> Result<()> {
        for port in &self.ports {
            eventually(&format!("{port} is served"), SOON, || tcp_ask(at(*port))).await?;
        }
        Ok(())
    }

    async fn metric_is(&self, name: &str, labels: &[(&str, &str)], value: f64) -> Result<()> {
        eventually(&format!("{name} is {value}"), SOON, || async {
            let seen = self.lbex.metric(name, labels).await?;
            ensure!(seen == Some(value), "{seen:?}");
            Ok(())
        })
        .await
    }

    async fn held(&self, kind: &str, count: usize) -> Result<()> {
        #[allow(clippy::cast_precision_loss)] // a dozen
        let held = self.metric_is("lbex_removals_held", &[("kind", kind)], count as f64).await;
        held.with_context(|| self.lbex.log_tail())
    }

    async fn reloads(&self) -> Result<Option<f64>> {
        self.lbex.metric("lbex_apply_duration_seconds_count", &[("action", "reloaded")]).await
    }

    /// Waits until nothing listens any more.
    async fn all_refuse(&self) -> Result<()> {
        for port in &self.ports {
            eventually(&format!("{port} is no longer served"), SOON, || async {
                match tcp_ask(at(*port)).await {
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Everything is gone from the lists, and they are read.
    fn lose_everything(&self) {
        self.api.set("services", []);
        self.api.set("endpointslices", []);
        self.api.expire();
    }

    fn recover(&self) {
        self.api.set("services", objects(&self.services));
        self.api.set("endpointslices", objects(&self.slices));
        self.api.expire();
    }
}

/// Clients that come all the time, and must always be answered.
struct Clients {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<usize>>,
}

impl Clients {
    fn of(world: &World) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, ports) = (stop.clone(), world.ports.clone());
        let task = tokio::spawn(async move {
            let mut count = 0;
            for port in ports.into_iter().cycle() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                tcp_ask(at(port)).await.with_context(|| format!("{port}, after {count} answers"))?;
                count += 1;
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            Ok(count)
        });
        Self { stop, task }
    }

    async fn were_all_answered(self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        let count = self.task.await??;
        ensure!(count > 0, "nobody came");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_restored_empty_stops_no_traffic_and_recovery_is_no_reload() -> Result<()> {
    let world = World::start(&[]).await?;
    let clients = Clients::of(&world);
    let reloads = world.reloads().await?;
    world.lose_everything();
    world.held("service", MANY).await?;
    world.held("endpoints", MANY).await?;
    let line = world.lbex.wait_log("a complete list lacks 12 of 12 Services", SOON).await?;
    ensure!(line.contains("5m") || line.contains("300s"), "{line}");
    world.all_answer().await?;
    world.lbex.wait_healthy().await?;

    // Half of it is back; then by watch; then all.
    world.api.set("services", objects(&world.services[..5]));
    world.api.expire();
    world.held("service", 7).await?;
    eventually("LBEX watches again", SOON, async || {
        ensure!(world.api.is_watched("services"));
        Ok(())
    })
    .await?;
    for service in &world.services[5..9] {
        world.api.event("services", "ADDED", service);
    }
    world.held("service", 3).await?;
    world.recover();
    world.held("service", 0).await?;
    world.held("endpoints", 0).await?;
    world.all_answer().await?;
    ensure!(world.reloads().await? == reloads, "{:?} reloads, {reloads:?} before", world.reloads().await?);
    clients.were_all_answered().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigusr1_says_that_the_list_is_right() -> Result<()> {
    let world = World::start(&[]).await?;
    // Nothing to let go: LBEX lives on.
    world.lbex.signal(Signal::SIGUSR1)?;
    world.lbex.wait_log("SIGUSR1: no removal is held", SOON).await?;
    world.lose_everything();
    world.held("service", MANY).await?;
    world.held("endpoints", MANY).await?;
    world.all_answer().await?;
    world.lbex.signal(Signal::SIGUSR1)?;
    world.all_refuse().await?;
    world.held("service", 0).await?;
    world.lbex.wait_log("12 Services that a list lacked are gone now: SIGUSR1 asked for it", SOON).await?;
    world.lbex.wait_healthy().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_its_time_a_list_is_believed() -> Result<()> {
    let world = World::start(&["--mass-removal-hold=4s"]).await?;
    world.lose_everything();
    world.held("service", MANY).await?;
    world.all_answer().await?;
    world.all_refuse().await?;
    world.lbex.wait_log("the time of --mass-removal-hold is over", SOON).await?;

    let world = World::start(&["--mass-removal-hold=off"]).await?;
    world.lose_everything();
    world.all_refuse().await?;
    ensure!(!world.lbex.log().contains("a complete list lacks"), "{}", world.lbex.log_tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_is_not_served_until_the_operator_says_so() -> Result<()> {
    let world = World::start(&[]).await?;
    let clients = Clients::of(&world);
    // One that looks much like it: what it lacks is no mass removal.
    world.api.set_identity("second");
    world.api.set("services", objects(&world.services[..MANY - 1]));
    world.api.set_version(50);
    world.api.expire();
    world.metric_is("lbex_cluster_held", &[], 1.0).await?;
    let line = world.lbex.wait_log("another cluster answers", SOON).await?;
    ensure!(line.contains("is second, it was first"), "{line}");
    world.all_answer().await?;
    clients.were_all_answered().await?;
    world.lbex.signal(Signal::SIGUSR1)?;
    world.metric_is("lbex_cluster_held", &[], 0.0).await?;
    let gone = at(*world.ports.last().context("ports")?);
    eventually("the last is gone", SOON, || async {
        match tcp_ask(gone).await {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    for port in &world.ports[..MANY - 1] {
        eventually("the others are served", SOON, || tcp_ask(at(*port))).await?;
    }
    Ok(())
}

/// A backup from before: versions go back, and so do the objects.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_backup_stops_no_traffic() -> Result<()> {
    let world = World::start(&[]).await?;
    let clients = Clients::of(&world);
    world.api.set("services", objects(&world.services[..3]));
    world.api.set("endpointslices", objects(&world.slices[..3]));
    world.api.set_version(10);
    world.api.disconnect();
    world.held("service", MANY - 3).await?;
    world.held("endpoints", MANY - 3).await?;
    world.lbex.wait_log("it was restored from a backup; listing anew", SOON).await?;
    world.all_answer().await?;
    world.recover();
    world.held("service", 0).await?;
    clients.were_all_answered().await
}

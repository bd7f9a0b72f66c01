//! The clock of the host is set while LBEX runs, or was wrong when it started: nothing that matters goes by it.

use std::fs;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::clock::Clock;
use lbex_test_harness::liar::Liar;
use lbex_test_harness::objects::Service;
use lbex_test_harness::ports::free_port;
use lbex_test_harness::tls::{Authority, TlsServer, Validity};
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::{Clients, MANY, World, lbex, lbex_on, pods};

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

impl World {
    /// A Service gets another algorithm, which takes an apply. When that was, by LBEX's clock.
    async fn apply_something(&self, service: Service, algorithm: &str) -> Result<f64> {
        let name = "lbex_last_apply_timestamp_seconds";
        let before = self.lbex.metric(name, &[]).await?;
        self.api.put("services", &service.lbex("algorithm", algorithm));
        eventually("it is applied", SOON, || async {
            let last = self.lbex.metric(name, &[]).await?;
            ensure!(last != before, "{last:?}");
            last.context("nothing was applied")
        })
        .await
    }
}

/// Changes are applied, what is held is held on, nobody is cut, and LBEX stays well; its metrics tell the time of the host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jumps_by_an_hour_and_by_a_year_change_nothing() -> Result<()> {
    let (clock, api) = (Clock::right()?, Liar::start()?);
    let on = lbex_on(&api, &[]).clock(&clock);
    let world = World::serve(api, on).await?;
    let clients = Clients::of(&world);
    world.lose_everything();
    world.held("service", MANY).await?;
    world.held("endpoints", MANY).await?;
    let port = free_port()?;
    let edited = || pods("edited", port);
    for (jump, algorithm) in
        [(HOUR, "least_conn"), (-HOUR, "round_robin"), (YEAR, "least_conn"), (-YEAR, "round_robin")]
    {
        clock.set(jump)?;
        let applied = world.apply_something(edited(), algorithm).await?;
        let shown = Clock::shows(jump)?;
        ensure!((applied - shown).abs() < 600.0, "applied at {applied}, by a clock that shows {shown}");
        world.held("service", MANY).await?;
        world.held("endpoints", MANY).await?;
        world.lbex.wait_healthy().await?;
    }
    clock.set(0)?;
    world.recover();
    world.held("service", 0).await?;
    clients.were_all_answered().await
}

/// What is held is let go in its time, which nobody lengthens by setting a clock back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_does_not_lengthen_a_hold() -> Result<()> {
    let (clock, api) = (Clock::right()?, Liar::start()?);
    let on = lbex_on(&api, &["--mass-removal-hold=4s"]).clock(&clock);
    let world = World::serve(api, on).await?;
    world.lose_everything();
    world.held("service", MANY).await?;
    clock.set(-YEAR)?;
    world.all_refuse().await?;
    world.lbex.wait_log("the time of --mass-removal-hold is over", SOON).await.map(drop)
}

/// A host without a battery for its clock boots in 1970: what was saved is of the future, and is served; the clock is set, and all is
/// as it should be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_boots_in_1970_serves_the_last_good_state() -> Result<()> {
    let (clock, api) = (Clock::right()?, Liar::start()?);
    let on = lbex_on(&api, &[]).clock(&clock);
    let mut world = World::serve(api, on).await?;
    world.inventory_is_saved().await?;
    world.lbex.kill().await?;
    for process in world.lbex.nginx_processes() {
        kill(Pid::from_raw(process.pid.try_into()?), Signal::SIGKILL)?;
    }
    world.lose_everything();
    #[allow(clippy::cast_possible_truncation)] // some seconds after 1970
    clock.set(1000 - Clock::shows(0)? as i64)?;
    let mark = world.lbex.log_mark();
    world.lbex.start_again()?;
    let line = world.lbex.wait_log_since(mark, "Z ", SOON).await?;
    ensure!(line.starts_with("1970-01-01T00:1"), "{line}");
    world.lbex.wait_healthy().await?;
    world.all_answer().await?;
    world.held("service", MANY).await?;
    let clients = Clients::of(&world);
    clock.set(0)?;
    world.recover();
    world.held("service", 0).await?;
    world.held("endpoints", 0).await?;
    world.all_answer().await?;
    clients.were_all_answered().await
}

/// The API server's certificate is not valid by the clock of this host: that is said, traffic goes on, and LBEX is back once the clock is
/// right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_makes_certificates_invalid_stops_no_traffic() -> Result<()> {
    let (clock, api, folder) = (Clock::right()?, Liar::start()?, Scratch::new("kubeconfig")?);
    let authority = Authority::new()?;
    let server = TlsServer::before(api.address(), &authority, "localhost", Validity::Now).await?;
    let (config, roots) = (folder.join("kubeconfig"), folder.join("ca.pem"));
    fs::write(&roots, authority.pem())?;
    let url = format!("https://localhost:{}", server.address().port());
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "main",
        "contexts": [{"name": "main", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": url, "certificate-authority": roots}}],
        "users": [{"name": "me", "user": {}}],
    });
    fs::write(&config, text.to_string())?;
    let on = lbex().arg(format!("--kubeconfig={}", config.display())).clock(&clock);
    let world = World::serve(api, on).await?;
    let clients = Clients::of(&world);
    for (jump, said) in [(100 * YEAR, "its certificate has expired"), (-30 * YEAR, "its certificate is not valid yet")]
    {
        clock.set(jump)?;
        world.api.disconnect();
        world.lbex.wait_log(said, 2 * SOON).await?;
        world.lbex.wait_healthy().await?;
        world.all_answer().await?;
    }
    clock.set(0)?;
    world.apply_something(pods("edited", free_port()?), "least_conn").await?;
    clients.were_all_answered().await
}

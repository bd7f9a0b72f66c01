//! Hostile text in objects: none of it reaches a file below the prefix or an argument of a process, and a good Service
//! beside it is served all the time.
//!
//! Every hostile text carries a marker that is like nothing else. The good Service changes in each round too, so that
//! once its change is confirmed everything of the round has been planned and applied.

mod objects;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use lbex_test_harness::backends::{Echo, tcp_ask, udp_ask};
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::{Object, list};
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::{SOON, eventually};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::support::{ANSWER, World, at, pods, pods_slice, servers};
use objects::{MARKER, PLACES, hand_picked, in_place, text};

/// Generated rounds per run and NGINX; each tries a text in several places.
const ROUNDS: u32 = 24;

/// LBEX with the good Service, and clients that never stop asking for it.
struct Siege {
    world: World,
    good: u16,
    servers: Vec<Echo>,
    round: u32,
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    watchers: Vec<tokio::task::JoinHandle<Result<()>>>,
}

impl Siege {
    async fn start(nginx: Nginx) -> Result<Self> {
        let (ports, servers) = (free_ports(1)?, servers(1)?);
        let flags = ["--reload-interval=50ms", "--allow-external-name"];
        let objects = [&pods("good", ports[0]) as _, &pods_slice("good", &servers) as _];
        let world = World::start_with(nginx, &flags, objects).await?;
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = tokio::spawn(ask_on(ports[0], stop.clone(), served.clone()));
        let arguments = tokio::task::spawn_blocking({
            let stop = stop.clone();
            move || watch_arguments(&stop)
        });
        Ok(Self { world, good: ports[0], servers, round: 0, stop, served, watchers: vec![clients, arguments] })
    }

    /// Puts these objects beside the good Service, waits until all is applied, and looks for the marker.
    async fn try_out(&mut self, hostile: &[Value]) -> Result<()> {
        self.round += 1;
        let before = self.world.lbex.metric("lbex_desired_generation", &[]).await?.unwrap_or_default();
        let good = pods("good", self.good).lbex("idle-timeout", &format!("{}s", 60 + self.round));
        let slice = pods_slice("good", &self.servers);
        let objects: Vec<&dyn Object> = vec![&good, &slice];
        let hostile: Vec<&dyn Object> = hostile.iter().map(|object| object as &dyn Object).collect();
        // In front and behind, so that whatever ends early is noticed.
        let (front, back) = hostile.split_at(hostile.len() / 2);
        let all = front.iter().chain(&objects).chain(back).copied();
        self.world.manifests.write("objects.json", &list(all))?;
        eventually("the round is applied", SOON, || async {
            let planned = self.world.lbex.metric("lbex_desired_generation", &[]).await?.unwrap_or_default();
            let applied = self.world.lbex.metric("lbex_applied_generation", &[]).await?.unwrap_or_default();
            ensure!(planned > before && (applied - planned).abs() < 0.5, "{planned} planned, {applied} applied");
            Ok(())
        })
        .await?;
        ensure!(self.world.lbex.get("/").await?.status == 200, "LBEX is not healthy");
        ensure!(udp_ask(at(self.good), "good?", ANSWER).await? == "a", "another server answers");
        for watcher in &self.watchers {
            ensure!(!watcher.is_finished(), "a watcher has found something");
        }
        has_no_marker(self.world.lbex.prefix())
    }

    async fn end(self) -> Result<usize> {
        self.stop.store(true, Ordering::SeqCst);
        for watcher in self.watchers {
            watcher.await??;
        }
        Ok(self.served.load(Ordering::SeqCst))
    }
}

async fn ask_on(port: u16, stop: Arc<AtomicBool>, served: Arc<AtomicUsize>) -> Result<()> {
    while !stop.load(Ordering::SeqCst) {
        ensure!(tcp_ask(at(port)).await? == "a", "another server answers");
        served.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Looks at the arguments of every process of this host, again and again.
fn watch_arguments(stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::SeqCst) {
        for entry in std::fs::read_dir("/proc")?.flatten() {
            // Those that are no processes, or have ended, have none.
            let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            ensure!(
                !contains(&arguments, MARKER),
                "arguments of {}: {:?}",
                entry.path().display(),
                String::from_utf8_lossy(&arguments)
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Fails if a file below `folder`, or a name of one, has the marker.
fn has_no_marker(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)?.flatten() {
        let (path, kind) = (entry.path(), entry.file_type()?);
        ensure!(!path.to_string_lossy().contains(MARKER), "the name of a file: {}", path.display());
        if kind.is_dir() {
            has_no_marker(&path)?;
        } else if kind.is_file() {
            // Candidates come and go.
            let bytes = std::fs::read(&path).unwrap_or_default();
            ensure!(!contains(&bytes, MARKER), "in {}", path.display());
        }
    }
    Ok(())
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Known tricks, each in every place.
async fn known_tricks(nginx: Nginx) -> Result<()> {
    let mut siege = Siege::start(nginx).await?;
    let port = free_ports(1)?[0];
    for text in hand_picked() {
        let objects: Vec<_> = PLACES.iter().map(|place| in_place(*place, &text, port)).collect();
        siege.try_out(&objects).await?;
    }
    let served = siege.end().await?;
    assert!(served > 20, "the good Service was asked {served} times only");
    Ok(())
}

/// Generated texts in generated places. A failure prints the seed's case in full, as the objects of its round.
async fn generated(nginx: Nginx) -> Result<()> {
    let mut siege = Siege::start(nginx).await?;
    let port = free_ports(1)?[0];
    let mut runner = TestRunner::new(Config::default());
    let some = proptest::sample::subsequence(PLACES.to_vec(), 3..=6);
    for _ in 0..ROUNDS {
        let case = (text(), some.clone()).new_tree(&mut runner).map_err(|error| anyhow::anyhow!("{error}"))?;
        let (text, places) = case.current();
        let objects: Vec<_> = places.iter().map(|place| in_place(*place, &text, port)).collect();
        let tried = siege.try_out(&objects).await;
        tried.map_err(|error| error.context(format!("{text:?} in {places:?}")))?;
    }
    siege.end().await?;
    Ok(())
}

on_each_nginx!(known_tricks, generated);

/// The search finds what it is to find: in a name, in a file, in a folder below.
#[test]
fn the_marker_would_be_found() -> Result<()> {
    let folder = lbex_test_harness::Scratch::new("marker")?;
    std::fs::create_dir(folder.join("services"))?;
    std::fs::write(folder.join("services/a.conf"), "server {}")?;
    has_no_marker(folder.path())?;
    std::fs::write(folder.join("services/a.conf"), format!("server {{ # {MARKER}\n}}"))?;
    let error = has_no_marker(folder.path()).map_err(|error| error.to_string());
    assert!(error.is_err_and(|error| error.contains("services/a.conf")));
    std::fs::write(folder.join("services/a.conf"), "server {}")?;
    std::fs::write(folder.join(format!("services/{MARKER}.conf")), "")?;
    assert!(has_no_marker(folder.path()).is_err());
    assert!(hand_picked().iter().all(|text| text.contains(MARKER)));
    Ok(())
}

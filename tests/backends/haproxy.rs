//! `--backend .../liblbex_haproxy.so`: the plugin in `plugins/haproxy`, with the machine's HAProxy.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbex_conformance::{Feature, Subject, Ways, conformance};
use lbex_test_harness::backends::tcp_ask;
use lbex_test_harness::lbex::{Builder, Lbex};
use lbex_test_harness::manifests::{World, at, pods_slice, servers, tcp_reaches};
use lbex_test_harness::objects::service;
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

struct HaProxy;

/// What the contract promises for a proxy that was killed.
const AT_ONCE: Duration = Duration::from_secs(2);

/// The library, which cargo puts beside this test.
fn library() -> Result<PathBuf> {
    let test = std::env::current_exe().context("failed to find this test")?;
    let library = test.with_file_name("liblbex_haproxy.so");
    ensure!(library.exists(), "{} is not there", library.display());
    Ok(library)
}

impl Subject for HaProxy {
    fn lbex(&self) -> Result<Builder> {
        Ok(Lbex::builder(super::binary()).arg(format!("--backend={}", library()?.display())))
    }

    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::Udp => Some("does not carry UDP"),
            Feature::LeastTime => Some("least_time"),
            _ => None,
        }
    }

    fn ways(&self) -> Ways {
        Ways { listeners_by_reload: true, endpoints_by_reload: false, old_workers_drain: true }
    }

    fn serving(&self, lbex: &Lbex) -> Vec<u32> {
        let number = |text: &str| text.trim().parse().ok();
        let pid = std::fs::read_to_string(lbex.prefix().join("plugins/haproxy/pid")).ok();
        let Some(master) = pid.as_deref().and_then(number) else { return Vec::new() };
        // The workers are its children.
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
        std::iter::once(master).chain(children.split_whitespace().filter_map(number)).collect()
    }
}

conformance!(haproxy, HaProxy);

/// Whichever process of HAProxy is killed, clients are served again within two seconds (contract, section 8), and the Services are as they
/// were last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_started_again_when_it_is_killed() -> Result<()> {
    let (port, servers) = (free_port()?, servers(2)?);
    let web = service("web").ask().lbex("upstream-type", "pod").tcp("tcp", port, 0).listen("tcp", port);
    let world = World::serve(HaProxy.lbex()?, [&web as _, &pods_slice("web", &servers[..1]) as _]).await?;
    world.put([&web as _, &pods_slice("web", &servers[1..]) as _])?;
    tcp_reaches(at(port), &["b"]).await?;
    for victim in [0, 1] {
        // A machine that is busy with much else may take longer, but not each time.
        let mut fastest = Duration::MAX;
        for _ in 0..3 {
            fastest = fastest.min(serves_without(&world, port, victim).await?);
            if fastest < AT_ONCE {
                break;
            }
        }
        ensure!(fastest < AT_ONCE, "after {fastest:?}");
    }
    Ok(())
}

/// How long it takes until clients are served again after the first or the second process was killed.
async fn serves_without(world: &World, port: u16, victim: usize) -> Result<Duration> {
    let before = HaProxy.serving(&world.lbex);
    ensure!(before.len() == 2, "a master and a worker: {before:?}");
    kill(Pid::from_raw(before[victim].try_into()?), Signal::SIGKILL)?;
    let killed = Instant::now();
    eventually("other processes serve", SOON, || async {
        let now = HaProxy.serving(&world.lbex);
        ensure!(now.len() == 2 && now.iter().all(|pid| !before.contains(pid)), "{now:?}");
        ensure!(tcp_ask(at(port)).await? == "b");
        Ok(())
    })
    .await?;
    let took = killed.elapsed();
    world.lbex.wait_healthy().await?;
    Ok(took)
}

/// `lbex plugin check`: everything that LBEX may ask of a plugin.
#[tokio::test]
async fn it_passes_the_conformance_kit() -> Result<()> {
    super::passes_the_conformance_kit(&library()?).await
}

//! A running LBEX that follows a folder of manifests, on one of the NGINX builds.

use std::ops::{Deref, DerefMut};
use std::path::Path;

use anyhow::{Context, Result};
use lbex_test_harness::lbex::{Builder, Lbex};
use lbex_test_harness::manifests;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::Object;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) use lbex_test_harness::manifests::{
    ANSWER, CLOSED, Manifests, at, at6, fails_with, local, pods, pods_slice, servers, tcp_closes, tcp_reaches,
    tcp_refused, udp_reaches, udp_silent,
};
pub(crate) use lbex_test_harness::netns::alone;

/// With this variable set, tests that take seconds take the minutes that their numbers are meant for.
pub(crate) const LONG: &str = "LBEX_TEST_LONG";

/// The LBEX under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lbex"))
}

/// How an LBEX is started on a folder of manifests.
pub(crate) fn lbex_on(manifests: &Manifests, nginx: Nginx) -> Builder {
    Lbex::builder(binary()).arg(manifests.flag()).nginx(nginx)
}

/// An LBEX that serves a folder of manifests.
#[derive(Debug)]
pub(crate) struct World(manifests::World);

impl World {
    /// Starts LBEX on these objects, and waits until it is healthy. Reloads may follow one another at once.
    pub(crate) async fn start<'a>(nginx: Nginx, objects: impl IntoIterator<Item = &'a dyn Object>) -> Result<Self> {
        Self::start_with(nginx, &["--reload-interval=100ms"], objects).await
    }

    /// The same with these flags.
    pub(crate) async fn start_with<'a>(
        nginx: Nginx,
        flags: &[&str],
        objects: impl IntoIterator<Item = &'a dyn Object>,
    ) -> Result<Self> {
        let lbex = Lbex::builder(binary()).nginx(nginx).args(flags);
        manifests::World::serve(lbex, objects).await.map(Self)
    }

    /// The ids of the NGINX processes that serve new clients, master and workers.
    pub(crate) fn nginx_pids(&self) -> Vec<u32> {
        serving_pids(&self.lbex)
    }
}

impl Deref for World {
    type Target = manifests::World;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// The ids of an LBEX's NGINX processes that serve new clients, master and workers.
pub(crate) fn serving_pids(lbex: &Lbex) -> Vec<u32> {
    lbex.serving_nginx_pids()
}

/// What NGINX has written to its error log.
pub(crate) fn error_log(lbex: &Lbex) -> Result<String> {
    let path = lbex.prefix().join("logs/error.log");
    std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(pid.try_into()?), signal).with_context(|| format!("failed to send {signal} to {pid}"))
}

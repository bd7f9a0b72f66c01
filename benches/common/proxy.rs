//! NGINX without LBEX, and clients that wait for an answer through it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lbex_test_harness::backends::tcp_ask;
use lbex_test_harness::nginx::{NginxProcess, processes_of};
use lbex_test_harness::wait::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep, timeout};

/// How long anything may take before a benchmark gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The pause between two attempts of a client: the resolution of what is measured by them.
const PAUSE: Duration = Duration::from_micros(500);

/// A port of this host, on the address that the benchmarks' listeners have.
pub(crate) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Connects again and again until `expected` answers there (`None`: anybody).
pub(crate) async fn answered(address: SocketAddr, expected: Option<&str>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = match tcp_ask(address).await {
            Ok(name) if expected.is_none_or(|expected| expected == name) => return Ok(()),
            seen => seen,
        };
        ensure!(
            Instant::now() < deadline,
            "{address} did not answer as {expected:?} within {PATIENCE:?}, but {seen:?}"
        );
        sleep(PAUSE).await;
    }
}

/// The NGINX of a prefix that LBEX made, run without LBEX.
pub(crate) struct Bare {
    prefix: PathBuf,
}

impl Bare {
    pub(crate) fn new(prefix: &Path) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Starts it in the background, as LBEX does, with the configuration in place.
    pub(crate) async fn start(&self) -> Result<()> {
        let mut command = tokio::process::Command::from(self.command());
        let status = command.status().await.context("failed to run NGINX")?;
        ensure!(status.success(), "NGINX did not start: {status}");
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.prefix.join("bin/nginx"));
        command.arg("-p").arg(&self.prefix).args(["-c", "conf/nginx.conf", "-e", "logs/error.log"]);
        command.current_dir(&self.prefix);
        command
    }

    /// Sends a signal to its master.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let Some(master) = processes_of(&self.prefix).into_iter().find(NginxProcess::is_master) else {
            bail!("no NGINX runs in {}", self.prefix.display());
        };
        kill(Pid::from_raw(i32::try_from(master.pid)?), signal).context("failed to signal NGINX")
    }

    /// Stops it and waits until it is gone.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        self.gone().await
    }

    /// Waits until it is gone.
    async fn gone(&self) -> Result<()> {
        eventually("NGINX is gone", PATIENCE, || {
            let left = processes_of(&self.prefix);
            std::future::ready(if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) })
        })
        .await
    }

    /// The master's process id, once and for all.
    pub(crate) fn master(&self) -> Result<Pid> {
        let text = std::fs::read_to_string(self.prefix.join("run/nginx.pid")).context("failed to read the pid file")?;
        Ok(Pid::from_raw(text.trim().parse().context("the pid file holds no number")?))
    }
}

/// Runs `work`, but no longer than [`PATIENCE`].
pub(crate) async fn patiently<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(PATIENCE, work).await.with_context(|| format!("{what}: not within {PATIENCE:?}"))?
}

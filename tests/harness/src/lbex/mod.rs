//! LBEX as a process, with ports and a prefix of its own, and nothing left behind: not even its NGINX.

mod metrics;
mod options;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

pub use metrics::Samples;
pub use options::Builder;

use crate::nginx::{NginxProcess, processes_of};
use crate::process::Process;
use crate::wait::{SOON, eventually};
use crate::{Scratch, http};

/// How long LBEX may take until it is healthy: a second or two, unless the machine is busy with much else.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// How long LBEX may take to end after SIGTERM: the contract's 10 s and something for a busy machine.
const END_DEADLINE: Duration = Duration::from_secs(15);

/// A running LBEX.
///
/// Dropping it kills LBEX, then every NGINX that uses its prefix, removes the folder, and panics if an
/// NGINX is left. If the test is failing, the end of LBEX's log goes to standard error.
#[derive(Debug)]
pub struct Lbex {
    process: Process,
    command: Command,
    health: u16,
    metrics: u16,
    prefix: PathBuf,
    scratch: Scratch,
}

/// How LBEX ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// How long it took from the signal.
    pub took: Duration,
}

impl Lbex {
    /// Starts LBEX with these arguments and variables, and does not wait for anything.
    ///
    /// Unless given, it gets `--health-address 127.0.0.1`, `--health-port` and `--metrics-address` with free ports, and
    /// `--nginx-prefix` in a temporary folder. No `LBEX_*` variable of the test's environment reaches it.
    pub async fn start<A: AsRef<str>, K: AsRef<str>, V: AsRef<str>>(
        binary: &Path,
        arguments: impl IntoIterator<Item = A>,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self> {
        let mut builder = Self::builder(binary).args(arguments);
        for (name, value) in variables {
            builder = builder.env(name.as_ref(), value.as_ref());
        }
        builder.start().await
    }

    /// Options for more than [`start`](Self::start) has.
    pub fn builder(binary: &Path) -> Builder {
        Builder::new(binary)
    }

    /// Waits until it is healthy (contract section 6).
    ///
    /// Fails, with the end of the log, if it ends or is not healthy within 90 s.
    pub async fn wait_healthy(&self) -> Result<()> {
        let healthy = eventually("LBEX is healthy", START_DEADLINE, || async {
            let answer = self.get("/").await?;
            ensure!(answer.status == 200, "{} {:?}", answer.status, answer.body);
            ensure!(answer.body == "healthy\n", "status 200, but the body is {:?}", answer.body);
            Ok(())
        });
        self.unless_ended(healthy).await
    }

    /// Waits until it is ready. On a fresh start that is when the first plan is applied: before that NGINX may serve and LBEX be healthy
    /// while NGINX is reloaded once more and the metrics are at nothing. With a last good state LBEX is ready before it has planned
    /// anything: see [`wait_applied`](Self::wait_applied).
    ///
    /// Fails, with the end of the log, if it ends or is not ready within 90 s.
    pub async fn wait_ready(&self) -> Result<()> {
        let ready = eventually("LBEX is ready", START_DEADLINE, || self.ensure_ready());
        self.unless_ended(ready).await
    }

    /// Waits until everything planned is confirmed by the proxy.
    pub async fn wait_applied(&self) -> Result<()> {
        eventually("what was planned is applied", SOON, || async {
            self.ensure_ready().await?;
            let metrics = Samples::parse(&self.metrics().await?);
            let planned = metrics.sum("lbex_desired_generation", &[]);
            let applied = metrics.sum("lbex_applied_generation", &[]);
            ensure!(planned == applied, "planned {planned:?}, applied {applied:?}");
            // After a restart both are nothing until there is a plan.
            let applies = metrics.sum("lbex_apply_duration_seconds_count", &[]);
            ensure!(applies >= Some(1.0), "applied {applies:?} times");
            Ok(())
        })
        .await
    }

    async fn ensure_ready(&self) -> Result<()> {
        let ready = self.get("/readyz").await?;
        ensure!(ready.status == 200, "{} {:?}", ready.status, ready.body);
        Ok(())
    }

    /// GET on the health port: `/`, `/livez`, `/readyz`.
    pub async fn get(&self, path: &str) -> Result<http::Response> {
        http::get(self.health_address(), path).await
    }

    /// The address of the health endpoint.
    pub fn health_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.health).into()
    }

    /// The address of the metrics endpoint.
    pub fn metrics_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.metrics).into()
    }

    /// All metrics, in Prometheus' text format.
    pub async fn metrics(&self) -> Result<String> {
        let answer = http::get(self.metrics_address(), "/metrics").await?;
        ensure!(answer.status == 200, "/metrics answers {} {:?}", answer.status, answer.body);
        Ok(answer.body)
    }

    /// The value of a metric whose labels include `labels`; their sum if several do, `None` if none does.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Result<Option<f64>> {
        Ok(Samples::parse(&self.metrics().await?).sum(name, labels))
    }

    /// Everything it has logged, over all restarts.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.process.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of the log, for error messages.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Waits until a line of the log contains `text`, and returns that line (the first one).
    ///
    /// Fails, with the end of the log, after `deadline`, or if LBEX ends without it.
    pub async fn wait_log(&self, text: &str, deadline: Duration) -> Result<String> {
        self.wait_log_since(0, text, deadline).await
    }

    /// The length of the log by now, in bytes: for [`wait_log_since`](Self::wait_log_since).
    pub fn log_mark(&self) -> usize {
        self.log().len()
    }

    /// Like [`wait_log`](Self::wait_log), for lines after a mark. One that is not written to its end yet is waited for.
    pub async fn wait_log_since(&self, mark: usize, text: &str, deadline: Duration) -> Result<String> {
        let find = || {
            let log = self.log();
            let mut lines = log.get(mark..).unwrap_or_default().split_inclusive('\n');
            let line = lines.find(|line| line.ends_with('\n') && line.contains(text));
            line.map(|line| line.trim_end_matches('\n').to_owned())
        };
        let what = format!("the log has {text:?}");
        let found = eventually(&what, deadline, || async { find().with_context(|| self.log_tail()) });
        let result = self.unless_ended(found).await;
        // It may have been its last word.
        result.or_else(|error| find().ok_or(error))
    }

    /// Sends a signal to LBEX alone, not to its NGINX.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Sends SIGTERM and waits until LBEX has ended. Its NGINX stays, as the contract wants.
    ///
    /// Fails, with the end of the log, if it has not ended after 15 s.
    pub async fn terminate(&self) -> Result<Ended> {
        let since = Instant::now();
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.wait(END_DEADLINE).await?;
        Ok(Ended { status, took: since.elapsed() })
    }

    /// Kills LBEX with SIGKILL and waits until it is gone. Its NGINX stays.
    pub async fn kill(&self) -> Result<()> {
        self.process.signal(Signal::SIGKILL)?;
        self.process.wait(END_DEADLINE).await.map(drop)
    }

    /// Starts LBEX again with the same arguments, variables, ports and prefix, after it has ended.
    ///
    /// Fails if it still runs.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.exit_status().is_some(), "LBEX still runs: terminate or kill it first");
        let log = self.process.log_path().to_owned();
        self.process = Process::start("lbex", &self.command, &log)?;
        Ok(())
    }

    /// Waits until LBEX has ended by itself.
    ///
    /// Fails, with the end of the log, if it still runs after `deadline`.
    pub async fn wait_exit(&self, deadline: Duration) -> Result<ExitStatus> {
        self.process.wait(deadline).await
    }

    /// How it ended, or `None` while it runs.
    pub fn has_ended(&self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its resident memory in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is no number")?;
        Ok(kib * 1024)
    }

    /// The prefix directory, with NGINX's files.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The process id of the NGINX master, by the pid file `PREFIX/run/nginx.pid`.
    ///
    /// Fails if there is no pid file, or if the process it names is not the master of this prefix.
    pub fn nginx_pid(&self) -> Result<u32> {
        let path = self.prefix.join("run/nginx.pid");
        let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let pid = text.trim().parse().with_context(|| format!("{} holds {text:?}", path.display()))?;
        let Some(master) = self.nginx_processes().into_iter().find(|process| process.pid == pid) else {
            bail!("process {pid} of {} is no NGINX of this prefix", path.display());
        };
        ensure!(master.is_master(), "process {pid} of {} is {:?}", path.display(), master.title);
        Ok(pid)
    }

    /// Every NGINX process that uses the prefix, masters and workers.
    pub fn nginx_processes(&self) -> Vec<NginxProcess> {
        processes_of(&self.prefix)
    }

    /// The ids of the NGINX processes that serve new clients, master and workers.
    pub fn serving_nginx_pids(&self) -> Vec<u32> {
        let processes = self.nginx_processes();
        let serving = processes.iter().filter(|process| !process.is_shutting_down() && !process.is_check());
        serving.map(|process| process.pid).collect()
    }

    /// Awaits `work`; fails early, with the end of the log, if LBEX ends meanwhile.
    async fn unless_ended<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let forever = Duration::from_secs(3600);
        tokio::select! {
            result = work => result.with_context(|| format!("the log of LBEX ends with:\n{}", self.log_tail())),
            ended = self.process.wait(forever) => {
                bail!("LBEX has ended ({}); its log ends with:\n{}", ended?, self.log_tail())
            }
        }
    }
}

impl Drop for Lbex {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        if failing {
            eprintln!("the log of LBEX ends with:\n{}", self.log_tail());
        }
        self.process.kill();
        self.scratch.remove();
        if !self.prefix.starts_with(self.scratch.path()) {
            return; // somebody else's, with an NGINX that may well run on
        }
        let left = self.nginx_processes();
        if !left.is_empty() {
            eprintln!("test harness: NGINX of {} is left: {left:?}", self.prefix.display());
            assert!(failing, "NGINX processes are left: {left:?}");
        }
    }
}

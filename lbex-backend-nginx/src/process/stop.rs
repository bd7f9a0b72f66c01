//! Stops NGINX.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::proc::{self, NginxProcess, Role};
use super::{Nginx, ProcessError, send_if_alive};

/// How long processes may take to end after a signal that ends them at once.
const GRACE: Duration = Duration::from_secs(2);

/// How often processes are looked at while connections drain.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// How NGINX ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// There was nothing to stop.
    WasNotRunning,
    /// Every connection ended by itself.
    Drained,
    /// Connections that remained after the drain time were closed.
    Terminated,
    /// Processes that did not react were killed.
    Killed,
}

impl Nginx {
    /// Stops NGINX, as `--stop-proxy-on-exit` asks: it accepts no more connections at once (`QUIT`), those that
    /// exist have `drain` to end, then it is ended (`TERM`, and `KILL` if that does not help). Workers that an
    /// earlier master left are stopped with it.
    pub async fn stop(&self, drain: Duration) -> Result<Stopped, ProcessError> {
        let steps = [
            (Signal::SIGQUIT, drain, Stopped::Drained),
            (Signal::SIGTERM, GRACE, Stopped::Terminated),
            (Signal::SIGKILL, GRACE, Stopped::Killed),
        ];
        let mut processes = self.all_processes().await;
        if processes.is_empty() {
            return Ok(Stopped::WasNotRunning);
        }
        for (signal, patience, outcome) in steps {
            proc::blocking(move || signal_all(&processes, signal)).await?;
            processes = self.await_end(patience).await;
            if processes.is_empty() {
                return Ok(outcome);
            }
        }
        Err(ProcessError::OrphansRemain { pids: processes.iter().map(|p| p.id.pid).collect() })
    }

    /// Waits until no process of the prefix is left, or the time is over; answers those that are left.
    async fn await_end(&self, patience: Duration) -> Vec<NginxProcess> {
        let deadline = Instant::now() + patience;
        loop {
            let processes = self.all_processes().await;
            if processes.is_empty() || Instant::now() >= deadline {
                return processes;
            }
            // Only those that are known are looked at until all of them ended: reading all of /proc costs more.
            let mut known = processes;
            while !known.is_empty() && Instant::now() < deadline {
                tokio::time::sleep(DRAIN_POLL).await;
                known = proc::blocking(move || {
                    known.retain(|process| proc::is_alive(process.id));
                    known
                })
                .await;
            }
        }
    }
}

/// Masters first, so that none of them starts workers anew; workers with a master hear from it, except `KILL`.
fn signal_all(processes: &[NginxProcess], signal: Signal) -> Result<(), ProcessError> {
    let masters: Vec<&NginxProcess> = processes.iter().filter(|p| p.role == Role::Master).collect();
    let has_master = |p: &NginxProcess| masters.iter().any(|master| master.id.pid == p.parent);
    let orphans = processes.iter().filter(|p| p.role != Role::Master && (signal == Signal::SIGKILL || !has_master(p)));
    for process in masters.iter().copied().chain(orphans) {
        send_if_alive(process.id, signal)?;
    }
    Ok(())
}

//! Exchanges the binary of a running NGINX without losing a connection (contract section 8).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::cleanup::POLL;
use super::{LogPosition, Master, Nginx, ProcessError, ProcessId, proc, send};
use crate::binary::NginxBinary;
use crate::confirm::{Awaited, Confirmed, await_generation};

impl Nginx {
    /// Replaces the running NGINX by `binary`, with the configuration in place (which must be one for `binary`, and
    /// answer with `generation`, another one than that being served).
    ///
    /// `USR2` makes the master run its own path again, now leading to the new binary, with its sockets handed
    /// over; once the new one answers, the old one is told to finish (`QUIT`) and goes when its last connection
    /// does. If the new one does not come up the old one goes on, untouched.
    ///
    /// A master that was not started by LBEX's launcher (`bin/nginx`) cannot be given another binary that way,
    /// nor can one whose predecessor still finishes its connections ([`ProcessError::UpgradePending`]).
    pub async fn upgrade(
        &self,
        binary: &NginxBinary,
        generation: &str,
        limit: Duration,
    ) -> Result<Confirmed, ProcessError> {
        let begin = Instant::now();
        let deadline = begin + limit;
        let old = self.status().await.ok_or(ProcessError::NotRunning)?;
        if let Some(before) = old.old_master {
            return Err(ProcessError::UpgradePending { pid: before.pid });
        }
        let previous = std::fs::read_link(self.layout.launcher()).ok();
        self.point_launcher_to(&binary.path)?;
        self.restore_pid_file(old.id)?;
        let since = self.log.position();
        send(old.id, Signal::SIGUSR2).await?;
        let successor = match self.await_successor(&old, binary, generation, since, deadline).await {
            Ok(successor) => successor,
            Err(error) => {
                if let Some(previous) = previous {
                    self.point_launcher_to(&previous)?;
                }
                return Err(error);
            }
        };
        let answered = begin.elapsed();
        send(old.id, Signal::SIGQUIT).await?;
        let old_workers = old.all_workers().map(|worker| worker.id).collect();
        let awaited = Awaited {
            master: successor,
            socket: self.layout.generation_socket(),
            old_workers,
            generation,
            since,
            deadline,
        };
        await_generation(&self.log, &awaited).await?;
        Ok(Confirmed { answered, complete: begin.elapsed() })
    }

    /// Waits for the new master and its first answer. One that came up and does not answer is ended, so that the
    /// old one has its pid file back and everything is as before.
    async fn await_successor(
        &self,
        old: &Master,
        binary: &NginxBinary,
        generation: &str,
        since: LogPosition,
        deadline: Instant,
    ) -> Result<ProcessId, ProcessError> {
        let failed = || ProcessError::UpgradeFailed { path: binary.path.clone(), lines: self.said(since) };
        let mut successor = None;
        let outcome = loop {
            let master = self
                .status()
                .await
                .ok_or_else(|| ProcessError::MasterEnded { pid: old.id.pid, lines: self.said(since) })?;
            match (successor, master.id != old.id) {
                (None, true) => successor = Some(master.id),
                (Some(_), false) => break Err(failed()),
                _ => {}
            }
            if let Some(id) = successor {
                let awaited = Awaited {
                    master: id,
                    socket: self.layout.generation_socket(),
                    old_workers: BTreeSet::new(),
                    generation,
                    since,
                    deadline,
                };
                break await_generation(&self.log, &awaited).await.map(|_| id).map_err(|_| failed());
            }
            if Instant::now() >= deadline || self.gave_up(old, since) {
                break Err(failed());
            }
            tokio::time::sleep(POLL).await;
        };
        if let (Err(_), Some(id)) = (&outcome, successor) {
            self.abandon(id).await;
        }
        outcome
    }

    /// Whether the old master has seen its successor die: it has its pid file back, and something was said. Or somebody removed that
    /// file, without which there is no successor.
    fn gave_up(&self, old: &Master, since: LogPosition) -> bool {
        proc::read_pid_file(&self.layout.pid_file()).is_none_or(|pid| pid == old.id.pid)
            && !self.layout.old_pid_file().exists()
            && !self.said(since).is_empty()
    }

    async fn abandon(&self, successor: ProcessId) {
        if let Err(error) = send(successor, Signal::SIGTERM).await {
            tracing::debug!(%error, "the new NGINX had ended already");
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        while proc::lives(successor).await && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
    }
}

//! Starts NGINX.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::cleanup::POLL;
use super::starter::{Starter, ask};
use super::{LogLine, LogPosition, Master, Nginx, ProcessError, StartOptions, Started, proc, raise_file_limit};
use crate::binary::NginxBinary;
use crate::confirm::{Awaited, await_generation};
use crate::prefix::Layout;

/// What NGINX gets of LBEX's environment, which may hold secrets: what the C library looks at.
const ENVIRONMENT: &[&str] = &["PATH", "TZ", "LD_LIBRARY_PATH"];

/// How much of what NGINX prints at its start is kept, in bytes.
const MOST_OUTPUT: u64 = 64 * 1024;

impl Nginx {
    /// Starts NGINX with the configuration in place, as a daemon in a session of its own, and waits until it
    /// answers with the generation. What a killed one left behind is cleaned up first.
    ///
    /// After [`ProcessError::StartFailed`] nothing runs; after [`ProcessError::NotConfirmed`] a master may run that
    /// was too slow: [`status`](Self::status) tells.
    pub async fn start(&self, binary: &NginxBinary, options: &StartOptions) -> Result<Started, ProcessError> {
        let begin = Instant::now();
        let deadline = begin + options.limit;
        let cleaned = self.clean_up().await?;
        let open_files = raise_file_limit(options.open_files);
        self.point_launcher_to(&binary.path)?;
        let since = self.log.position();
        let error_log_flag = binary.capabilities.error_log_flag;
        let launched = match self.starter {
            Starter::Own => launch(&self.layout, error_log_flag, deadline).await?,
            Starter::Service => ask(&self.layout, error_log_flag, options.open_files, deadline).await?,
        };
        if !launched.success {
            let lines = said(&launched.output, || self.said(since));
            return Err(ProcessError::StartFailed { status: launched.status, lines });
        }
        let master = self.await_master(since, deadline, options).await?;
        let awaited = Awaited {
            master: master.id,
            socket: self.layout.generation_socket(),
            old_workers: BTreeSet::new(),
            generation: &options.generation,
            since,
            deadline,
        };
        await_generation(&self.log, &awaited).await?;
        self.await_all_workers(master.id, deadline).await;
        let master = self
            .status()
            .await
            .ok_or_else(|| ProcessError::MasterEnded { pid: master.id.pid, lines: self.said(since) })?;
        Ok(Started { master, open_files, cleaned, took: begin.elapsed() })
    }

    /// Makes `bin/nginx` lead to `binary`, atomically.
    pub(super) fn point_launcher_to(&self, binary: &Path) -> Result<(), ProcessError> {
        let launcher = self.layout.launcher();
        if std::fs::read_link(&launcher).is_ok_and(|target| target == binary) {
            return Ok(());
        }
        let temporary = launcher.with_extension("new");
        let failed = |verb| {
            let path = launcher.clone();
            move |source| ProcessError::Io { verb, path, source }
        };
        match std::fs::remove_file(&temporary) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("replace")(error)),
        }
        symlink(binary, &temporary).map_err(failed("create"))?;
        std::fs::rename(&temporary, &launcher).map_err(failed("replace"))
    }

    async fn await_master(
        &self,
        since: LogPosition,
        deadline: Instant,
        options: &StartOptions,
    ) -> Result<Master, ProcessError> {
        loop {
            if let Some(master) = self.status().await {
                return Ok(master);
            }
            if Instant::now() >= deadline || !self.layout.run_dir().exists() {
                return Err(ProcessError::NotConfirmed {
                    expected: options.generation.clone(),
                    waited: options.limit,
                    answered: None,
                    lines: self.said(since),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What NGINX said since; a log that cannot be read is said instead of it.
    pub(crate) fn said(&self, since: LogPosition) -> Vec<LogLine> {
        self.log.problems_since(since).unwrap_or_else(|error| {
            let text = format!("its error log {} cannot be read: {error}", self.layout.error_log().display());
            vec![LogLine { level: super::Level::Alert, pid: None, text }]
        })
    }

    /// The process ids of all processes of this prefix, masters and workers.
    pub(super) async fn all_processes(&self) -> Vec<proc::NginxProcess> {
        let layout = self.layout.clone();
        proc::blocking(move || proc::nginx_processes(&layout)).await
    }
}

/// What became of a start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Launched {
    /// NGINX has become a daemon.
    pub(super) success: bool,
    /// How the process that was started ended.
    pub(super) status: String,
    /// What it printed.
    pub(super) output: String,
}

/// Runs the launcher until it has become a daemon, or failed; answers what it printed too.
///
/// NGINX daemonizes by itself: it starts a session of its own, and the process started here ends. All
/// sockets are bound by then. A process group of its own keeps a Ctrl-C meant for LBEX away from it.
pub(super) async fn launch(layout: &Layout, error_log_flag: bool, deadline: Instant) -> Result<Launched, ProcessError> {
    let launcher = layout.launcher();
    let mut command = Command::new(&launcher);
    command.arg("-p").arg(layout.root()).args(["-c", "conf/nginx.conf"]);
    if error_log_flag {
        command.args(["-e", "logs/error.log"]);
    }
    command.env_clear().envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.current_dir(layout.root()).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let failed = |source| {
        let path = std::fs::read_link(&launcher).unwrap_or_else(|_| launcher.clone());
        ProcessError::Io { verb: "run", path, source }
    };
    let mut child = command.spawn().map_err(failed)?;
    let reader = child.stderr.take().map(|stderr| {
        tokio::spawn(async move {
            let mut text = Vec::new();
            let read = stderr.take(MOST_OUTPUT).read_to_end(&mut text).await;
            read.map(|_| String::from_utf8_lossy(&text).into_owned())
        })
    });
    let remaining = deadline.saturating_duration_since(Instant::now());
    let Ok(status) = tokio::time::timeout(remaining, child.wait()).await else {
        let status = format!("not ready after {remaining:?}, ended");
        return Ok(Launched { success: false, status, output: String::new() });
    };
    let status = status.map_err(failed)?;
    // The daemon gives its copy of the pipe up as soon as its log is open: the end is near.
    let output = match reader {
        Some(reader) => match tokio::time::timeout(Duration::from_millis(500), reader).await {
            Ok(Ok(Ok(text))) => text,
            _ => String::new(),
        },
        None => String::new(),
    };
    Ok(Launched { success: status.success(), status: status.to_string(), output })
}

/// What is to be reported of a failed start: the grave lines of its output, else of the log, else its last line.
fn said(output: &str, log: impl FnOnce() -> Vec<LogLine>) -> Vec<LogLine> {
    let mut lines = LogLine::all_in(output);
    if lines.is_empty() {
        lines = log();
    }
    if lines.is_empty() {
        let last = output.lines().last().map(str::to_owned);
        lines.extend(last.map(|text| LogLine { level: super::Level::Emerg, pid: None, text }));
    }
    lines
}

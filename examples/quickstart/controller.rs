//! The LBEX that the quickstart runs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// How long LBEX may take to start NGINX and serve.
const START: Duration = Duration::from_secs(15);
/// How long it may take to drain and stop NGINX and end.
const STOP: Duration = Duration::from_secs(15);
/// Lines of its log that are shown where something fails.
const LOG_LINES: usize = 30;

/// A running LBEX.
pub(crate) struct Controller {
    process: Child,
    log: PathBuf,
    prefix: PathBuf,
    health_port: u16,
}

impl Controller {
    /// Starts `binary` on these manifests with everything that it writes in `folder`.
    pub(crate) async fn start(binary: &Path, manifests: &Path, folder: &Path) -> Result<Self> {
        let health_port = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port();
        let (log, prefix) = (folder.join("lbex.log"), folder.join("nginx"));
        let file = File::create(&log).with_context(|| format!("failed to create {}", log.display()))?;
        let mut command = Command::new(binary);
        command
            .arg("--manifests")
            .arg(manifests)
            .arg("--nginx-prefix")
            .arg(&prefix)
            .arg(format!("--health-port={health_port}"))
            .args(["--listen-address=127.0.0.1", "--health-address=127.0.0.1", "--metrics-address=off"])
            // On exit NGINX is stopped too, and need not wait for the clients that the quickstart itself was.
            .args(["--stop-proxy-on-exit=true", "--worker-shutdown-timeout=1s"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            // Not in the terminal's group: Ctrl-C is for the quickstart, which then stops LBEX.
            .process_group(0);
        // Settings of this shell must not change what is shown.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LBEX_") {
                command.env_remove(name);
            }
        }
        let process = command.spawn().with_context(|| format!("failed to start {}", binary.display()))?;
        Ok(Self { process, log, prefix, health_port })
    }

    /// Waits until LBEX serves.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let ready = async {
            loop {
                if let Some(status) = self.process.try_wait()? {
                    bail!("LBEX ended at once ({status})");
                }
                if ask(self.health_port, "/readyz").await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(START, ready).await.with_context(|| format!("LBEX was not ready within {START:?}"))?
    }

    /// Stops LBEX and with it NGINX; LBEX must end well and in time.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        let status = self.terminate().await?;
        if status.success() { Ok(()) } else { bail!("LBEX ended with {status} when it was told to stop") }
    }

    async fn terminate(&mut self) -> Result<ExitStatus> {
        if let Some(id) = self.process.id() {
            let id = i32::try_from(id).context("a process id out of range")?;
            kill(Pid::from_raw(id), Signal::SIGTERM).context("failed to send SIGTERM to LBEX")?;
        }
        if let Ok(status) = tokio::time::timeout(STOP, self.process.wait()).await {
            return Ok(status?);
        }
        self.process.kill().await.context("failed to kill LBEX")?;
        bail!("LBEX did not end within {STOP:?} of SIGTERM and was killed")
    }

    /// After a failure: ends whatever still runs and returns the end of the log.
    pub(crate) async fn abandon(&mut self) -> String {
        let ended = self.terminate().await.map_or_else(|error| format!("{error:#}\n"), |_| String::new());
        for process in self.left() {
            // Without LBEX, nobody else does it.
            kill(process, Signal::SIGTERM).ok();
        }
        let log = std::fs::read_to_string(&self.log).unwrap_or_else(|error| format!("(no log: {error})"));
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        format!("{ended}The end of LBEX's log:\n{tail}")
    }

    /// The processes of this LBEX's NGINX that run: those whose program is the one in its prefix.
    pub(crate) fn left(&self) -> Vec<Pid> {
        let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
        let own = |entry: &std::fs::DirEntry| {
            let program = std::fs::read_link(entry.path().join("exe"));
            program.is_ok_and(|program| program.starts_with(&self.prefix))
        };
        let id = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw);
        processes.flatten().filter(own).filter_map(id).collect()
    }
}

/// The answer to one HTTP request.
async fn ask(port: u16, path: &str) -> Result<String> {
    let asking = async {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(1), asking).await?
}

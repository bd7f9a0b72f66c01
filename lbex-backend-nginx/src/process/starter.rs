//! Who starts NGINX: LBEX itself, or a service of its own (`lbex proxy`), so that a supervisor that ends one of the two with all that
//! it has started does not end the other.
//!
//! The service listens on a UNIX socket in the prefix. LBEX sends one line of JSON, [`Request`], when everything for a start is in
//! place; the service runs NGINX's launcher, and answers with one line, [`Launched`]. All the rest (reload, upgrade, adopting what
//! runs) is signals and files as ever. Both sides may be of different versions: unknown fields are ignored, new ones have a default.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::start::{Launched, launch};
use super::{ProcessError, procfs, raise_file_limit};
use crate::prefix::Layout;

/// Who starts NGINX (`--start-nginx`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Starter {
    /// LBEX does.
    #[default]
    Own,
    /// A service does ([`StarterService`]), and LBEX never.
    Service,
}

/// What the service is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Request {
    /// How many files and sockets a process of NGINX may need.
    open_files: u64,
    /// NGINX knows the flag `-e`.
    error_log_flag: bool,
    /// How long it may take, in milliseconds.
    limit: u64,
}

/// The longest line of either side, in bytes: what NGINX prints at a start is cut to less.
const LONGEST_LINE: u64 = 512 * 1024;
/// How long LBEX waits for a service that is just being started, or restarted.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it tries meanwhile.
const AGAIN: Duration = Duration::from_millis(20);
/// How long the service waits for the line of somebody who has connected.
const PROMPT: Duration = Duration::from_secs(5);

/// Has the service start NGINX.
pub(super) async fn ask(
    layout: &Layout,
    error_log_flag: bool,
    open_files: u64,
    deadline: Instant,
) -> Result<Launched, ProcessError> {
    let path = layout.starter_socket();
    let failed = |source| ProcessError::NoStarter { path: path.clone(), source };
    let mut stream = connect(&path, deadline.min(Instant::now() + PATIENCE)).await.map_err(failed)?;
    let left = deadline.saturating_duration_since(Instant::now());
    let request = Request { open_files, error_log_flag, limit: u64::try_from(left.as_millis()).unwrap_or(u64::MAX) };
    let answer = async {
        send(&mut stream, &request).await?;
        receive::<Launched>(&mut stream).await
    };
    // The service keeps the time; this is for one that hangs.
    match timeout(left + PROMPT, answer).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
    }
}

async fn connect(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if nobody_there(&error) && Instant::now() < deadline => tokio::time::sleep(AGAIN).await,
            other => return other,
        }
    }
}

fn nobody_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// The side of the service: starts NGINX whenever LBEX asks for it.
#[derive(Debug)]
pub struct StarterService {
    layout: Layout,
    listener: UnixListener,
}

impl StarterService {
    /// Listens in the prefix, which must exist. Fails where another service does, and where it could not look at NGINX's processes.
    pub async fn bind(layout: Layout) -> Result<Self, ProcessError> {
        procfs::require()?;
        let path = layout.starter_socket();
        let failed = |verb| {
            let path = path.clone();
            move |source| ProcessError::Io { verb, path, source }
        };
        if UnixStream::connect(&path).await.is_ok() {
            return Err(ProcessError::StarterRuns { path });
        }
        let is_stale = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.file_type().is_socket());
        if is_stale {
            std::fs::remove_file(&path).map_err(failed("remove"))?;
        }
        let listener = UnixListener::bind(&path).map_err(failed("listen on"))?;
        Ok(Self { layout, listener })
    }

    /// Starts NGINX whenever it is asked to, one start after the other. Never returns; to be dropped when the service ends.
    pub async fn serve(&self) {
        loop {
            let answered = match self.listener.accept().await {
                Ok((stream, _)) => self.answer(stream).await,
                Err(error) => Err(error),
            };
            if let Err(error) = answered {
                tracing::warn!("failed to answer who asked for a start of NGINX: {error}");
                // Out of descriptors, say: not as fast as possible.
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    async fn answer(&self, mut stream: UnixStream) -> io::Result<()> {
        let (asks, ours) = (stream.peer_cred()?.uid(), nix::unistd::geteuid().as_raw());
        if asks != ours && asks != 0 {
            return Err(io::Error::other(format!("user {asks} may not ask, only user {ours} may")));
        }
        let request: Request = match timeout(PROMPT, receive(&mut stream)).await.map_err(io::Error::from)? {
            // Somebody who only looked whether anybody listens.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            request => request?,
        };
        let deadline = Instant::now() + Duration::from_millis(request.limit);
        raise_file_limit(request.open_files);
        let launched = match launch(&self.layout, request.error_log_flag, deadline).await {
            Ok(launched) => launched,
            Err(error) => Launched { success: false, status: error.to_string(), output: String::new() },
        };
        if launched.success {
            tracing::info!("NGINX started");
        } else {
            tracing::warn!("NGINX did not start ({})", launched.status);
        }
        send(&mut stream, &launched).await
    }
}

impl Drop for StarterService {
    /// Whoever asks from now on is not to wait for an answer.
    fn drop(&mut self) {
        let path = self.layout.starter_socket();
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!("failed to remove {}: {error}", path.display());
        }
    }
}

async fn send(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

async fn receive<T: for<'a> Deserialize<'a>>(stream: &mut UnixStream) -> io::Result<T> {
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST_LINE)).read_line(&mut line).await?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}

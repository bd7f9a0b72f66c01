//! What NGINX really serves, asked of NGINX (design: 'applied' means confirmed from the data plane).
//!
//! Every configuration has a stream server on the UNIX socket `run/generation.sock` that returns the generation. A
//! signal proves nothing: a reload may fail later, and then the old configuration goes on answering.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::process::closing::Closing;
use crate::process::proc;
use crate::process::{ErrorLog, Level, LogLine, LogPosition, ProcessError, ProcessId};

/// The longest text of a generation, in bytes.
const LONGEST: u64 = 256;

/// How long one answer may take. A worker gives it in a fraction of a millisecond unless the host is overloaded.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// How often NGINX is asked while a generation is awaited.
const POLL: Duration = Duration::from_millis(3);

/// How long NGINX's words about a failure are collected after the first.
const MORE_WORDS: Duration = Duration::from_millis(30);

/// The generation cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmError {
    /// The socket, or the connection, failed.
    #[error("failed to ask NGINX on {} which generation it serves: {source}", socket.display())]
    Io {
        /// The UNIX socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No answer.
    #[error("NGINX did not answer on {} within {ANSWER_LIMIT:?}: its workers are stuck, or have no time", socket.display())]
    TimedOut {
        /// The UNIX socket.
        socket: PathBuf,
    },
    /// An answer that is none.
    #[error("what answers on {} is not a generation: {text:?}", socket.display())]
    Strange {
        /// The UNIX socket.
        socket: PathBuf,
        /// What it answered, at most 256 bytes.
        text: String,
    },
}

/// The generation that is being served; `None` if nothing listens on the socket.
pub async fn serving_generation(socket: &Path) -> Result<Option<String>, ConfirmError> {
    let named = || socket.to_owned();
    let ask = async {
        let stream = match UnixStream::connect(socket).await {
            Ok(stream) => stream,
            Err(e) if is_nobody(&e) => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut answer = Vec::new();
        match stream.take(LONGEST).read_to_end(&mut answer).await {
            Ok(_) => Ok(Some(answer)),
            // The worker that had the connection in its queue ended.
            Err(e) if is_nobody(&e) => Ok(None),
            Err(e) => Err(e),
        }
    };
    let answer = tokio::time::timeout(ANSWER_LIMIT, ask)
        .await
        .map_err(|_| ConfirmError::TimedOut { socket: named() })?
        .map_err(|source| ConfirmError::Io { socket: named(), source })?;
    let Some(answer) = answer.filter(|answer| !answer.is_empty()) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&answer).trim().to_owned();
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(Some(text));
    }
    Err(ConfirmError::Strange { socket: named(), text })
}

/// Whether an error says that nothing listens, or that what did has ended just now.
fn is_nobody(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset)
}

/// What [`await_generation`] waits for.
#[derive(Clone, Debug)]
pub struct Awaited<'a> {
    /// The master that is to serve it.
    pub master: ProcessId,
    /// The UNIX socket on which it is to answer.
    pub socket: PathBuf,
    /// The workers of before: none of them may accept connections in the end.
    pub old_workers: BTreeSet<ProcessId>,
    /// The text that the new configuration returns on its socket.
    pub generation: &'a str,
    /// Where the error log ended before NGINX was told.
    pub since: LogPosition,
    /// Until when.
    pub deadline: Instant,
}

/// A generation is served, by all that accept connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// From the call to the first answer with the new generation.
    pub answered: Duration,
    /// From the call to the moment when no older worker accepted connections any more.
    pub complete: Duration,
}

/// Waits until NGINX answers with the generation, and then until no older worker accepts connections.
///
/// For about 100 ms after a reload old and new workers both accept. If the master writes an error that ends the
/// reload, that is [`ProcessError::Refused`] at once, with its words.
pub async fn await_generation(log: &ErrorLog, awaited: &Awaited<'_>) -> Result<Confirmed, ProcessError> {
    let begin = Instant::now();
    await_answer(log, awaited, begin).await?;
    let answered = begin.elapsed();
    await_old_workers(awaited, begin).await?;
    Ok(Confirmed { answered, complete: begin.elapsed() })
}

async fn await_answer(log: &ErrorLog, awaited: &Awaited<'_>, begin: Instant) -> Result<(), ProcessError> {
    let mut answered = None;
    let mut length = awaited.since;
    loop {
        match serving_generation(&awaited.socket).await {
            Ok(Some(generation)) if generation == awaited.generation => return Ok(()),
            Ok(other) => answered = other,
            Err(error) => tracing::debug!(%error, "asked again"),
        }
        let now = log.position();
        if now != length {
            length = now;
            if refusal(&words(log, awaited).await, awaited.master.pid) {
                tokio::time::sleep(MORE_WORDS).await;
                return Err(ProcessError::Refused { lines: words(log, awaited).await });
            }
        }
        if !proc::lives(awaited.master).await {
            return Err(ProcessError::MasterEnded { pid: awaited.master.pid, lines: words(log, awaited).await });
        }
        if Instant::now() >= awaited.deadline || folders_are_gone(log, awaited) {
            return Err(ProcessError::NotConfirmed {
                expected: awaited.generation.to_owned(),
                waited: begin.elapsed(),
                answered,
                lines: words(log, awaited).await,
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether somebody removed the prefix, or what of it counts here: then NGINX can neither answer nor tell why not.
fn folders_are_gone(log: &ErrorLog, awaited: &Awaited<'_>) -> bool {
    [log.path(), &awaited.socket].iter().any(|path| path.parent().is_some_and(|folder| !folder.exists()))
}

/// Whether the master said that it gave up. A port that is taken is tried five times over two seconds, and only
/// 'still could not bind' is the end of that.
fn refusal(lines: &[LogLine], master: i32) -> bool {
    lines.iter().any(|line| {
        let tries_again = line.text.starts_with("bind() to ") && line.text.contains("failed (98:");
        line.level == Level::Emerg && line.pid == Some(master) && !tries_again
    })
}

async fn await_old_workers(awaited: &Awaited<'_>, begin: Instant) -> Result<(), ProcessError> {
    let mut accepting = awaited.old_workers.clone();
    let mut closing = Closing::default();
    loop {
        (accepting, closing) = proc::blocking(move || {
            accepting.retain(|id| closing.accepts(*id));
            (accepting, closing)
        })
        .await;
        if accepting.is_empty() {
            return Ok(());
        }
        // Killed meanwhile: nobody tells them to finish any more.
        if !proc::lives(awaited.master).await {
            return Err(ProcessError::MasterEnded { pid: awaited.master.pid, lines: Vec::new() });
        }
        if Instant::now() >= awaited.deadline {
            return Err(ProcessError::OldWorkersRemain {
                expected: awaited.generation.to_owned(),
                waited: begin.elapsed(),
                pids: accepting.iter().map(|id| id.pid).collect(),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn words(log: &ErrorLog, awaited: &Awaited<'_>) -> Vec<LogLine> {
    let (log, since) = (log.clone(), awaited.since);
    proc::blocking(move || log.problems_since(since)).await.unwrap_or_else(|error| {
        let text = format!("its error log cannot be read: {error}");
        vec![LogLine { level: Level::Alert, pid: None, text }]
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A server that gives `answer` to one client.
    async fn asked_of(answer: &'static [u8]) -> Result<Option<String>, ConfirmError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).expect("bound");
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            // The client may stop reading early.
            let _ = client.write_all(answer);
        });
        let result = serving_generation(&socket).await;
        server.join().expect("served");
        result
    }

    #[tokio::test]
    async fn the_answer_is_bounded_and_has_to_be_a_generation() {
        assert_eq!(asked_of(b"g42\n").await.expect("an answer").as_deref(), Some("g42"));
        assert_eq!(asked_of(b"").await.expect("an answer"), None);
        assert!(matches!(asked_of(b"\xff\x00").await, Err(ConfirmError::Strange { .. })));
        let long = asked_of(&[b'x'; 10_000]).await.expect("an answer").expect("a text");
        assert_eq!(long.len(), 256);
    }

    #[tokio::test]
    async fn nobody_there_is_no_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("s");
        assert_eq!(serving_generation(&socket).await.expect("no error"), None);
        drop(UnixListener::bind(&socket).expect("bound"));
        assert_eq!(serving_generation(&socket).await.expect("no error"), None);
    }

    #[test]
    fn a_port_that_is_tried_again_is_no_refusal_yet() {
        let line = |pid, text: &str| LogLine { level: Level::Emerg, pid: Some(pid), text: text.to_owned() };
        let tried = line(1, "bind() to 0.0.0.0:80 failed (98: Address already in use)");
        assert!(!refusal(std::slice::from_ref(&tried), 1));
        assert!(refusal(&[tried.clone(), line(1, "still could not bind()")], 1));
        assert!(refusal(&[line(1, "unknown directive \"x\" in /p/conf/nginx.conf:3")], 1));
        assert!(!refusal(&[line(2, "worker's own trouble")], 1));
        let denied = line(1, "bind() to 0.0.0.0:80 failed (13: Permission denied)");
        assert!(refusal(&[denied], 1));
    }
}

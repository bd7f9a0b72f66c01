//! What a killed NGINX leaves behind: workers without a master that still hold the ports, stale sockets, a stale
//! pid file (contract section 8).

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::proc::{self, Role};
use super::{Nginx, ProcessError, ProcessId, procfs, send_if_alive};
use crate::prefix::Layout;

/// How many looks, [`POLL`] apart, orphan workers may take to let go of their ports after each signal. Looks are counted and not time:
/// where the whole host stood still the workers had no time, and the next signal would cut their connections.
const PATIENCE: [(Signal, usize); 3] = [(Signal::SIGQUIT, 140), (Signal::SIGTERM, 80), (Signal::SIGKILL, 80)];

/// How often processes are looked at while something is awaited.
pub(super) const POLL: Duration = Duration::from_millis(5);

/// What [`Nginx::clean_up`] found and removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Workers without a master that still accepted connections, and were told to stop.
    pub orphans: Vec<i32>,
    /// Those of them that only finish the connections they have: they are left to it.
    pub draining: Vec<i32>,
    /// Files that nobody served any more.
    pub files: Vec<PathBuf>,
}

impl Nginx {
    /// Makes room for a new NGINX after the last one was killed. Does nothing where all is in order;
    /// [`start`](Self::start) calls it.
    ///
    /// Workers without a master are told to finish (`QUIT`): they let go of the ports at once and keep the
    /// connections that they have. Those that do not are ended (`TERM`, then `KILL`).
    pub async fn clean_up(&self) -> Result<Cleaned, ProcessError> {
        // Whoever sees nothing does nothing.
        proc::blocking(procfs::look).await.map_err(|source| ProcessError::Io {
            verb: "look at the processes in",
            path: "/proc".into(),
            source,
        })?;
        if let Some(master) = self.status().await {
            return Err(ProcessError::AlreadyRuns { pid: master.id.pid });
        }
        let orphans = self.accepting().await;
        self.release_ports(orphans.clone()).await?;
        let layout = self.layout.clone();
        let files = proc::blocking(move || remove_stale_files(&layout)).await?;
        let layout = self.layout.clone();
        let draining = proc::blocking(move || proc::nginx_processes(&layout)).await;
        let draining = draining.into_iter().map(|p| p.id.pid).collect();
        Ok(Cleaned { orphans: orphans.into_iter().map(|id| id.pid).collect(), draining, files })
    }

    /// Processes of the prefix that (may) accept connections.
    async fn accepting(&self) -> Vec<ProcessId> {
        let layout = self.layout.clone();
        let processes = proc::blocking(move || proc::nginx_processes(&layout)).await;
        processes.into_iter().filter(|p| p.role != Role::ShuttingDown).map(|p| p.id).collect()
    }

    pub(super) async fn release_ports(&self, mut orphans: Vec<ProcessId>) -> Result<(), ProcessError> {
        for (signal, looks) in PATIENCE {
            if orphans.is_empty() {
                return Ok(());
            }
            orphans = proc::blocking(move || signal_each(orphans, signal)).await?;
            for _ in 0..looks {
                if orphans.is_empty() {
                    break;
                }
                tokio::time::sleep(POLL).await;
                orphans = proc::blocking(move || still_accepting(orphans)).await;
            }
        }
        if orphans.is_empty() {
            return Ok(());
        }
        Err(ProcessError::OrphansRemain { pids: orphans.into_iter().map(|id| id.pid).collect() })
    }
}

/// Answers those that it signalled.
fn signal_each(processes: Vec<ProcessId>, signal: Signal) -> Result<Vec<ProcessId>, ProcessError> {
    for id in &processes {
        send_if_alive(*id, signal)?;
    }
    Ok(processes)
}

fn still_accepting(mut processes: Vec<ProcessId>) -> Vec<ProcessId> {
    processes.retain(|id| match proc::role_of(*id) {
        // NGINX tries ports for two seconds: what it has not closed yet is no reason to end it, and its connections.
        Some(Role::ShuttingDown) => false,
        Some(_) => true,
        None => proc::is_alive(*id),
    });
    processes
}

/// Removes pid files, and UNIX sockets that nobody listens on: NGINX could not bind them again.
fn remove_stale_files(layout: &Layout) -> Result<Vec<PathBuf>, ProcessError> {
    let mut removed = Vec::new();
    for path in [layout.pid_file(), layout.old_pid_file()] {
        if remove(&path)? {
            removed.push(path);
        }
    }
    let folder = layout.run_dir();
    let entries = fs::read_dir(&folder).map_err(|source| ProcessError::Io { verb: "read", path: folder, source })?;
    for entry in entries.flatten() {
        let path = entry.path();
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        if is_socket && nobody_listens(&path) && remove(&path)? {
            removed.push(path);
        }
    }
    Ok(removed)
}

fn nobody_listens(socket: &Path) -> bool {
    UnixStream::connect(socket).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn remove(path: &Path) -> Result<bool, ProcessError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(ProcessError::Io { verb: "remove", path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    #[tokio::test]
    async fn stale_sockets_and_pid_files_go_and_sockets_in_use_stay() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let layout = Layout::new(folder.path());
        fs::create_dir(layout.run_dir()).expect("created");
        fs::write(layout.pid_file(), "999999999\n").expect("written");
        fs::write(layout.run_dir().join("kept"), "").expect("written");
        drop(UnixListener::bind(layout.generation_socket()).expect("bound"));
        let _used = UnixListener::bind(layout.run_dir().join("used.sock")).expect("bound");
        let _datagram = UnixDatagram::bind(layout.run_dir().join("datagram.sock")).expect("bound");

        let cleaned = Nginx::new(layout.clone()).clean_up().await.expect("cleaned");
        assert_eq!(cleaned.files, [layout.pid_file(), layout.generation_socket()]);
        assert!(cleaned.orphans.is_empty());
        let mut left: Vec<_> = fs::read_dir(layout.run_dir()).expect("read").flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left, ["datagram.sock", "kept", "used.sock"]);
    }
}

//! Processes as `/proc` shows them ([`procfs`]). Blocking and short: async callers go through [`blocking`].
//!
//! A process id alone proves nothing (a pid file outlives its process, ids are used again), and neither does the
//! executable (another NGINX on the host may share it). What ties a process to a prefix is its working directory:
//! LBEX starts NGINX in the prefix, workers inherit it, and nothing ever changes it. Directories are compared by
//! device and inode, so symbolic links and containers' views of the file system do not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::procfs;
use crate::prefix::Layout;

/// One process and no other: its id, and when it started, which differs when the id is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// The process id.
    pub pid: i32,
    /// When it started, in clock ticks since the host did.
    pub started: u64,
}

/// What a process of NGINX does, by its title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Master,
    /// A worker that accepts connections.
    Worker,
    /// A worker that only finishes the connections it has.
    ShuttingDown,
}

/// A process of NGINX that belongs to a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NginxProcess {
    pub(crate) id: ProcessId,
    pub(crate) parent: i32,
    pub(crate) role: Role,
    /// Somebody stopped it (SIGSTOP).
    pub(crate) stopped: bool,
}

/// The parts of `/proc/PID/stat` that LBEX uses.
struct Stat {
    name: String,
    state: char,
    parent: i32,
    /// Processor time in clock ticks, of which there are a hundred a second.
    used: u64,
    started: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&procfs::read_to_string(&format!("{pid}/stat")).ok()?)
}

/// `PID (NAME) STATE PARENT ...`; the name may hold spaces and parentheses, so what counts starts after the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let (before, after) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    Some(Stat {
        name: before.split_once('(')?.1.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        used: fields.get(11)?.parse::<u64>().ok()?.saturating_add(fields.get(12)?.parse().ok()?),
        started: fields.get(19)?.parse().ok()?,
    })
}

impl Stat {
    /// Whether it ended and only its exit status is left.
    fn ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The identity of a living process; `None` if it ended.
#[cfg(test)]
pub(crate) fn identify(pid: i32) -> Option<ProcessId> {
    let stat = stat(pid).filter(|stat| !stat.ended())?;
    Some(ProcessId { pid, started: stat.started })
}

/// Whether this very process still runs.
///
/// A daemon that ended and whose parent this process has become, as process 1 of a container does, is reaped.
pub(crate) fn is_alive(id: ProcessId) -> bool {
    let Some(stat) = stat(id.pid).filter(|stat| stat.started == id.started) else {
        return false;
    };
    if !stat.ended() {
        return true;
    }
    if i64::from(stat.parent) == i64::from(std::process::id()) && stat.name.starts_with("nginx") {
        // Another thread may have been faster: then there is nothing left to take.
        let _ = waitpid(Pid::from_raw(id.pid), Some(WaitPidFlag::WNOHANG));
    }
    false
}

/// The same, for those who must not block: with no file descriptor free, `/proc` is waited for.
pub(crate) async fn lives(id: ProcessId) -> bool {
    blocking(move || is_alive(id)).await
}

/// What a process is doing at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Activity {
    /// It waits for something to happen, or was stopped (SIGSTOP).
    pub(crate) rests: bool,
    /// The processor time that it has had.
    pub(crate) used: Duration,
}

/// What a process is doing; `None` if it ended.
pub(crate) fn activity(id: ProcessId) -> Option<Activity> {
    let stat = stat(id.pid).filter(|stat| stat.started == id.started && !stat.ended())?;
    // The kernel gives it to programs in hundredths of a second, whatever it counts in itself.
    Some(Activity { rests: matches!(stat.state, 'S' | 'T' | 't'), used: Duration::from_millis(stat.used * 10) })
}

/// The title of a process: its command line, which NGINX overwrites with what it does.
fn title(pid: i32) -> Option<String> {
    let bytes = procfs::read(&format!("{pid}/cmdline")).ok()?;
    let text: String = String::from_utf8_lossy(&bytes).replace('\0', " ");
    Some(text.trim_end().to_owned())
}

/// The command line of a process, for a message: at most 200 characters.
pub(crate) fn command_line(pid: i32) -> Option<String> {
    let title = title(pid).filter(|t| !t.is_empty())?;
    Some(title.chars().take(200).collect())
}

/// The short name of a process (`comm`).
pub(crate) fn name(pid: i32) -> Option<String> {
    Some(procfs::read_to_string(&format!("{pid}/comm")).ok()?.trim_end().to_owned())
}

fn role(title: &str) -> Option<Role> {
    let rest = title.strip_prefix("nginx: ")?;
    if rest.starts_with("master process") {
        Some(Role::Master)
    } else if rest.starts_with("worker process is shutting down") {
        Some(Role::ShuttingDown)
    } else if rest.starts_with("worker process") {
        Some(Role::Worker)
    } else {
        None
    }
}

/// What a process of NGINX does now; `None` if it ended, or is none.
pub(crate) fn role_of(id: ProcessId) -> Option<Role> {
    let role = role_by_title(id.pid)?;
    is_alive(id).then_some(role)
}

/// The role of an NGINX by its title, which it may be writing at this very moment: then it is looked at again.
fn role_by_title(pid: i32) -> Option<Role> {
    for _ in 0..TITLE_READS {
        let title = title(pid)?;
        if let Some(role) = role(&title) {
            return Some(role);
        }
        if !title.starts_with("nginx:") {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

/// NGINX writes a title in pieces, within less than a microsecond unless its processor is taken from it. Those of its other
/// processes (a cache's, for one) have no role here.
const TITLE_READS: usize = 3;

/// Whether a process of NGINX works in the prefix.
///
/// One started by hand from another directory still writes to the prefix's error log, and NGINX makes that its standard error, at
/// every reload anew. That descriptor is looked at and no other: a busy NGINX has a hundred thousand, and to read those of this
/// LBEX's neighbours took 20 s, at the end of a drain too.
fn works_in(pid: i32, layout: &Layout) -> bool {
    let same = |a: &fs::Metadata, b: &fs::Metadata| a.dev() == b.dev() && a.ino() == b.ino();
    let root = fs::metadata(layout.root());
    let cwd = procfs::metadata(&format!("{pid}/cwd"));
    cwd.is_ok_and(|cwd| root.is_ok_and(|root| same(&cwd, &root))) || has_as_standard_error(pid, &layout.error_log())
}

fn has_as_standard_error(pid: i32, file: &Path) -> bool {
    procfs::read_link(&format!("{pid}/fd/2")).is_ok_and(|target| {
        target == file || target.to_string_lossy().strip_suffix(" (deleted)").is_some_and(|t| Path::new(t) == file)
    })
}

/// A process of NGINX that belongs to the prefix.
pub(crate) fn nginx_process(pid: i32, layout: &Layout) -> Option<NginxProcess> {
    // LBEX runs every NGINX under this name. Reading the title of some other process could block: the kernel
    // waits for that process's memory lock.
    if !name(pid)?.starts_with("nginx") {
        return None;
    }
    let role = role_by_title(pid)?;
    let stat = stat(pid).filter(|stat| !stat.ended())?;
    let id = ProcessId { pid, started: stat.started };
    let found = NginxProcess { id, parent: stat.parent, role, stopped: stat.state == 'T' };
    works_in(pid, layout).then_some(found)
}

/// Every process of NGINX that belongs to the prefix.
///
/// A worker bears its master's title for the instant between its birth and its first own title. Such a
/// 'master', whose parent is a master of this prefix with the same executable and no pid file names it, is
/// reported as [`Role::Worker`] unless `keep` says that it is a master (a new binary's, in an upgrade).
pub(crate) fn nginx_processes(layout: &Layout) -> Vec<NginxProcess> {
    let mut found: Vec<NginxProcess> = pids().into_iter().filter_map(|pid| nginx_process(pid, layout)).collect();
    let masters: BTreeSet<i32> = found.iter().filter(|p| p.role == Role::Master).map(|p| p.id.pid).collect();
    let named = [layout.pid_file(), layout.old_pid_file()].map(|file| read_pid_file(&file));
    let parents: BTreeSet<i32> = found.iter().map(|p| p.parent).collect();
    for process in &mut found {
        let pid = process.id.pid;
        let is_child = masters.contains(&process.parent);
        if process.role == Role::Master && is_child && !named.contains(&Some(pid)) && !parents.contains(&pid) {
            process.role = Role::Worker;
        }
    }
    found.sort_by_key(|process| process.id);
    found
}

/// The children of a process; `None` where the kernel does not tell, or it ended.
pub(crate) fn children(pid: i32) -> Option<Vec<i32>> {
    let text = procfs::read_to_string(&format!("{pid}/task/{pid}/children")).ok()?;
    text.split_ascii_whitespace().map(|pid| pid.parse().ok()).collect()
}

/// The ids of all processes.
fn pids() -> Vec<i32> {
    let names = procfs::names(".").unwrap_or_default();
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// The number in a pid file.
pub(crate) fn read_pid_file(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok().filter(|pid| *pid > 0)
}

/// The executable of a process, and whether that file was deleted or replaced since.
pub(crate) fn executable(pid: i32) -> Option<(PathBuf, bool)> {
    let target = procfs::read_link(&format!("{pid}/exe")).ok()?;
    match target.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(path) => Some((PathBuf::from(path), true)),
        None => Some((target, false)),
    }
}

/// The executables of all processes that this one may look at.
pub(crate) fn running_executables() -> BTreeSet<PathBuf> {
    pids().into_iter().filter_map(executable).map(|(path, _)| path).collect()
}

/// Which process holds each of these sockets (inode numbers), as far as this user may see; `first` are looked at first. Ends as soon
/// as all are found: to read the descriptors of all processes of a busy host takes seconds.
pub(crate) fn holders_of_sockets(mut inodes: BTreeSet<u64>, first: &BTreeSet<i32>) -> BTreeMap<u64, i32> {
    let mut holders = BTreeMap::new();
    let others = pids().into_iter().filter(|pid| !first.contains(pid));
    for pid in first.iter().copied().chain(others) {
        if inodes.is_empty() {
            break;
        }
        let Ok(descriptors) = procfs::links(&format!("{pid}/fd")) else { continue };
        for target in descriptors {
            let inode = target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode.filter(|inode| inodes.remove(inode)) {
                holders.insert(inode, pid);
            }
        }
    }
    holders
}

/// Sends a signal, if this very process still runs. `Ok(false)`: it had ended.
pub(crate) fn signal(id: ProcessId, signal: Signal) -> nix::Result<bool> {
    if !is_alive(id) {
        return Ok(false);
    }
    match kill(Pid::from_raw(id.pid), signal) {
        Ok(()) => Ok(true),
        Err(nix::errno::Errno::ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Runs something that blocks shortly on a thread for such work. Panics inside go on outside.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and will not poll this again.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn stat_is_read_whatever_the_name_of_the_process() {
        let text = "12 (a) S 9 (x) Z 7 1 1 0 -1 0 0 0 0 0 30 4 0 0 20 0 1 0 4711 0 0";
        let stat = parse_stat(text).expect("it parses");
        assert_eq!((stat.state, stat.parent, stat.used, stat.started), ('Z', 7, 34, 4711));
        assert_eq!(stat.name, "a) S 9 (x");
    }

    #[test]
    fn this_process_is_identified_and_another_start_time_is_another_process() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let id = identify(pid).expect("it runs");
        assert!(is_alive(id));
        assert!(!is_alive(ProcessId { started: id.started + 1, ..id }));
    }

    #[test]
    fn an_nginx_that_ended_as_our_child_counts_as_ended_and_is_reaped() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("nginx");
        std::os::unix::fs::symlink("/bin/cat", &path).expect("linked");
        let mut child = std::process::Command::new(&path).stdin(std::process::Stdio::piped()).spawn().expect("started");
        let id = identify(i32::try_from(child.id()).expect("a pid")).expect("it runs");
        drop(child.stdin.take());
        while is_alive(id) {
            std::thread::yield_now();
        }
        assert!(stat(id.pid).is_none_or(|s| s.started != id.started), "nothing is left of it");
        assert!(child.wait().is_err(), "nothing is left to wait for");
    }

    #[test]
    fn a_runtime_that_ends_meanwhile_is_no_panic() {
        static PANICKED: AtomicBool = AtomicBool::new(false);
        struct Look;
        impl Drop for Look {
            fn drop(&mut self) {
                PANICKED.fetch_or(std::thread::panicking(), Ordering::Relaxed);
            }
        }
        for _ in 0..50 {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
            for _ in 0..8 {
                runtime.spawn(async {
                    let _look = Look;
                    loop {
                        blocking(std::thread::yield_now).await;
                    }
                });
            }
            runtime.block_on(blocking(|| ()));
        }
        assert!(!PANICKED.load(Ordering::Relaxed));
    }

    #[test]
    fn titles_tell_what_a_process_does() {
        assert_eq!(role("nginx: master process /usr/sbin/nginx -p /x"), Some(Role::Master));
        assert_eq!(role("nginx: worker process"), Some(Role::Worker));
        assert_eq!(role("nginx: worker process is shutting down"), Some(Role::ShuttingDown));
        assert_eq!(role("vim nginx: master process"), None);
    }
}

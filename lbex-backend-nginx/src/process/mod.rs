//! The NGINX of a prefix as processes: start, adopt, reload, upgrade, stop (contract sections 1 and 8).
//!
//! NGINX runs as a daemon that outlives LBEX. What LBEX knows about it, it reads from the pid file and `/proc` each
//! time, so it makes no difference whether this LBEX started it or an earlier one did.

mod cleanup;
pub(crate) mod closing;
mod error;
mod error_log;
mod held;
mod nofile;
pub(crate) mod proc;
pub(crate) mod procfs;
mod start;
mod starter;
mod stop;
mod upgrade;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

pub use cleanup::Cleaned;
pub use error::ProcessError;
pub use error_log::{ErrorLog, Level, LogLine, LogPosition};
pub use nofile::{FileLimit, raise_file_limit, raise_file_limit_of};
pub use proc::ProcessId;
pub use procfs::NoProc;
pub use starter::{Starter, StarterService};
pub use stop::Stopped;

use crate::binary::NginxBinary;
use crate::confirm::{Awaited, Confirmed, await_generation, serving_generation};
use crate::prefix::Layout;
use proc::{NginxProcess, Role};

/// How long a master may take to start its workers, after the first of them answered.
const STARTING: Duration = Duration::from_secs(2);

/// A worker process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Which process.
    pub id: ProcessId,
    /// It accepts no connections any more and ends with the last one that it has.
    pub shutting_down: bool,
    /// Somebody stopped it (SIGSTOP): it does nothing until it is told to go on (SIGCONT).
    pub stopped: bool,
}

/// What [`Nginx::glance`] sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    /// The master's process id.
    pub master: i32,
    /// The process ids of workers that only finish their connections.
    pub draining: Vec<i32>,
    /// The process ids of workers that should accept connections and are stopped. The kernel still gives them their share of UDP.
    pub stopped: Vec<i32>,
}

impl Glance {
    fn of<'a>(master: i32, workers: impl IntoIterator<Item = &'a Worker>) -> Self {
        let (mut draining, mut stopped) = (Vec::new(), Vec::new());
        for worker in workers {
            if worker.shutting_down {
                draining.push(worker.id.pid);
            } else if worker.stopped {
                stopped.push(worker.id.pid);
            }
        }
        Self { master, draining, stopped }
    }
}

/// The running NGINX of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// The master process.
    pub id: ProcessId,
    /// Its executable; `None` if this user may not see it.
    pub executable: Option<PathBuf>,
    /// Whether that file was deleted or replaced since it was started, as a package upgrade does.
    pub executable_deleted: bool,
    /// Its workers, by process id.
    pub workers: Vec<Worker>,
    /// Workers of masters before this one (killed, or replaced in an upgrade).
    pub older_workers: Vec<Worker>,
    /// The master before this one, while it finishes its connections after an upgrade in place.
    pub old_master: Option<ProcessId>,
}

impl Master {
    /// Whether it runs this very binary. `None` if this user may not see what it runs.
    pub fn runs(&self, binary: &NginxBinary) -> Option<bool> {
        let path = std::fs::canonicalize(&binary.path).unwrap_or_else(|_| binary.path.clone());
        self.executable.as_ref().map(|running| !self.executable_deleted && *running == path)
    }

    /// Workers that accept no connections any more, of this master and of those before.
    pub fn draining(&self) -> usize {
        self.workers.iter().chain(&self.older_workers).filter(|worker| worker.shutting_down).count()
    }

    /// All workers, of this master and of those before.
    pub fn all_workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().chain(&self.older_workers)
    }
}

/// What [`Nginx::start`] is to do.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// How many files and sockets a process of NGINX may need: the limit (`RLIMIT_NOFILE`) is raised to that, for
    /// this process and so for NGINX, as far as the system allows.
    pub open_files: u64,
    /// The generation that the configuration in place answers with.
    pub generation: String,
    /// How long all of it may take.
    pub limit: Duration,
}

/// NGINX was started, and serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The new master and its workers.
    pub master: Master,
    /// The file limit that it was started with.
    pub open_files: FileLimit,
    /// What was left of an earlier one.
    pub cleaned: Cleaned,
    /// From the call to the first answer.
    pub took: Duration,
}

/// The NGINX of one prefix. Holds no state but its paths and the log's: clones are equivalent.
///
/// Calls that change something ([`start`](Self::start), [`reload`](Self::reload), [`upgrade`](Self::upgrade),
/// [`stop`](Self::stop)) must come one after the other; the prefix's lock keeps other LBEXes away.
#[derive(Clone, Debug)]
pub struct Nginx {
    layout: Layout,
    log: ErrorLog,
    starter: Starter,
}

impl Nginx {
    /// The NGINX of this prefix, running or not. [`start`](Self::start) starts it as a daemon of this process's making.
    pub fn new(layout: Layout) -> Self {
        let log = ErrorLog::new(&layout);
        Self { layout, log, starter: Starter::Own }
    }

    /// Says who [starts](Self::start) it.
    #[must_use]
    pub fn started_by(self, starter: Starter) -> Self {
        Self { starter, ..self }
    }

    /// The paths of its prefix.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Its error log.
    pub fn error_log(&self) -> &ErrorLog {
        &self.log
    }

    /// The NGINX that runs in this prefix, whoever started it; `None` if there is no living master. This is how a
    /// restarted LBEX adopts it.
    pub async fn status(&self) -> Option<Master> {
        let layout = self.layout.clone();
        proc::blocking(move || status(&layout)).await
    }

    /// What can be seen of its processes; `None` if there is no living master.
    ///
    /// For every second: it looks at the processes that the pid files lead to, and at all of the host's only where they lead
    /// nowhere. Workers that a killed master left are not counted.
    pub async fn glance(&self) -> Option<Glance> {
        let layout = self.layout.clone();
        let all = |master: Master| Glance::of(master.id.pid, master.all_workers());
        proc::blocking(move || glance(&layout).or_else(|| status(&layout).map(all))).await
    }

    /// How many connections these processes hold, to clients and to servers, the one by which a worker asks its resolver included;
    /// `None` if this user may not see that.
    pub async fn connections_of(&self, pids: Vec<i32>) -> Option<u64> {
        proc::blocking(move || held::connections(&pids)).await
    }

    /// Whether a master of this prefix lives. Cheap: looks at the pid file and one process.
    pub async fn is_running(&self) -> bool {
        let layout = self.layout.clone();
        proc::blocking(move || {
            let named = proc::read_pid_file(&layout.pid_file()).and_then(|pid| proc::nginx_process(pid, &layout));
            named.is_some_and(|process| process.role == Role::Master) || status(&layout).is_some()
        })
        .await
    }

    /// Whether the path of the socket leads to one on which it may be asked. NGINX itself never removes it while it serves.
    pub fn has_socket(&self) -> bool {
        self.layout.generation_socket().exists()
    }

    /// Writes the pid file of a running master where somebody removed it: NGINX needs it to be upgraded in place.
    pub fn restore_pid_file(&self, master: ProcessId) -> Result<(), ProcessError> {
        let path = self.layout.pid_file();
        if path.exists() {
            return Ok(());
        }
        std::fs::write(&path, format!("{}\n", master.pid)).map_err(|source| ProcessError::Io {
            verb: "write",
            path,
            source,
        })
    }

    /// The generation that is being served; `None` if nothing listens.
    pub async fn serving_generation(&self) -> Result<Option<String>, crate::confirm::ConfirmError> {
        serving_generation(&self.layout.generation_socket()).await
    }

    /// Makes NGINX take over the configuration in place (`SIGHUP`), and waits until `generation` is served and no
    /// worker of before accepts connections any more.
    ///
    /// [`ProcessError::Refused`] with NGINX's words if it keeps the old configuration. An upgrade that an LBEX
    /// before this one began and did not finish is finished here.
    pub async fn reload(&self, generation: &str, limit: Duration) -> Result<Confirmed, ProcessError> {
        self.reload_on(self.layout.generation_socket(), generation, limit).await
    }

    /// The same for a configuration that answers on another socket.
    pub async fn reload_on(
        &self,
        socket: PathBuf,
        generation: &str,
        limit: Duration,
    ) -> Result<Confirmed, ProcessError> {
        let begin = Instant::now();
        let deadline = begin + limit;
        let master = self.status().await.ok_or(ProcessError::NotRunning)?;
        let since = self.log.position();
        self.await_all_workers(master.id, deadline).await;
        let layout = self.layout.clone();
        let ids = |workers: &[Worker]| workers.iter().map(|worker| worker.id).collect::<BTreeSet<_>>();
        let mut old_workers = proc::blocking(move || workers_of(master.id, &layout)).await;
        // The kernel may leave a child out where another one ends meanwhile.
        old_workers.extend(ids(&master.workers));
        send(master.id, Signal::SIGHUP).await?;
        let mut awaited = Awaited { master: master.id, socket, old_workers, generation, since, deadline };
        let confirmed = await_generation(&self.log, &awaited).await?;
        if master.older_workers.iter().all(|worker| worker.shutting_down) {
            return Ok(confirmed);
        }
        self.retire_older(&master).await?;
        awaited.old_workers = ids(&master.older_workers);
        await_generation(&self.log, &awaited).await?;
        Ok(Confirmed { answered: confirmed.answered, complete: begin.elapsed() })
    }

    /// Waits until a master that was started just now has started all its workers: it rests then. The first of them answers before.
    async fn await_all_workers(&self, master: ProcessId, deadline: Instant) {
        let deadline = deadline.min(Instant::now() + STARTING);
        let works = move || proc::activity(master).is_some_and(|now| !now.rests);
        while proc::blocking(works).await && Instant::now() < deadline {
            tokio::time::sleep(cleanup::POLL).await;
        }
    }

    /// Tells the master before this one, or the workers that it left, to accept no more connections.
    async fn retire_older(&self, master: &Master) -> Result<(), ProcessError> {
        tracing::warn!(
            pid = master.id.pid,
            "an earlier NGINX of this prefix still accepts connections: it is told to finish"
        );
        if let Some(old) = master.old_master {
            return send(old, Signal::SIGQUIT).await;
        }
        let accepting = master.older_workers.iter().filter(|worker| !worker.shutting_down);
        self.release_ports(accepting.map(|worker| worker.id).collect()).await
    }
}

/// Sends a signal to a process that has to be there.
async fn send(id: ProcessId, signal: Signal) -> Result<(), ProcessError> {
    if proc::blocking(move || send_if_alive(id, signal)).await? {
        Ok(())
    } else {
        Err(ProcessError::MasterEnded { pid: id.pid, lines: Vec::new() })
    }
}

/// `Ok(false)`: it had ended. Blocks, shortly.
fn send_if_alive(id: ProcessId, signal: Signal) -> Result<bool, ProcessError> {
    proc::signal(id, signal).map_err(|errno| ProcessError::Signal {
        signal: signal.as_str(),
        pid: id.pid,
        source: errno.into(),
    })
}

/// The workers of a master, also one that was started so lately that it still has its master's title; none where the kernel does
/// not tell a process's children.
fn workers_of(master: ProcessId, layout: &Layout) -> BTreeSet<ProcessId> {
    let children = proc::children(master.pid).unwrap_or_default();
    children.into_iter().filter_map(|pid| proc::nginx_process(pid, layout)).map(|process| process.id).collect()
}

fn glance(layout: &Layout) -> Option<Glance> {
    let named = |file: PathBuf| {
        let process = proc::read_pid_file(&file).and_then(|pid| proc::nginx_process(pid, layout));
        process.filter(|process| process.role == Role::Master)
    };
    let master = named(layout.pid_file())?;
    let mut workers = Vec::new();
    for process in std::iter::once(master.clone()).chain(named(layout.old_pid_file())) {
        let children = proc::children(process.id.pid)?.into_iter().filter_map(|pid| proc::nginx_process(pid, layout));
        workers.extend(children.filter(|child| child.role != Role::Master).map(|child| worker(&child)));
    }
    Some(Glance::of(master.id.pid, &workers))
}

fn worker(process: &NginxProcess) -> Worker {
    Worker { id: process.id, shutting_down: process.role == Role::ShuttingDown, stopped: process.stopped }
}

fn status(layout: &Layout) -> Option<Master> {
    let processes = proc::nginx_processes(layout);
    let masters: Vec<&NginxProcess> = processes.iter().filter(|p| p.role == Role::Master).collect();
    let named = proc::read_pid_file(&layout.pid_file());
    // The pid file says which; without one (somebody deleted it) it is the youngest.
    let master = masters
        .iter()
        .find(|m| Some(m.id.pid) == named)
        .or_else(|| masters.iter().max_by_key(|m| (m.id.started, m.id.pid)))?;
    let (workers, older): (Vec<_>, Vec<_>) =
        processes.iter().filter(|p| p.role != Role::Master).partition(|p| p.parent == master.id.pid);
    let (executable, deleted) = proc::executable(master.id.pid).unzip();
    Some(Master {
        id: master.id,
        executable,
        executable_deleted: deleted.unwrap_or(false),
        workers: workers.into_iter().map(worker).collect(),
        older_workers: older.into_iter().map(worker).collect(),
        old_master: masters.iter().find(|m| m.id != master.id).map(|m| m.id),
    })
}

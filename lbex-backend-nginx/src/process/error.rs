//! What can go wrong with the NGINX of a prefix.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{LogLine, NoProc};

/// NGINX could not be started, told something, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is one already: adopt it.
    #[error("NGINX of this prefix runs already (process {pid})")]
    AlreadyRuns {
        /// Its master.
        pid: i32,
    },
    /// There is none.
    #[error("NGINX of this prefix does not run")]
    NotRunning,
    /// NGINX's processes cannot be looked at.
    #[error(transparent)]
    Proc(#[from] NoProc),
    /// A file of the prefix.
    #[error("failed to {verb} {}: {source}", path.display())]
    Io {
        /// What was being done.
        verb: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// NGINX ended instead of becoming a daemon: a configuration that it refuses, a port that is taken.
    #[error("NGINX did not start ({status}): {}", joined(.lines))]
    StartFailed {
        /// How it ended.
        status: String,
        /// What it said.
        lines: Vec<LogLine>,
    },
    /// A service is to start NGINX, and none answers.
    #[error("NGINX is to be started by `lbex proxy`, as --start-nginx=service says, and that does not answer on {}: {source}", path.display())]
    NoStarter {
        /// The service's socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another service starts the NGINX of this prefix.
    #[error("another `lbex proxy` has this prefix: it answers on {}", path.display())]
    StarterRuns {
        /// Its socket.
        path: PathBuf,
    },
    /// NGINX refused a new configuration and goes on with the one it had.
    #[error("NGINX refused the new configuration and keeps the one it had: {}", joined(.lines))]
    Refused {
        /// What it said.
        lines: Vec<LogLine>,
    },
    /// What was asked for is not served in time; whether it will be is open.
    #[error("NGINX does not serve generation {expected} after {waited:?} ({}){}", served(answered.as_ref()), said(.lines))]
    NotConfirmed {
        /// The generation that was waited for.
        expected: String,
        /// For how long.
        waited: Duration,
        /// What it serves instead, if anything.
        answered: Option<String>,
        /// What it said meanwhile.
        lines: Vec<LogLine>,
    },
    /// Workers from before the change still accept connections.
    #[error("generation {expected} is served, but after {waited:?} {} older worker(s) still accept connections (processes {pids:?})", pids.len())]
    OldWorkersRemain {
        /// The generation that was waited for, and is served.
        expected: String,
        /// For how long.
        waited: Duration,
        /// Those workers.
        pids: Vec<i32>,
    },
    /// The master ended meanwhile.
    #[error("NGINX's master (process {pid}) ended{}", said(.lines))]
    MasterEnded {
        /// Its process id.
        pid: i32,
        /// What was said meanwhile.
        lines: Vec<LogLine>,
    },
    /// A signal could not be sent: the NGINX is another user's.
    #[error("failed to send {signal} to process {pid} of NGINX: {source} (was it started by another user?)")]
    Signal {
        /// The signal's name.
        signal: &'static str,
        /// To whom.
        pid: i32,
        /// What the system said.
        source: io::Error,
    },
    /// Processes of a dead master hold on.
    #[error("processes {pids:?} of an earlier NGINX of this prefix do not end")]
    OrphansRemain {
        /// Their ids.
        pids: Vec<i32>,
    },
    /// The master that was replaced last still finishes its connections, and NGINX upgrades only one step at a time.
    #[error("NGINX cannot be upgraded yet: the master before it (process {pid}) still finishes its connections")]
    UpgradePending {
        /// The old master.
        pid: i32,
    },
    /// The new binary did not come up; the old one goes on as if nothing had happened.
    #[error("the new NGINX {} did not come up, the one before goes on: {}", path.display(), joined(.lines))]
    UpgradeFailed {
        /// The new binary.
        path: PathBuf,
        /// What was said.
        lines: Vec<LogLine>,
    },
}

fn joined(lines: &[LogLine]) -> String {
    if lines.is_empty() {
        return "it said nothing".to_owned();
    }
    lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn said(said: &[LogLine]) -> String {
    if said.is_empty() { String::new() } else { format!("; it said: {}", joined(said)) }
}

fn served(answered: Option<&String>) -> String {
    answered.map_or_else(|| "nothing answers".to_owned(), |generation| format!("it serves {generation}"))
}

//! The limit on open files and sockets.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::ProcessId;
use super::{proc, procfs};

/// `RLIMIT_NOFILE` of a process, as it is after [`raise_file_limit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimit {
    /// What was asked for.
    pub wanted: u64,
    /// What the process could open before (its soft limit then).
    pub before: u64,
    /// What it may open now (the soft limit).
    pub soft: u64,
    /// How far it may raise that itself.
    pub hard: u64,
}

impl FileLimit {
    /// How many are missing to what was asked for; 0 if none.
    pub fn shortage(&self) -> u64 {
        self.wanted.saturating_sub(self.soft)
    }
}

/// Raises this process's own limit to `wanted`, never lowers it. Processes that it starts inherit it.
///
/// The soft limit may go up to the hard limit; the hard limit itself is raised where that is allowed (root, or
/// `CAP_SYS_RESOURCE`), up to the kernel's `fs.nr_open`. What could not be had is the answer's
/// [`shortage`](FileLimit::shortage).
pub fn raise_file_limit(wanted: u64) -> FileLimit {
    let own = getrlimit(Resource::Nofile);
    raise(None, own.current.unwrap_or(u64::MAX), own.maximum.unwrap_or(u64::MAX), wanted)
}

/// The same for a process that runs, of the same user; root may for any. Processes that it starts from now on inherit it. `None` if
/// the process ended.
pub fn raise_file_limit_of(process: ProcessId, wanted: u64) -> Option<FileLimit> {
    let (soft, hard) = file_limit_of(process.pid).filter(|_| proc::is_alive(process))?;
    Some(raise(Some(Pid::from_raw(process.pid)?), soft, hard, wanted))
}

fn raise(process: Option<Pid>, before: u64, hard: u64, wanted: u64) -> FileLimit {
    let unchanged = FileLimit { wanted, before, soft: before, hard };
    if before >= wanted {
        return unchanged;
    }
    for (soft, hard) in [(wanted, hard.max(wanted)), (wanted.min(hard), hard)] {
        let limit = Rlimit { current: Some(soft), maximum: (hard < u64::MAX).then_some(hard) };
        match prlimit(process, Resource::Nofile, limit) {
            Ok(_) => return FileLimit { soft, hard, ..unchanged },
            Err(error) => tracing::debug!(?process, soft, hard, %error, "the limit on open files cannot be raised"),
        }
    }
    unchanged
}

/// Soft and hard limit of a process that runs.
fn file_limit_of(pid: i32) -> Option<(u64, u64)> {
    let text = procfs::read_to_string(&format!("{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = line.split_ascii_whitespace();
    let mut number =
        || words.next().and_then(|word| if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() });
    Some((number()?, number()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_raised_as_far_as_the_system_allows_and_says_what_is_missing() {
        let before = raise_file_limit(0);
        assert_eq!((before.shortage(), before.before), (0, before.soft));
        let after = raise_file_limit(before.soft + 1);
        assert!(after.soft == before.soft + 1 || after.soft == before.hard, "{before:?} {after:?}");

        let impossible = raise_file_limit(u64::MAX / 2);
        assert!(impossible.shortage() > 0 && impossible.soft >= after.soft, "{impossible:?}");
    }

    #[test]
    fn that_of_a_process_that_runs_is_raised_up_to_its_hard_limit() {
        let mut child = std::process::Command::new("sh");
        let mut child = child.args(["-c", "ulimit -Sn 100; exec sleep 600"]).spawn().expect("started");
        let pid = i32::try_from(child.id()).expect("a pid");
        while file_limit_of(pid).is_none_or(|(soft, _)| soft != 100) {
            std::thread::yield_now();
        }
        let id = proc::identify(pid).expect("it runs");
        let limit = raise_file_limit_of(id, 200).expect("it runs");
        assert_eq!((limit.before, limit.soft, limit.shortage()), (100, 200, 0));
        assert_eq!(file_limit_of(pid).map(|(soft, _)| soft), Some(200));
        assert_eq!(raise_file_limit_of(id, 150).expect("it runs").soft, 200, "never lowered");
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert_eq!(raise_file_limit_of(id, 300), None);
    }
}

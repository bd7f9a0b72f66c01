//! The limit on open files and sockets.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// `RLIMIT_NOFILE` as it is after [`raise_file_limit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimit {
    /// What was asked for.
    pub wanted: u64,
    /// What processes get now (the soft limit).
    pub soft: u64,
    /// How far they may raise it themselves.
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
pub fn raise_file_limit(wanted: u64) -> nix::Result<FileLimit> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= wanted {
        return Ok(FileLimit { wanted, soft, hard });
    }
    let attempts = [(wanted, hard.max(wanted)), (wanted.min(hard), hard)];
    for (soft, hard) in attempts {
        if setrlimit(Resource::RLIMIT_NOFILE, soft, hard).is_ok() {
            return Ok(FileLimit { wanted, soft, hard });
        }
    }
    Ok(FileLimit { wanted, soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_raised_as_far_as_the_system_allows_and_says_what_is_missing() {
        let before = raise_file_limit(0).expect("read");
        assert_eq!(before.shortage(), 0);
        let after = raise_file_limit(before.soft + 1).expect("raised");
        assert!(after.soft == before.soft + 1 || after.soft == before.hard, "{before:?} {after:?}");

        let impossible = raise_file_limit(u64::MAX / 2).expect("read");
        assert!(impossible.shortage() > 0 && impossible.soft >= after.soft, "{impossible:?}");
    }
}

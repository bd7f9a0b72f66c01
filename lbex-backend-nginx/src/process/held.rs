//! How many connections processes hold, from their descriptors.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;

use nix::errno::Errno;

use super::procfs;

/// Beyond so many descriptors of one process they are not looked at one by one: the few that are no connections then do not matter.
const MANY: u64 = 4096;

/// The sockets of these processes without those of the host's own (`AF_UNIX`): to clients and to servers, and the one by which a
/// worker asks its resolver. `None` where this user may not see them. Processes that ended hold none.
pub(super) fn connections(pids: &[i32]) -> Option<u64> {
    let local = local_sockets().ok()?;
    pids.iter().map(|pid| of_process(*pid, &local)).sum::<io::Result<u64>>().ok()
}

fn of_process(pid: i32, local: &BTreeSet<u64>) -> io::Result<u64> {
    let path = format!("{pid}/fd");
    let count = || -> io::Result<u64> {
        // How many there are, since Linux 6.2; before, and for other reasons, 0.
        let size = procfs::metadata(&path)?.len();
        if size > MANY {
            return Ok(size);
        }
        let mut count = 0;
        for (number, target) in procfs::links(&path)?.enumerate() {
            let counts = number as u64 >= MANY || is_connection(&target, local);
            count += u64::from(counts);
        }
        Ok(count)
    };
    match count() {
        // Where the process ended while it was looked at, the kernel knows no such process.
        Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESRCH as i32) => Ok(0),
        result => result,
    }
}

fn is_connection(target: &Path, local: &BTreeSet<u64>) -> bool {
    let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
    inode.is_some_and(|inode| !local.contains(&inode))
}

/// The inodes of all `AF_UNIX` sockets: the seventh column.
fn local_sockets() -> io::Result<BTreeSet<u64>> {
    let text = procfs::read_to_string("net/unix")?;
    let inode = |line: &str| line.split_ascii_whitespace().nth(6)?.parse().ok();
    Ok(text.lines().filter_map(inode).collect())
}

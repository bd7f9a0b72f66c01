//! The lock that makes a prefix one LBEX's alone.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::PrefixError;
use crate::process::{proc, procfs};

/// Who holds a prefix, as far as can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id, in the holder's own process namespace.
    pub pid: Option<i32>,
    /// When it took the lock, in seconds since 1970.
    pub since: Option<u64>,
    /// Its command line, if it runs where this process can see it.
    pub command: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}")?,
            None => f.write_str("another process")?,
        }
        match &self.command {
            Some(command) => write!(f, " (`{command}`)")?,
            None => f.write_str(" (not visible from here: perhaps in another container)")?,
        }
        match self.since {
            Some(since) => write!(f, ", for {}", time_since(since)),
            None => Ok(()),
        }
    }
}

fn time_since(since: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let seconds = now.saturating_sub(since);
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7200 => format!("{} minutes", seconds / 60),
        _ => format!("{} hours", seconds / 3600),
    }
}

/// A locked file. The lock is `flock`'s: the kernel lets go of it when the process ends, however it ends, and
/// the descriptor is close-on-exec, so the NGINX that outlives LBEX does not hold it.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

/// A holder that is just ending may keep the lock for an instant, as may a child that it was just starting.
const PATIENCE: Duration = Duration::from_millis(100);

impl Drop for Lock {
    /// Unlocks instead of only closing: a child that another thread is just starting has a copy of the descriptor
    /// until it runs its program.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "the prefix's lock goes with its file");
        }
    }
}

impl Lock {
    pub(super) fn take(path: &Path) -> Result<Self, PrefixError> {
        let failed = |verb| move |source| PrefixError::Io { verb, path: path.to_owned(), source };
        let mut file = open(path).map_err(failed("open"))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(PrefixError::Locked { path: path.to_owned(), holder: read_holder(&mut file) });
                }
                Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
            }
        }
        if let Err(error) = write_holder(&mut file) {
            // The disk is full, or takes nothing: what is on it can be served all the same, and changes of endpoints need no disk.
            tracing::warn!(%error, "{} cannot tell who holds the prefix", path.display());
        }
        Ok(Self { file })
    }
}

/// Opens the file to be locked. On a disk that takes nothing any more, one that is there already.
fn open(path: &Path) -> io::Result<File> {
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path);
    match open {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(path).map_err(|_| error),
        other => other,
    }
}

fn write_holder(file: &mut File) -> io::Result<()> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "pid={}\nsince={since}\n", std::process::id())
}

impl Lock {
    /// Whether the file that is locked is the one at `path`, and not one that somebody removed.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let id = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
        self.file.metadata().is_ok_and(|ours| fs::metadata(path).is_ok_and(|there| id(&ours) == id(&there)))
    }
}

/// What the holder wrote. A holder that has not written yet, or is of another version, is just not named.
fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    if let Err(error) = file.take(4096).read_to_string(&mut text) {
        tracing::debug!(%error, "the lock file does not say who holds it");
    }
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let pid = value("pid").and_then(|pid| pid.parse().ok());
    Holder {
        pid,
        since: value("since").and_then(|since| since.parse().ok()),
        command: pid.filter(|pid| holds(*pid, file)).and_then(proc::command_line),
    }
}

/// Whether process `pid`, as seen from here, has the lock file open: a number written in another process
/// namespace could be somebody else's here.
fn holds(pid: i32, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(lock) = file.metadata() else {
        return false;
    };
    let Ok(descriptors) = procfs::names(&format!("{pid}/fd")) else {
        // Another user's process: its descriptors are hidden. It is there; that has to do.
        return procfs::metadata(&pid.to_string()).is_ok();
    };
    descriptors
        .iter()
        .filter_map(|descriptor| procfs::metadata(&format!("{pid}/fd/{descriptor}")).ok())
        .any(|open| open.dev() == lock.dev() && open.ino() == lock.ino())
}

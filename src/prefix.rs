//! The prefix where the backend is somebody else's, a plugin or one linked in: locked as the NGINX backend locks it, so that one LBEX has
//! it, with a folder for each backend.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::unistd::geteuid;

/// A holder that is just ending may keep the lock for an instant.
const PATIENCE: Duration = Duration::from_millis(100);

/// Why a prefix cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrefixError {
    /// A folder or file of it.
    #[error("failed to {verb} {}: {source}", path.display())]
    Io {
        /// What was to be done.
        verb: &'static str,
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others control a folder of it.
    #[error("{} belongs to user {owner}, not to the user that runs LBEX ({ours}): give LBEX a --nginx-prefix of its own", path.display())]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who runs LBEX.
        ours: u32,
    },
    /// Another LBEX has it.
    #[error("the prefix {} is in use by {holder}: stop it, or give this LBEX another --nginx-prefix", path.display())]
    Locked {
        /// The prefix.
        path: PathBuf,
        /// Who has it.
        holder: String,
    },
}

/// A prefix that belongs to this process until this value is dropped.
#[derive(Debug)]
pub(crate) struct Prefix {
    root: PathBuf,
    // Locked as long as it is open.
    _lock: File,
}

impl Prefix {
    /// Creates the prefix where it is missing, and locks it. Blocking, and short.
    pub(crate) fn open(path: &Path) -> Result<Self, PrefixError> {
        let error = |verb| move |source| PrefixError::Io { verb, path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o711).create(path).map_err(error("create"))?;
        let root = fs::canonicalize(path).map_err(error("resolve"))?;
        ours(&root)?;
        let lock = lock(&root)?;
        Ok(Self { root, _lock: lock })
    }

    /// Keeps it as long as the process lives.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }

    /// The folder of the backend called `name`, which nobody else can read: `KIND/NAME`.
    pub(crate) fn folder(&self, kind: &str, name: &str) -> Result<PathBuf, PrefixError> {
        let path = self.root.join(kind).join(name);
        let error = |verb| {
            let path = path.clone();
            move |source| PrefixError::Io { verb, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(error("create"))?;
        ours(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(error("set the permissions of"))?;
        Ok(path)
    }
}

fn ours(path: &Path) -> Result<(), PrefixError> {
    let metadata =
        fs::metadata(path).map_err(|source| PrefixError::Io { verb: "read", path: path.to_owned(), source })?;
    let (owner, ours) = (metadata.uid(), geteuid().as_raw());
    if owner == ours { Ok(()) } else { Err(PrefixError::Owner { path: path.to_owned(), owner, ours }) }
}

fn lock(root: &Path) -> Result<File, PrefixError> {
    let path = root.join("lock");
    let error = |verb| {
        let path = path.clone();
        move |source| PrefixError::Io { verb, path, source }
    };
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(&path);
    let mut file = options.map_err(error("open"))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            Err(TryLockError::WouldBlock) => {
                return Err(PrefixError::Locked { path: root.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(error("lock")(source)),
        }
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "pid={}\nsince={since}\n", std::process::id()))
        .map_err(error("write"))?;
    Ok(file)
}

/// What the holder wrote, as far as it can be told.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    if let Err(error) = file.take(4096).read_to_string(&mut text) {
        tracing::debug!(%error, "the lock file does not say who holds it");
    }
    let pid = text.lines().find_map(|line| line.strip_prefix("pid=")?.parse::<u32>().ok());
    pid.map_or("another process".to_owned(), |pid| format!("process {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_one_lbexs_and_free_when_that_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let prefix = Prefix::open(&path).unwrap();
        let error = Prefix::open(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("is in use by process {}", std::process::id())), "{error}");
        let state = prefix.folder("plugins", "x").unwrap();
        assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        drop(prefix);
        assert_eq!(Prefix::open(&path).unwrap().folder("plugins", "x").unwrap(), state);
    }
}

//! The prefix: the directory that is LBEX's own, and that NGINX runs in (contract section 1).
//!
//! | path | holds | mode |
//! | --- | --- | --- |
//! | `conf/` | NGINX's main configuration | 0700 |
//! | `services/` | one configuration file per Service | 0700 |
//! | `run/` | pid file, UNIX sockets | 0700 |
//! | `logs/` | NGINX's error log | 0711 |
//! | `bin/` | the embedded NGINX, and `nginx`, a link to the one that runs | 0711 |
//! | `upstreams/` | what NGINX Plus keeps of its servers; the workers' own | 0700 |
//! | `state/` | the last good state, which is LBEX's own and not this crate's | 0700 |
//! | `lock` | held by the LBEX that owns the prefix | 0644 |
//!
//! Workers may run as another user than LBEX. They inherit their sockets from the master; by path they only open
//! the error log again, so they can pass through the prefix and `logs/`, and can list nothing.

mod checks;
mod error;
mod lock;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

pub use error::PrefixError;
pub use lock::Holder;

/// The longest path that a UNIX socket can have, in bytes (`sun_path` has 108 with its final zero).
pub const LONGEST_SOCKET_PATH: usize = 107;

/// The paths inside a prefix. Cheap to clone; says nothing about whether they exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout of the prefix `root`, which should be an absolute path without symbolic links
    /// ([`Prefix::open`] makes it so).
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The prefix itself: NGINX's `-p`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `conf/`.
    pub fn conf_dir(&self) -> PathBuf {
        self.root.join("conf")
    }

    /// `conf/nginx.conf`, the main configuration.
    pub fn main_conf(&self) -> PathBuf {
        self.root.join("conf/nginx.conf")
    }

    /// `services/`, one file per Service.
    pub fn services_dir(&self) -> PathBuf {
        self.root.join("services")
    }

    /// `run/`, the pid file and UNIX sockets.
    pub fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    /// `run/nginx.pid`: the configuration has to say `pid run/nginx.pid;`.
    pub fn pid_file(&self) -> PathBuf {
        self.root.join("run/nginx.pid")
    }

    /// `run/nginx.pid.oldbin`: the master that is being replaced by another binary.
    pub fn old_pid_file(&self) -> PathBuf {
        self.root.join("run/nginx.pid.oldbin")
    }

    /// `run/generation.sock`, on which NGINX tells the generation that it serves.
    pub fn generation_socket(&self) -> PathBuf {
        self.root.join("run/generation.sock")
    }

    /// `run/spare-XXXX.sock`, in place of that for a moment when somebody removed it. Another one with each call: NGINX may still
    /// listen on the last one, which somebody removed too, and it never makes anew what it listens on. No longer than the other.
    pub fn spare_socket(&self) -> PathBuf {
        self.spare("spare")
    }

    /// `run/api.sock`, the API of NGINX Plus.
    pub fn api_socket(&self) -> PathBuf {
        self.root.join("run/api.sock")
    }

    /// `run/spapi-XXXX.sock`, in place of that like [`spare_socket`](Self::spare_socket).
    pub fn spare_api_socket(&self) -> PathBuf {
        self.spare("spapi")
    }

    fn spare(&self, name: &str) -> PathBuf {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.root.join(format!("run/{name}-{:04x}.sock", (now.as_micros() & 0xffff)))
    }

    /// `upstreams/`, where NGINX Plus keeps the servers of each upstream.
    pub fn upstreams_dir(&self) -> PathBuf {
        self.root.join("upstreams")
    }

    /// `run/known`: which NGINX served when LBEX last looked.
    pub fn known_master(&self) -> PathBuf {
        self.root.join("run/known")
    }

    /// `run/starter.sock`, on which `lbex proxy` is asked to start NGINX.
    pub fn starter_socket(&self) -> PathBuf {
        self.root.join("run/starter.sock")
    }

    /// `run/questions`: what NGINX has asked an LBEX that ended.
    pub fn questions(&self) -> PathBuf {
        self.root.join("run/questions")
    }

    /// `logs/`.
    pub fn logs_dir(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// `logs/error.log`: the configuration has to say `error_log logs/error.log LEVEL;`.
    pub fn error_log(&self) -> PathBuf {
        self.root.join("logs/error.log")
    }

    /// `bin/`, the embedded NGINX.
    pub fn bin_dir(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// `bin/nginx`, a link to the NGINX that runs. A master runs under this name, so that an upgrade in place
    /// (`USR2` makes a master run its own path again) can give it another binary.
    pub fn launcher(&self) -> PathBuf {
        self.root.join("bin/nginx")
    }

    /// `lock`.
    pub fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The folders below the prefix, and their modes.
    fn folders(&self) -> [(PathBuf, u32); 5] {
        [
            (self.conf_dir(), 0o700),
            (self.services_dir(), 0o700),
            (self.run_dir(), 0o700),
            (self.logs_dir(), 0o711),
            (self.bin_dir(), 0o711),
        ]
    }
}

/// A prefix that exists, is safe, and belongs to this process until this value is dropped.
#[derive(Debug)]
pub struct Prefix {
    layout: Layout,
    warnings: Vec<String>,
    // Locked as long as it is open.
    lock: Mutex<lock::Lock>,
}

impl Prefix {
    /// Creates what is missing of the prefix, checks it, and locks it. Blocking, and short.
    ///
    /// Refused: a path too long for the UNIX sockets in it; a folder that belongs to another user or that others
    /// can write to, since they could make NGINX load what they like; one that cannot be written; one that
    /// another LBEX holds (the error names that process).
    pub fn open(path: &Path) -> Result<Self, PrefixError> {
        let layout = root(path)?;
        let lock = lock::Lock::take(&layout.lock_file())?;
        folders(&layout)?;
        let warnings = checks::dangers_above(layout.root());
        Ok(Self { layout, warnings, lock: Mutex::new(lock) })
    }

    /// Puts back what somebody removed of it, or whose permissions they changed, while this process holds it: its folders, and the
    /// lock. Answers whether anything was removed: then what was in there is gone too. Blocking, and short.
    pub fn restore(&self) -> Result<bool, PrefixError> {
        let root = self.layout.root();
        let mut removed = !root.is_dir();
        checks::create_root(root)?;
        checks::make_safe(root, 0o711)?;
        {
            // Nothing is left half done by a thread that panics here.
            let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            if !lock.is_at(&self.layout.lock_file()) {
                *lock = lock::Lock::take(&self.layout.lock_file())?;
                removed = true;
            }
        }
        for (folder, mode) in self.layout.folders() {
            removed |= !folder.is_dir();
            checks::create_folder(&folder)?;
            checks::make_safe(&folder, mode)?;
        }
        Ok(removed)
    }

    /// Creates what is missing of the prefix and checks it as [`open`](Self::open) does, for somebody who leaves the lock to the LBEX
    /// beside it.
    pub fn prepare(path: &Path) -> Result<Layout, PrefixError> {
        let layout = root(path)?;
        folders(&layout)?;
        Ok(layout)
    }

    /// The paths inside.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What an operator should know and LBEX can live with: folders above the prefix that others control.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

fn root(path: &Path) -> Result<Layout, PrefixError> {
    checks::path_is_usable(path)?;
    let layout = Layout::new(checks::create_root(path)?);
    checks::make_safe(layout.root(), 0o711)?;
    Ok(layout)
}

fn folders(layout: &Layout) -> Result<(), PrefixError> {
    for (folder, mode) in layout.folders() {
        checks::create_folder(&folder)?;
        checks::make_safe(&folder, mode)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

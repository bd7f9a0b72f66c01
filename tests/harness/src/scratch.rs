//! Temporary folders that vanish however the test ends.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::Supervisor;

/// A temporary folder, removed when this is dropped or the test process ends in whatever way.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    guard: Supervisor,
}

impl Scratch {
    /// Makes a folder with `label` in its name, readable by its owner only.
    pub fn new(label: &str) -> Result<Self> {
        Self::guarded(label, 0o700, "")
    }

    /// Makes a folder in which an NGINX may run: others may enter it (workers of a root's NGINX run as
    /// another user), and each NGINX that uses it is killed before it is removed.
    pub fn for_nginx(label: &str) -> Result<Self> {
        Self::guarded(label, 0o755, "nginx")
    }

    fn guarded(label: &str, mode: u32, what: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("lbex-test-{label}-"))
            .permissions(Permissions::from_mode(mode))
            .tempdir()
            .context("failed to make a temporary folder")?;
        let path = folder.path().canonicalize().context("failed to resolve a temporary folder")?;
        let arguments = vec![path.clone().into_os_string(), what.into()];
        let (guard, _) = Supervisor::start(include_str!("guard.sh"), arguments)
            .with_context(|| format!("failed to start the guard of {}", path.display()))?;
        // From here on the guard removes it.
        let _ = folder.keep();
        Ok(Self { path, guard })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in the folder.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Removes the folder now, as dropping does.
    pub(crate) fn remove(&mut self) {
        self.guard.end();
    }
}

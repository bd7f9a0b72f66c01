//! What happens to the prefix and its disk.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use async_trait::async_trait;
use lbex_test_harness::wait::{SOON, eventually};

use super::Fault;
use crate::world::World;

/// No room for another byte.
pub(super) struct Full;

#[async_trait]
impl Fault for Full {
    async fn inject(&mut self, world: &World) -> Result<()> {
        world.disk.fill()
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        world.disk.free()
    }
}

/// As after an error of the disk.
pub(super) struct ReadOnly;

#[async_trait]
impl Fault for ReadOnly {
    async fn inject(&mut self, world: &World) -> Result<()> {
        world.disk.set_read_only().await
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        world.disk.set_writable()
    }
}

/// Nobody but root may pass, and everybody may write: somebody ran `chmod -R`.
pub(super) struct Permissions;

#[async_trait]
impl Fault for Permissions {
    async fn inject(&mut self, world: &World) -> Result<()> {
        let prefix = world.disk.prefix();
        for folder in ["conf", "services", "run", "logs", "bin", "state"] {
            chmod(&prefix.join(folder), 0o000)?;
        }
        chmod(&prefix, 0o777)
    }

    async fn heal(&mut self, world: &World) -> Result<()> {
        let prefix = world.disk.prefix();
        for (folder, mode) in
            [("conf", 0o700), ("services", 0o700), ("run", 0o700), ("logs", 0o711), ("bin", 0o711), ("state", 0o700)]
        {
            chmod(&prefix.join(folder), mode)?;
        }
        chmod(&prefix, 0o711)
    }
}

fn chmod(path: &Path, mode: u32) -> Result<()> {
    match std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)) {
        // Deleted by a fault before this one, and not put back yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("failed to change {}", path.display())),
    }
}

/// All of it, and nobody puts it back.
pub(super) struct Deleted;

#[async_trait]
impl Fault for Deleted {
    async fn inject(&mut self, world: &World) -> Result<()> {
        let prefix = world.disk.prefix();
        // LBEX may be writing.
        eventually("the prefix is deleted", SOON, || async { std::fs::remove_dir_all(&prefix) }).await
    }
}

/// The pid file and the socket by which NGINX is asked.
pub(super) struct RunDeleted;

#[async_trait]
impl Fault for RunDeleted {
    async fn inject(&mut self, world: &World) -> Result<()> {
        let folder = world.disk.prefix().join("run");
        eventually("the folder is deleted", SOON, || async { std::fs::remove_dir_all(&folder) }).await
    }
}

/// The files of all Services.
pub(super) struct ServicesDeleted;

#[async_trait]
impl Fault for ServicesDeleted {
    async fn inject(&mut self, world: &World) -> Result<()> {
        for entry in std::fs::read_dir(world.disk.prefix().join("services"))? {
            std::fs::remove_file(entry?.path())?;
        }
        Ok(())
    }
}

/// The last good state.
pub(super) struct LastGoodRemoved;

#[async_trait]
impl Fault for LastGoodRemoved {
    async fn inject(&mut self, world: &World) -> Result<()> {
        let file = world.disk.prefix().join("state/last-good.json");
        eventually("the last good state was saved", SOON, || async { std::fs::remove_file(&file) }).await
    }
}

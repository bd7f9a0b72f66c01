//! What happens to the storage behind an API server.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{ApiServer, start_etcd};

/// A copy of everything that an API server had stored. Made by [`ApiServer::save`]; gone with the server.
#[derive(Debug)]
pub struct Backup(std::path::PathBuf);

impl ApiServer {
    /// Copies the storage. Server and etcd are stopped for it, and started again.
    pub async fn save(&mut self) -> Result<Backup> {
        let backup = Backup(self.scratch.join("backup"));
        self.with_storage_down(|data| copy(data, &backup.0)).await?;
        Ok(backup)
    }

    /// Puts a copy back, on the same ports: versions of objects go back, too.
    pub async fn restore(&mut self, backup: &Backup) -> Result<()> {
        self.with_storage_down(|data| {
            fs::remove_dir_all(data)?;
            copy(&backup.0, data)
        })
        .await
    }

    /// Loses everything that was stored: another cluster, at the same address and with the same certificates.
    pub async fn lose_everything(&mut self) -> Result<()> {
        self.with_storage_down(|data| Ok(fs::remove_dir_all(data)?)).await?;
        self.wait_for_namespaces().await
    }

    async fn with_storage_down(&mut self, change: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        self.stop();
        self.etcd.kill();
        change(&self.scratch.join("etcd")).context("failed to change etcd's files")?;
        self.etcd = start_etcd(&self.scratch, self.etcd_port)?;
        self.start_again().await
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

//! The disk that the prefix is on: a small one of its own, so that it can be full or read-only.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::wait::{SOON, eventually};
use lbex_test_harness::{Scratch, programs};

/// Room for NGINX's binary and the configuration of a few hundred Services.
const SIZE: &str = "16m";

/// A file system with the prefix on it. It goes, with what runs from it, when this is dropped.
pub(crate) struct Disk {
    scratch: Scratch,
}

impl Disk {
    /// Belongs to root, or to another user.
    pub(crate) fn new(user: Option<u32>) -> Result<Self> {
        let disk = Self { scratch: Scratch::for_nginx("disk")? };
        std::fs::create_dir(disk.root())?;
        let root = disk.root().display().to_string();
        let user = user.map_or(String::new(), |user| format!(",uid={user},gid={user}"));
        mount(&["-t", "tmpfs", "-o", &format!("size={SIZE},mode=755{user}"), "lbex-test", &root])?;
        Ok(disk)
    }

    fn root(&self) -> PathBuf {
        self.scratch.join("d")
    }

    /// The prefix, which LBEX makes.
    pub(crate) fn prefix(&self) -> PathBuf {
        self.root().join("prefix")
    }

    /// The folder of all: gone after the drop.
    pub(crate) fn folder(&self) -> &Path {
        self.scratch.path()
    }

    fn filler(&self) -> PathBuf {
        self.root().join("filler")
    }

    /// Leaves no room.
    pub(crate) fn fill(&self) -> Result<()> {
        let mut file = std::fs::File::create(self.filler()).context("failed to make the filler")?;
        for size in [1 << 16, 1 << 12, 1] {
            let block = vec![b'x'; size];
            while file.write_all(&block).is_ok() {}
        }
        Ok(())
    }

    /// Makes room again.
    pub(crate) fn free(&self) -> Result<()> {
        std::fs::remove_file(self.filler()).context("failed to remove the filler")
    }

    /// Makes it read-only: each path leads to a view of it that takes nothing. (The kernel refuses that to a file system with files
    /// that are being written, as NGINX's log is; what an error of the disk does, it cannot be asked to do.)
    pub(crate) async fn set_read_only(&self) -> Result<()> {
        let root = self.root().display().to_string();
        eventually("the disk is read-only", SOON, || async {
            mount(&["--bind", &root, &root])?;
            let made = mount(&["-o", "remount,bind,ro", &root]);
            if made.is_err() {
                // Somebody opened a file of the view to write to it between the two.
                self.set_writable()?;
            }
            made
        })
        .await
    }

    /// Ends that, also for those who have a file of the view open.
    pub(crate) fn set_writable(&self) -> Result<()> {
        run("umount", &["-l", &self.root().display().to_string()])
    }
}

fn mount(arguments: &[&str]) -> Result<()> {
    run("mount", arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(programs::find(program)?).args(arguments).output();
    let output = output.with_context(|| format!("failed to run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {} {said}", output.status);
    Ok(())
}

//! Containers without Docker.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use lbex_test_harness::Scratch;
use lbex_test_harness::netns::Netns;

use crate::support::run;

/// A container in a network namespace, with storage of its own. Dropping it ends and removes it.
pub(crate) struct Container {
    name: String,
    scratch: Scratch,
    started: bool,
}

impl Container {
    /// Nothing runs yet.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let unique = scratch.path().file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Self { name: unique.unwrap_or_else(|| name.to_owned()), scratch, started: false })
    }

    /// A path in its folder on the host.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// podman, on its storage.
    pub(crate) fn podman(&self) -> Command {
        let mut podman = Command::new("podman");
        for (flag, folder) in [("--root", "storage"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            podman.arg(flag).arg(self.path(folder));
        }
        podman.args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--runtime=runc"]);
        podman
    }

    /// Starts it, detached. Should this test be killed, it ends by itself after 15 minutes.
    pub(crate) fn start(&mut self, netns: &Netns, arguments: &[&str]) -> Result<()> {
        let mut podman = self.podman();
        podman.args(["run", "--detach", "--timeout=900", "--name", &self.name]);
        podman.arg(format!("--network=ns:{}", netns.path().display()));
        // What the machine that runs the tests allows may be less than podman's defaults.
        podman.args(["--ulimit=nofile=1024:4096", "--ulimit=nproc=1024:4096"]).args(arguments);
        self.started = true;
        run(&mut podman).map(drop)
    }

    /// Runs a command inside; what it printed.
    pub(crate) fn exec(&self, arguments: &[&str]) -> Result<String> {
        run(self.podman().args(["exec", &self.name]).args(arguments))
    }

    /// Runs a shell line inside; what it printed.
    pub(crate) fn sh(&self, line: &str) -> Result<String> {
        self.exec(&["sh", "-ec", line])
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> Result<String> {
        let output = self.podman().args(["logs", &self.name]).output()?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// A field of `podman inspect`.
    pub(crate) fn inspect(&self, format: &str) -> Result<String> {
        Ok(run(self.podman().args(["inspect", "--format", format, &self.name]))?.trim().to_owned())
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if !self.started {
            return;
        }
        if std::thread::panicking() {
            eprintln!("the container's log: {:?}", self.log());
        }
        if let Err(error) = run(self.podman().args(["rm", "--force", "--time=0", &self.name])) {
            eprintln!("the container {} is left: {error}", self.name);
        }
    }
}

//! Docker: Debian's daemon, with everything that it has and does in a folder and in namespaces of this test.

use std::process::Command;

use anyhow::{Context, Result};
use lbex_test_harness::netns::Netns;
use lbex_test_harness::process::Process;
use lbex_test_harness::wait::{SOON, eventually};
use lbex_test_harness::{Scratch, programs};

use crate::support::run;

/// A running daemon. Dropping it ends it and its containers: it is the first process of a namespace.
pub(crate) struct Docker {
    daemon: Process,
    scratch: Scratch,
}

impl Docker {
    /// Starts a daemon whose own network, which is what `--network host` gives a container, is this namespace.
    pub(crate) async fn start(netns: &Netns) -> Result<Self> {
        let scratch = Scratch::new("docker")?;
        let folder = |name: &str| scratch.join(name).display().to_string();
        let mut command = Command::new(programs::find("nsenter")?);
        command.arg(format!("--net={}", netns.path().display()));
        command.args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.arg(programs::find("dockerd")?);
        for (flag, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.args([flag, &folder(name)]);
        }
        command.args(["--host", &format!("unix://{}", folder("socket"))]);
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=overlay2"]);
        command.args(["--exec-opt=native.cgroupdriver=cgroupfs", "--default-ulimit=nofile=1024:4096"]);
        let daemon = Process::start("dockerd", &command, &scratch.join("dockerd.log"))?;
        let this = Self { daemon, scratch };
        let answers = eventually("Docker answers", SOON, || async {
            let mut version = Command::new("/usr/bin/docker");
            run(this.environment(version.arg("version"))).map(drop)
        });
        answers.await.with_context(|| this.daemon.log_tail())?;
        Ok(this)
    }

    /// A command that runs Debian's `docker`, which is as old as the daemon, and has this daemon do it.
    pub(crate) fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("/usr/bin:{path}"));
        command.env("DOCKER_HOST", format!("unix://{}", self.scratch.join("socket").display()));
        command.env("DOCKER_CONFIG", self.scratch.join("settings"))
    }
}

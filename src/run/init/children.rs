//! The children of the first process: the one that it has started, and all those whose parents have ended.

use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{self, SignalKind};

use crate::cli::{END_PROXY, Failure};
use crate::run::shutdown::listen;

/// What a child is started for.
#[derive(Clone, Copy)]
pub(super) enum Job {
    /// The controller. It leaves the proxy alone when it ends.
    Controller,
    /// To drain the proxy and end it.
    EndProxy,
}

/// The children.
pub(super) struct Children {
    /// Some child has ended.
    news: unix::Signal,
    /// The one with a job.
    job: Option<Child>,
    /// Whether there was a child at the last look.
    left: bool,
}

/// How the child with the job has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// With an exit code.
    Code(u8),
    /// By a signal.
    Killed(Signal),
}

impl Children {
    /// None yet.
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self { news: listen(SignalKind::child())?, job: None, left: false })
    }

    /// Starts this very program again, with this process's arguments, for a job. In a process group of its own: what signals a group,
    /// such as a terminal, is to end the first process, and that ends the child.
    pub(super) fn start(&mut self, job: Job) -> io::Result<()> {
        let mut given = std::env::args_os();
        let called = given.next().unwrap_or_else(|| "lbex".into());
        // Without /proc nobody knows, and it is where it was called.
        let program = std::env::current_exe().unwrap_or_else(|_| called.clone().into());
        let mut command = Command::new(program);
        command.arg0(called).process_group(0);
        match job {
            Job::Controller => command.args(given).arg("--stop-proxy-on-exit=false"),
            Job::EndProxy => command.arg(END_PROXY).args(given),
        };
        self.job = Some(command.spawn()?);
        Ok(())
    }

    /// Whether one runs that was started for a job.
    pub(super) fn has_job(&self) -> bool {
        self.job.is_some()
    }

    /// Whether there are children, such as a proxy that has become a daemon.
    pub(super) fn are_left(&self) -> bool {
        self.left
    }

    /// Sends a signal to the one with the job, if it runs.
    pub(super) fn signal(&self, signal: Signal) {
        let Some(pid) = self.job.as_ref().and_then(pid) else { return };
        // It is there: nobody but this takes its exit status.
        if let Err(error) = kill(pid, signal) {
            tracing::warn!("failed to send {signal} to process {pid}: {error}");
        }
    }

    /// Waits until the one with the job has ended; for ever if there is none. Reaps all others meanwhile. May be given up and called
    /// again.
    pub(super) async fn ended(&mut self) -> Exit {
        loop {
            if let Some(exit) = self.reap() {
                return exit;
            }
            self.news.recv().await;
        }
    }

    /// Takes the exit status of every child that has ended.
    fn reap(&mut self) -> Option<Exit> {
        let mut exit = None;
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break self.left = true,
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(_) => break self.left = false,
            };
            if status.pid().is_some() && status.pid() == self.job.as_ref().and_then(pid) {
                exit = Exit::of(status);
                self.job = None;
            }
        }
        exit
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().map(Pid::from_raw)
}

impl Exit {
    fn of(status: WaitStatus) -> Option<Self> {
        match status {
            // Eight bits, as the kernel has it.
            WaitStatus::Exited(_, code) => Some(Self::Code(u8::try_from(code).unwrap_or(u8::MAX))),
            WaitStatus::Signaled(_, signal, _) => Some(Self::Killed(signal)),
            _ => None,
        }
    }

    /// As a shell would say it.
    pub(super) fn code(self) -> ExitCode {
        match self {
            Self::Code(code) => code.into(),
            Self::Killed(signal) => u8::try_from(128 + signal as i32).unwrap_or(u8::MAX).into(),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "has ended with exit code {code}"),
            Self::Killed(signal) => write!(f, "was killed by {signal}"),
        }
    }
}

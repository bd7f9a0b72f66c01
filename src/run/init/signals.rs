//! What the first process of a container is told.

use std::time::Instant;

use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind};

use crate::cli::Failure;
use crate::run::shutdown::{SAME_WISH, listen};

/// The signals that it listens to. All others have no effect on it: the kernel sees to that.
pub(super) struct Signals {
    term: unix::Signal,
    int: unix::Signal,
    hup: unix::Signal,
    usr1: unix::Signal,
}

/// What a signal means.
pub(super) enum Heard {
    /// The container is to end; the signal's name.
    End(&'static str),
    /// It is for the controller.
    Forward(Signal),
}

impl Signals {
    /// From now on they are heard.
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self {
            term: listen(SignalKind::terminate())?,
            int: listen(SignalKind::interrupt())?,
            hup: listen(SignalKind::hangup())?,
            usr1: listen(SignalKind::user_defined1())?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.term.recv() => Heard::End("SIGTERM"),
            _ = self.int.recv() => Heard::End("SIGINT"),
            _ = self.hup.recv() => Heard::Forward(Signal::SIGHUP),
            _ = self.usr1.recv() => Heard::Forward(Signal::SIGUSR1),
        }
    }

    /// Waits until the end is asked for again, other than with the first time; the signal's name.
    pub(super) async fn asked_again(&mut self, first: Instant) -> &'static str {
        loop {
            match self.next().await {
                Heard::End(name) if first.elapsed() >= SAME_WISH => return name,
                Heard::End(_) | Heard::Forward(_) => {}
            }
        }
    }
}

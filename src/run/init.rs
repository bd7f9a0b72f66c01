//! LBEX as the first process (PID 1) of a container: a small supervisor of its controller, which runs as its child.
//!
//! The kernel ends a container with its first process, and NGINX with it. So the controller is another one: it may crash or be
//! restarted, and NGINX, a daemon in the same container, serves on. A real end comes as a signal to the first process: the
//! controller ends then, and the proxy is drained.

mod children;
mod signals;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::time::{sleep_until, timeout};

use self::children::{Children, Exit, Job};
use self::signals::{Heard, Signals};
use crate::cli::{DEFECT, Failure};
use crate::settings::{Settings, StopProxy};

/// How long the controller may take to end; it may be killed at any time. With the drain of 20 s this stays below the 30 s that
/// Kubernetes gives.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause before the controller is started again. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A controller that has run for so long is none that cannot begin: the pauses begin anew.
const RAN_WELL: Duration = Duration::from_secs(60);

/// Whether this process is the first of a container.
pub(super) fn is_first_process() -> bool {
    std::process::id() == 1
}

/// Runs the controller, and starts it again whenever it ends, until SIGTERM or SIGINT; then ends it, and the proxy after it.
///
/// A controller that cannot begin ends the container with its own exit code, as long as nothing serves that would end with it.
pub(super) async fn supervise(settings: &Settings) -> Result<ExitCode, Failure> {
    let (mut signals, mut children) = (Signals::listen()?, Children::new()?);
    if let Some(code) = keep_running(&mut signals, &mut children).await {
        return Ok(code);
    }
    let asked = Instant::now();
    tokio::select! {
        code = end(settings, &mut children) => code,
        name = signals.asked_again(asked) => {
            tracing::warn!("{name} again: ending at once, and the proxy with it");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What happens to a supervisor.
enum Event {
    /// It is told to end.
    Told(&'static str),
    /// The controller has ended.
    Ended(Exit),
    /// It is time to start it.
    Due,
}

/// `None`: told to end. Else what the container ends with.
async fn keep_running(signals: &mut Signals, children: &mut Children) -> Option<ExitCode> {
    let mut pause = Pause::default();
    let mut due = Some(Instant::now());
    let mut begun = Instant::now();
    loop {
        let (why, ran) = match next(signals, children, due).await {
            Event::Told(name) => {
                tracing::info!("{name}: ending");
                return None;
            }
            Event::Due => {
                due = None;
                begun = Instant::now();
                match children.start(Job::Controller) {
                    Ok(()) => continue,
                    Err(error) => (format!("LBEX's controller cannot be started: {error}"), Duration::ZERO),
                }
            }
            Event::Ended(exit) => {
                if let Some(code) = exit.is_final(children.are_left()) {
                    return Some(code);
                }
                (format!("LBEX's controller {exit}"), begun.elapsed())
            }
        };
        let pause = pause.after(ran);
        tracing::warn!("{why}; it is started again in {pause:?}, the proxy serves on");
        due = Some(Instant::now() + pause);
    }
}

/// The next event; until then signals go on to the controller.
async fn next(signals: &mut Signals, children: &mut Children, due: Option<Instant>) -> Event {
    loop {
        let due = async {
            match due {
                Some(due) => sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            heard = signals.next() => match heard {
                Heard::End(name) => return Event::Told(name),
                Heard::Forward(signal) => children.signal(signal),
            },
            exit = children.ended() => return Event::Ended(exit),
            () = due => return Event::Due,
        }
    }
}

/// Ends the controller and then the proxy.
async fn end(settings: &Settings, children: &mut Children) -> Result<ExitCode, Failure> {
    children.signal(Signal::SIGTERM);
    if children.has_job() && timeout(PATIENCE, children.ended()).await.is_err() {
        tracing::warn!("LBEX's controller has not ended within {PATIENCE:?}: it is killed");
        children.signal(Signal::SIGKILL);
        children.ended().await;
    }
    if settings.stop_proxy_on_exit == StopProxy::No {
        tracing::info!("the container ends, and the proxy with it: --stop-proxy-on-exit=false says not to drain it");
        return Ok(ExitCode::SUCCESS);
    }
    let start = |e| Failure::usage(anyhow::Error::new(e).context("the proxy cannot be drained"));
    children.start(Job::EndProxy).map_err(start)?;
    Ok(children.ended().await.code())
}

impl Exit {
    /// The exit code of a container that is to end because its controller did; `None`: it is to be started again. `serves`: there
    /// are other processes, such as the proxy's.
    fn is_final(self, serves: bool) -> Option<ExitCode> {
        match self {
            Self::Code(0 | DEFECT) | Self::Killed(_) => None,
            Self::Code(_) => (!serves).then(|| self.code()),
        }
    }
}

/// How long to wait before the next start.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pause {
    /// After a controller that ran for so long.
    fn after(&mut self, ran: Duration) -> Duration {
        if ran >= RAN_WELL {
            self.0 = FIRST_PAUSE;
        }
        let doubled = (self.0 * 2).min(LONGEST_PAUSE);
        std::mem::replace(&mut self.0, doubled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_ends_with_a_controller_that_cannot_begin_unless_something_serves() {
        let ends = |exit: Exit, serves| exit.is_final(serves).is_some();
        for code in [1, 2, 3] {
            assert!(ends(Exit::Code(code), false) && !ends(Exit::Code(code), true), "{code}");
        }
        for exit in [Exit::Code(0), Exit::Code(DEFECT), Exit::Killed(Signal::SIGKILL)] {
            assert!(!ends(exit, false) && !ends(exit, true), "{exit}");
        }
    }

    #[test]
    fn pauses_grow_to_a_limit_and_begin_anew_after_a_controller_that_ran_well() {
        let mut pause = Pause::default();
        let pauses: Vec<Duration> = (0..12).map(|_| pause.after(Duration::from_secs(1))).collect();
        assert_eq!(pauses[..3], [100, 200, 400].map(Duration::from_millis));
        assert_eq!(pauses[11], LONGEST_PAUSE);
        assert_eq!(pause.after(RAN_WELL), FIRST_PAUSE);
    }
}

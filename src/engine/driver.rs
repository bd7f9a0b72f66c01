//! Drives the backend: one task, one apply at a time, on the newest desired state. Deltas that come meanwhile are joined.
//!
//! Pace: the first change goes at once, then at most one reload per interval; deltas that the backend applies without a reload do
//! not wait, and neither does a proxy that has to be put right. What failed, or was refused and may succeed later, is tried again
//! with growing pauses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lbex_core::backend::{Action, ApplyReport, BackendError, ProxyBackend};
use lbex_core::desired::{Delta, DesiredState};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::publish::Metrics;

/// How long an apply in progress may take to finish when LBEX ends. A tool that is ended exits within 10 s.
pub(super) const FINISH: Duration = Duration::from_secs(8);

/// The longest pause before something is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often the backend may reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// `--reload-interval`: the least time between two reloads. Default 1 s.
    pub reload_interval: Duration,
}

/// What came of an apply.
#[derive(Debug)]
pub(super) enum Progress {
    /// It succeeded, for all that the report does not name.
    Applied(ApplyReport),
    /// Nothing could be applied; why.
    Failed(String),
}

/// The engine's side of the task.
pub(super) struct Driver {
    inbox: Arc<Inbox>,
    progress: tokio::sync::Mutex<mpsc::Receiver<Progress>>,
    task: JoinHandle<()>,
}

/// Asks the driver to apply again although nothing changed: the proxy is not as it should be. Does nothing before there is
/// anything to apply: the proxy may be serving what an earlier LBEX applied.
#[derive(Clone)]
pub(super) struct Nudge(Arc<Inbox>);

impl Nudge {
    /// Asks. Several before the driver comes to it count as one.
    pub(super) fn again(&self) {
        self.0.lock().again = true;
        self.0.changed.notify_one();
    }
}

#[derive(Default)]
struct Inbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    delta: Option<Delta>,
    again: bool,
    finish: bool,
}

impl Inbox {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver {
    pub(super) fn start(backend: Arc<dyn ProxyBackend>, pace: Pace, metrics: Arc<Metrics>) -> Self {
        let inbox = Arc::new(Inbox::default());
        let (sender, progress) = mpsc::channel(16);
        let live_servers = backend.capabilities().live_servers;
        let work = Work {
            backend,
            pace,
            live_servers,
            metrics,
            inbox: inbox.clone(),
            progress: sender,
            desired: DesiredState::default(),
            unapplied: None,
            begun: false,
            last_reload: None,
            pause: Pause::default(),
        };
        Self { inbox, progress: tokio::sync::Mutex::new(progress), task: tokio::spawn(work.run()) }
    }

    pub(super) fn nudge(&self) -> Nudge {
        Nudge(self.inbox.clone())
    }

    /// Hands over what changed. An empty delta too is applied.
    pub(super) fn submit(&self, delta: Delta) {
        {
            let mut waiting = self.inbox.lock();
            match &mut waiting.delta {
                Some(earlier) => earlier.merge(delta),
                None => waiting.delta = Some(delta),
            }
        }
        self.inbox.changed.notify_one();
    }

    /// The next result; `None`: the task is gone.
    pub(super) async fn progress(&self) -> Option<Progress> {
        self.progress.lock().await.recv().await
    }

    /// Lets the apply in progress finish, for [`FINISH`] at the most, and begins no other.
    pub(super) async fn finish(mut self) {
        self.inbox.lock().finish = true;
        self.inbox.changed.notify_one();
        self.progress.get_mut().close();
        if tokio::time::timeout(FINISH, &mut self.task).await.is_err() {
            tracing::warn!(
                "an apply was still in progress after {FINISH:?} and is abandoned; the proxy goes on serving"
            );
            self.task.abort();
        }
    }
}

/// The task's side.
struct Work {
    backend: Arc<dyn ProxyBackend>,
    pace: Pace,
    live_servers: bool,
    metrics: Arc<Metrics>,
    inbox: Arc<Inbox>,
    progress: mpsc::Sender<Progress>,
    /// What the proxy should be, with all deltas taken so far.
    desired: DesiredState,
    /// What of it the backend has not applied yet; `None`: all of it is applied.
    unapplied: Option<Delta>,
    /// Whether there was anything to apply yet.
    begun: bool,
    /// When the last reload, or the last attempt that failed, began.
    last_reload: Option<Instant>,
    pause: Pause,
}

impl Work {
    async fn run(mut self) {
        let mut retry_at: Option<Instant> = None;
        loop {
            self.wait(retry_at).await;
            let due = retry_at.is_some_and(|at| at <= Instant::now());
            let Taken { changed, again, finish } = self.take();
            if finish {
                return;
            }
            if !(self.begun && (changed || again || due)) {
                continue;
            }
            // A proxy that died serves nobody: that does not wait, however long the interval.
            if !again && !self.await_pace().await {
                return;
            }
            retry_at = self.apply().await;
        }
    }

    /// Until something changes or it is time to try again.
    async fn wait(&self, until: Option<Instant>) {
        let timer = async {
            match until {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.inbox.changed.notified() => {}
            () = timer => {}
        }
    }

    /// Takes what waits in the inbox.
    fn take(&mut self) -> Taken {
        let mut waiting = self.inbox.lock();
        let delta = waiting.delta.take();
        let taken =
            Taken { changed: delta.is_some(), again: std::mem::take(&mut waiting.again), finish: waiting.finish };
        drop(waiting);
        if let Some(delta) = delta {
            self.begun = true;
            self.desired.advance(&delta);
            match &mut self.unapplied {
                Some(earlier) => earlier.merge(delta),
                None => self.unapplied = Some(delta),
            }
        }
        taken
    }

    /// Waits until a reload is due, where one is needed, taking in what comes meanwhile. False: LBEX is ending.
    async fn await_pace(&mut self) -> bool {
        loop {
            let live = self.live_servers && self.unapplied.as_ref().is_some_and(Delta::servers_only);
            let due = self.last_reload.map(|at| at + self.pace.reload_interval);
            match due {
                Some(due) if !live && due > Instant::now() => self.wait(Some(due)).await,
                _ => return true,
            }
            let Taken { again, finish, .. } = self.take();
            if finish {
                return false;
            }
            if again {
                return true;
            }
        }
    }

    /// Applies the newest desired state. Says when to try again, if that is to be.
    async fn apply(&mut self) -> Option<Instant> {
        let nothing = Delta { from: self.desired.generation, to: self.desired.generation, ..Delta::default() };
        let delta = self.unapplied.as_ref().unwrap_or(&nothing);
        let begin = Instant::now();
        let result = self.backend.apply(&self.desired, delta).await;
        match result {
            Ok(report) => {
                self.metrics.applied(delta, &report, begin.elapsed());
                log_applied(delta, &report, begin.elapsed());
                if matches!(report.action, Action::Reloaded | Action::Started | Action::Upgraded) {
                    self.last_reload = Some(begin);
                }
                self.unapplied = None;
                let retry = report.refused.values().flatten().any(|refusal| refusal.retry);
                self.tell(Progress::Applied(report)).await;
                if retry { Some(self.pause.next()) } else { self.pause.reset() }
            }
            Err(error) => {
                self.metrics.apply_failed(&error);
                // Even where trying again cannot help by itself, the host may be put right meanwhile.
                let retry = Some(match &error {
                    BackendError::Retry(_) => self.pause.next(),
                    BackendError::Permanent(_) => Instant::now() + LONGEST_PAUSE,
                });
                // A failed attempt costs as much as one that succeeds: many changes must not make many of them.
                self.last_reload = Some(begin);
                tracing::error!("the configuration could not be applied: {error}; what was served before goes on");
                if self.unapplied.is_none() {
                    self.unapplied = Some(nothing);
                }
                self.tell(Progress::Failed(error.to_string())).await;
                retry
            }
        }
    }

    async fn tell(&self, progress: Progress) {
        if self.progress.send(progress).await.is_err() {
            tracing::debug!("nobody hears of the apply any more: LBEX is ending");
        }
    }
}

struct Taken {
    changed: bool,
    again: bool,
    finish: bool,
}

/// Growing pauses: 0.5 s, doubling up to [`LONGEST_PAUSE`].
#[derive(Default)]
pub(super) struct Pause {
    tries: u32,
}

impl Pause {
    pub(super) fn next(&mut self) -> Instant {
        let pause = Duration::from_millis(500).saturating_mul(1 << self.tries.min(10));
        self.tries = self.tries.saturating_add(1);
        Instant::now() + pause.min(LONGEST_PAUSE)
    }

    fn reset(&mut self) -> Option<Instant> {
        self.tries = 0;
        None
    }
}

fn log_applied(delta: &Delta, report: &ApplyReport, took: Duration) {
    let (services, action) = (delta.changes.len(), report.action.as_str());
    let took = Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    if report.action == Action::Unchanged {
        tracing::debug!("nothing to change (generation {})", report.generation);
    } else {
        tracing::info!("{action} in {took:?}: {services} Service(s) changed (generation {})", report.generation);
    }
}

#[cfg(test)]
mod tests;

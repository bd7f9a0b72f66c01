//! Drives the backend: one task, one apply at a time, on the newest desired state. Deltas that come meanwhile are joined.
//!
//! Two lanes: changes of servers that the backend can push go to it as they come, whatever else is in progress; everything else
//! waits for its apply.
//!
//! Pace: the first change goes at once, then at most one apply per interval; a proxy that has to be put right does not wait. What
//! failed, or was refused and may succeed later, is tried again with growing pauses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lbex_core::backend::{ApplyReport, ProxyBackend};
use lbex_core::desired::Delta;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::publish::Metrics;
use work::Work;

mod work;

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
    /// These changes of servers were taken by the data plane without a reload.
    Pushed(Delta),
    /// The last good state is not applied, since the proxy serves by now.
    Left,
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
    /// Whether the delta is the last good state, and no plan.
    resumes: bool,
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
        let work = Work::new(backend, pace, metrics, inbox.clone(), sender);
        Self { inbox, progress: tokio::sync::Mutex::new(progress), task: tokio::spawn(work.run()) }
    }

    pub(super) fn nudge(&self) -> Nudge {
        Nudge(self.inbox.clone())
    }

    /// Hands over the last good state, to be applied only while the proxy does not serve: what it serves is never older.
    pub(super) fn resume(&self, delta: Delta) {
        self.hand_over(delta, true);
    }

    /// Hands over what changed. An empty delta too is applied, if it is the first.
    pub(super) fn submit(&self, delta: Delta) {
        self.hand_over(delta, false);
    }

    fn hand_over(&self, delta: Delta, resumes: bool) {
        {
            let mut waiting = self.inbox.lock();
            waiting.resumes = resumes;
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

/// Growing pauses: 0.5 s, doubling up to [`LONGEST_PAUSE`].
#[derive(Default)]
pub(super) struct Pause {
    tries: u32,
    until: Option<Instant>,
}

impl Pause {
    /// When to try again. An attempt before that, because something changed, leaves it as it is: what lasts a second must not
    /// cost half a minute because much changed in that second.
    pub(super) fn next(&mut self) -> Instant {
        let now = Instant::now();
        if let Some(until) = self.until.filter(|until| *until > now) {
            return until;
        }
        let pause = Duration::from_millis(500).saturating_mul(1 << self.tries.min(10));
        self.tries = self.tries.saturating_add(1);
        *self.until.insert(now + pause.min(LONGEST_PAUSE))
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests;

//! The driver's task.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use lbex_core::backend::{Action, ApplyReport, BackendError, ProxyBackend};
use lbex_core::desired::{Delta, DesiredState};
use lbex_core::names::ServiceKey;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Inbox, LONGEST_PAUSE, Pace, Pause, Progress};
use crate::engine::watchdog::look;
use crate::publish::Metrics;

/// How many pushes may be awaited at the same time. An NGINX of the host's takes up to a second to take one.
const MOST_PUSHES: usize = 256;

/// What came of what was in progress.
enum Done {
    /// An apply: of what, since when, and how it ended.
    Applied(Delta, Instant, Result<ApplyReport, BackendError>),
    /// A look before one: whether the proxy serves.
    Looked(Result<bool, String>),
}

/// What came of a push: when it began, what it was, and the Services that the data plane did not take it for.
type Taken = (Instant, Delta, BTreeSet<ServiceKey>);

/// The task.
pub(super) struct Work {
    backend: Arc<dyn ProxyBackend>,
    pace: Pace,
    metrics: Arc<Metrics>,
    inbox: Arc<Inbox>,
    progress: mpsc::Sender<Progress>,
    /// What the proxy should be, with all deltas taken so far. Shared with the apply in progress.
    desired: Arc<DesiredState>,
    /// What changed since the last apply began, without what was pushed; `None` before there is anything to apply.
    unapplied: Option<Delta>,
    /// Whether all there is to apply is the last good state: only a proxy that does not serve gets it.
    resumes: bool,
    /// Why an apply is wanted; none is where all is empty.
    wanted: Wanted,
    /// The apply, or the look before it, in progress.
    applying: Option<BoxFuture<'static, Done>>,
    pushes: FuturesUnordered<BoxFuture<'static, Taken>>,
    /// When the last reload, or the last attempt that failed, began.
    last_reload: Option<Instant>,
    pause: Pause,
    finish: bool,
}

/// Why an apply is wanted.
#[derive(Debug, Default)]
struct Wanted {
    /// Something changed.
    changed: bool,
    /// The proxy has to be put right: that waits for no interval.
    again: bool,
    /// It is to be tried again then.
    retry_at: Option<Instant>,
}

impl Work {
    pub(super) fn new(
        backend: Arc<dyn ProxyBackend>,
        pace: Pace,
        metrics: Arc<Metrics>,
        inbox: Arc<Inbox>,
        progress: mpsc::Sender<Progress>,
    ) -> Self {
        Self {
            backend,
            pace,
            metrics,
            inbox,
            progress,
            desired: Arc::default(),
            unapplied: None,
            resumes: false,
            wanted: Wanted::default(),
            applying: None,
            pushes: FuturesUnordered::new(),
            last_reload: None,
            pause: Pause::default(),
            finish: false,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let due = self.due();
            if self.applying.is_none() {
                if self.finish {
                    return;
                }
                if due.is_some_and(|due| due <= Instant::now()) {
                    self.begin();
                }
            }
            let applying = self.applying.is_some();
            tokio::select! {
                biased;
                done = async { Some(self.applying.as_mut()?.await) }, if applying => {
                    self.applying = None;
                    if let Some(done) = done {
                        self.done(done).await;
                    }
                }
                Some(taken) = self.pushes.next() => self.pushed(taken).await,
                () = self.inbox.changed.notified(), if self.pushes.len() < MOST_PUSHES => self.take(),
                () = async { tokio::time::sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() && !applying => {}
            }
        }
    }

    /// Takes what waits in the inbox, and pushes what of it can be pushed.
    fn take(&mut self) {
        let (delta, resumes, again, finish) = {
            let mut waiting = self.inbox.lock();
            (waiting.delta.take(), waiting.resumes, std::mem::take(&mut waiting.again), waiting.finish)
        };
        self.finish |= finish;
        if let Some(delta) = delta {
            // What was not applied of the last good state goes with the first plan, even if that differs in nothing.
            self.wanted.changed |= std::mem::replace(&mut self.resumes, resumes) && !resumes;
            self.take_in(delta);
        }
        // Before there is anything to apply, the proxy may be serving what an earlier LBEX applied.
        self.wanted.again |= again && self.unapplied.is_some();
    }

    fn take_in(&mut self, mut delta: Delta) {
        // First: while an apply is in progress, what follows copies the whole desired state.
        let push = self.backend.push(&delta);
        Arc::make_mut(&mut self.desired).advance(&delta);
        if !push.services.is_empty() {
            let (begin, taken) = (Instant::now(), push.taken);
            let pushed = delta.take_out(&push.services, self.unapplied.as_ref());
            self.pushes.push(Box::pin(async move { (begin, pushed, taken.await) }));
        }
        self.wanted.changed |= !delta.is_empty() || self.unapplied.is_none();
        match &mut self.unapplied {
            Some(earlier) => earlier.merge(delta),
            None => self.unapplied = Some(delta),
        }
    }

    /// When an apply is to begin, if one is.
    fn due(&self) -> Option<Instant> {
        let Wanted { changed, again, retry_at } = self.wanted;
        let now = Instant::now();
        if again {
            // A proxy that died serves nobody: that does not wait, however long the interval.
            return Some(now);
        }
        let paced = self.last_reload.map_or(now, |at| at + self.pace.reload_interval);
        let changed = changed.then_some(paced);
        changed.into_iter().chain(retry_at.map(|at| at.max(paced))).min()
    }

    /// Begins what is wanted.
    fn begin(&mut self) {
        self.wanted = Wanted::default();
        if !self.resumes {
            return self.apply();
        }
        let backend = self.backend.clone();
        let serves = async move { look(backend.as_ref()).await.map(|seen| seen.healthy) };
        self.applying = Some(Box::pin(async move { Done::Looked(serves.await) }));
    }

    /// Begins to apply the newest desired state.
    fn apply(&mut self) {
        self.wanted = Wanted::default();
        let desired = self.desired.clone();
        let nothing = Delta { from: desired.generation, to: desired.generation, ..Delta::default() };
        let delta = self.unapplied.replace(nothing.clone()).unwrap_or(nothing);
        let (backend, begin) = (self.backend.clone(), Instant::now());
        self.applying = Some(Box::pin(async move {
            let result = backend.apply(&desired, &delta).await;
            Done::Applied(delta, begin, result)
        }));
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Applied(delta, begin, result) => self.applied(delta, begin, result).await,
            Done::Looked(Ok(true)) if self.resumes => {
                tracing::info!("the proxy serves by now: the last good state is not applied");
                tell(&self.progress, Progress::Left).await;
            }
            Done::Looked(Err(why)) if self.resumes => {
                self.wanted.retry_at = Some(self.pause.next());
                tell(&self.progress, Progress::Failed(why)).await;
            }
            Done::Looked(_) if self.finish => {}
            // It does not serve, or there is a plan by now.
            Done::Looked(_) => self.apply(),
        }
    }

    async fn applied(&mut self, delta: Delta, begin: Instant, result: Result<ApplyReport, BackendError>) {
        match result {
            Ok(report) => {
                // What it serves from now on is this.
                self.resumes = false;
                self.metrics.applied(&delta, &report, begin.elapsed());
                log_applied(&delta, &report, begin.elapsed());
                if matches!(report.action, Action::Reloaded | Action::Started | Action::Upgraded) {
                    self.last_reload = Some(begin);
                }
                if report.refused.values().flatten().any(|refusal| refusal.retry) {
                    self.wanted.retry_at = Some(self.pause.next());
                } else {
                    self.pause.reset();
                }
                tell(&self.progress, Progress::Applied(report)).await;
            }
            Err(error) => {
                self.metrics.apply_failed(&error);
                // Even where trying again cannot help by itself, the host may be put right meanwhile.
                self.wanted.retry_at = Some(match &error {
                    BackendError::Retry(_) => self.pause.next(),
                    BackendError::Permanent(_) => Instant::now() + LONGEST_PAUSE,
                });
                // A failed attempt costs as much as one that succeeds: many changes must not make many of them.
                self.last_reload = Some(begin);
                tracing::error!("the configuration could not be applied: {error}; what was served before goes on");
                let mut unapplied = delta;
                if let Some(later) = self.unapplied.take() {
                    unapplied.merge(later);
                }
                // What was pushed during the attempt is in neither.
                unapplied.bring_up_to(&self.desired);
                self.unapplied = Some(unapplied);
                tell(&self.progress, Progress::Failed(error.to_string())).await;
            }
        }
    }

    async fn pushed(&mut self, (begin, pushed, late): Taken) {
        let took = begin.elapsed();
        self.metrics.pushed(&pushed, late.len(), took);
        if late.is_empty() {
            tracing::debug!("servers of {} Service(s) changed without a reload, in {took:?}", pushed.changes.len());
            tell(&self.progress, Progress::Pushed(pushed)).await;
            return;
        }
        let some: Vec<String> = late.iter().take(5).map(ToString::to_string).collect();
        tracing::warn!(
            "{} Service(s) did not get their changed endpoints without a reload within {took:?}; they are applied: {}{}",
            late.len(),
            some.join(", "),
            if late.len() > some.len() { ", ..." } else { "" },
        );
        self.wanted.changed = true;
    }
}

async fn tell(progress: &mpsc::Sender<Progress>, what: Progress) {
    if progress.send(what).await.is_err() {
        tracing::debug!("nobody hears of the apply any more: LBEX is ending");
    }
}

fn log_applied(delta: &Delta, report: &ApplyReport, took: Duration) {
    let (services, action) = (delta.changes.len(), report.action.as_str());
    let took = Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1));
    if report.action == Action::Unchanged {
        tracing::debug!("nothing to change (generation {})", report.generation);
    } else {
        tracing::info!("{action} in {took:?}: {services} Service(s) changed (generation {})", report.generation);
    }
}

//! Keeps the file up to date with what the data plane confirmed, at a bounded cost, in a task of its own.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lbex_core::desired::{Delta, DesiredState};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::known::Known;
use super::{Before, Remembered, SavedState, Scope, Store};
use crate::publish::Metrics;

/// The least time between two writes.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// A pause is this many times as long as the write before it took, so that writing takes 3% of the time at the most.
const PAUSE_FACTOR: u32 = 30;
/// The longest pause, also where writing fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long to wait after a write that failed.
const RETRY: Duration = Duration::from_secs(5);
/// How often a failure that lasts is said again.
const REMIND: Duration = Duration::from_secs(60);
/// How often it is made sure that the file is there: somebody may have emptied the prefix.
const LOOK: Duration = Duration::from_secs(30);
/// How long the last write may take when LBEX ends.
const FINISH: Duration = Duration::from_secs(2);
/// The last good state, in memory and on disk. Follows the deltas that the engine hands over; what is confirmed of them is saved
/// within a second, or less often where writing takes long.
#[derive(Debug)]
pub struct LastGood {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    contents: Mutex<Contents>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Contents {
    known: Known,
    /// What is known of the cluster, and how often that changed.
    cluster: Remembered,
    news: u64,
    /// The version that the file holds.
    saved: Option<Version>,
    finish: bool,
}

/// The revision of what is known to be good, and the number of changes of what is known of the cluster.
type Version = (u64, u64);

impl Contents {
    fn is_unsaved(&self) -> bool {
        self.known.revision() > 0 && self.saved != Some(self.version())
    }

    fn version(&self) -> Version {
        (self.known.revision(), self.news)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        // A panic ends LBEX; what it left is not saved.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known, and wakes the task where that leaves something to save.
    fn change(&self, change: impl FnOnce(&mut Contents)) {
        let unsaved = {
            let mut contents = self.lock();
            change(&mut contents);
            contents.is_unsaved()
        };
        if unsaved {
            self.wake.notify_one();
        }
    }
}

impl LastGood {
    /// Starts the task. `cluster` is what is known of the cluster already.
    pub fn start(store: impl Store + 'static, scope: Scope, cluster: Remembered, metrics: Arc<Metrics>) -> Self {
        let store = Box::new(store);
        let contents = Contents { cluster, ..Contents::default() };
        let shared = Arc::new(Shared { contents: Mutex::new(contents), ..Shared::default() });
        let writer = Writer { shared: shared.clone(), store, scope, metrics, gone: false, failing: None };
        Self { shared, task: tokio::spawn(writer.run()) }
    }

    /// What is handed over first is what the file holds: it need not be written for that.
    pub fn resumed(&self, state: &DesiredState) {
        self.shared.change(|contents| {
            contents.known.resumed(state);
            contents.saved = Some(contents.version());
        });
    }

    /// This delta is on its way to the proxy. Each begins where the one before ends; the first at 0.
    pub fn submitted(&self, delta: &Delta) {
        self.shared.change(|contents| contents.known.submitted(delta));
    }

    /// The data plane confirmed everything up to this generation.
    pub fn applied(&self, generation: u64) {
        self.shared.change(|contents| contents.known.applied(generation));
    }

    /// The data plane took these changes of servers, whatever else it has not confirmed.
    pub fn pushed(&self, pushed: &Delta) {
        self.shared.change(|contents| contents.known.pushed(pushed));
    }

    /// What is known of the cluster now.
    pub fn remember(&self, cluster: Remembered) {
        self.shared.change(|contents| {
            contents.news += u64::from(contents.cluster != cluster);
            contents.cluster = cluster;
        });
    }

    /// Whether the task is gone, which it never should be.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Writes what is not saved yet, for two seconds at the most, and ends.
    pub async fn finish(mut self) {
        self.shared.lock().finish = true;
        self.shared.wake.notify_one();
        match tokio::time::timeout(FINISH, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("the last good state was not saved at the end: {error}"),
            Err(_) => tracing::warn!("the last good state could not be saved within {FINISH:?}: that of before stays"),
        }
    }
}

/// The task's side.
struct Writer {
    shared: Arc<Shared>,
    store: Box<dyn Store>,
    scope: Scope,
    metrics: Arc<Metrics>,
    /// Somebody removed the file.
    gone: bool,
    failing: Option<Failing>,
}

/// What is to be written.
struct Unsaved {
    desired: DesiredState,
    cluster: Remembered,
    version: Version,
}

struct Failing {
    since: Instant,
    said: Instant,
}

impl Writer {
    async fn run(mut self) {
        let mut earliest = Instant::now();
        loop {
            let (unsaved, finish) = self.look(earliest <= Instant::now());
            if let Some(unsaved) = unsaved {
                earliest = self.save(unsaved).await;
            }
            if finish {
                return;
            }
            let waits = { self.shared.lock().is_unsaved() };
            let until = if waits { earliest } else { Instant::now() + LOOK };
            tokio::select! {
                biased;
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep_until(until) => self.notice_absence().await,
            }
        }
    }

    /// What is to be written now, and whether LBEX ends.
    fn look(&self, due: bool) -> (Option<Unsaved>, bool) {
        let contents = self.shared.lock();
        let now = contents.is_unsaved() && (due || contents.finish);
        let unsaved = || Unsaved {
            desired: contents.known.confirmed(),
            cluster: contents.cluster.clone(),
            version: contents.version(),
        };
        (now.then(unsaved), contents.finish)
    }

    /// Has the file written again if it is gone.
    async fn notice_absence(&mut self) {
        if self.is_saved() && self.store.is_gone().await {
            self.gone = true;
            self.shared.lock().saved = None;
        }
    }

    fn is_saved(&self) -> bool {
        self.shared.lock().saved.is_some()
    }

    /// Writes, and says when the next write may be.
    async fn save(&mut self, Unsaved { desired, cluster, version }: Unsaved) -> Instant {
        let begin = Instant::now();
        let saved = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let Remembered { cluster, inventory } = cluster;
        let (lbex, scope) = (env!("CARGO_PKG_VERSION").to_owned(), self.scope.clone());
        let state = SavedState { lbex, saved, cluster, inventory, scope, desired };
        let written = self.store.save(state).await;
        let took = begin.elapsed();
        match written {
            Ok(before) => {
                if before == Before::Nothing && (self.is_saved() || self.gone) {
                    tracing::warn!("{} was gone; it is written again", self.store.place());
                }
                self.gone = false;
                self.shared.lock().saved = Some(version);
                self.metrics.last_good_saved();
                if let Some(failing) = self.failing.take() {
                    tracing::info!("the last good state is saved again, after {} s", failing.since.elapsed().as_secs());
                }
                tracing::debug!("saved the last good state (version {version:?}) in {took:?}");
                Instant::now() + (took * PAUSE_FACTOR).clamp(LEAST_PAUSE, LONGEST_PAUSE)
            }
            Err(error) => {
                self.say(&error);
                Instant::now() + (took * PAUSE_FACTOR).clamp(RETRY, LONGEST_PAUSE)
            }
        }
    }

    /// A failure, once and then every minute.
    fn say(&mut self, error: &io::Error) {
        self.metrics.last_good_failed();
        let now = Instant::now();
        let failing = self.failing.get_or_insert(Failing { since: now, said: now });
        if failing.since == now || now.duration_since(failing.said) >= REMIND {
            failing.said = now;
            tracing::error!(
                "the last good state cannot be saved to {}: {error}; serving goes on, but after a reboot without the API server \
                 LBEX would serve what was saved before; trying again",
                self.store.place()
            );
        }
    }
}

//! Follows manifest files: reads them again as soon as they change.
//!
//! The system's notices (inotify) say when to look; what is read is decided by the files' own times and contents, and a slow poll
//! looks where notices do not reach (network file systems, a host out of watches). A file that is being written to is left alone
//! until its writer closes it.

mod hops;
mod pending;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use self::hops::Places;
use self::pending::Pending;
use super::load::{Loaded, Merge};
use super::problem::{FileProblem, ProblemKind};
use super::store::{Store, Suspects};

/// How a follower notices changes.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Whether the system is asked for notices.
    notices: bool,
    /// How often files are looked at where it gives them.
    poll: Duration,
    /// How often where it does not.
    poll_blind: Duration,
}

const PACE: Pace = Pace { notices: true, poll: Duration::from_secs(10), poll_blind: Duration::from_secs(2) };
/// Without notices: a file changed less than this ago may be half-written.
const BLIND_PATIENCE: Duration = Duration::from_millis(200);
/// When a file that does not parse is read again on suspicion of having been half-written.
const RETRY: Duration = Duration::from_millis(300);
/// How often a reading is repeated because the folders to watch changed under it.
const ROUNDS: usize = 4;

/// Nothing could be read at the start.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no manifest can be read: {}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct NothingReadable {
    /// Why, per path or file.
    pub problems: Vec<FileProblem>,
}

/// Manifest files that are followed.
pub struct Follower {
    reader: Arc<Mutex<Reader>>,
    shared: Arc<Shared>,
    namespaces: Arc<[String]>,
    /// The version of the reading that was returned last.
    seen: u64,
    pace: Pace,
    next_poll: Instant,
    retry: Option<Instant>,
}

/// What the watcher's thread and the follower share.
#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
    changed: Notify,
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The blocking half: files and watches.
struct Reader {
    store: Store,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, (u64, u64)>,
    /// Whether something that should be watched is not.
    blind: bool,
    /// Counts the readings that brought something new.
    version: u64,
    pace: Pace,
    shared: Arc<Shared>,
}

impl Follower {
    /// Reads `paths` (files or folders; the first that has an object counts) for the first time and begins to watch them.
    /// `namespaces` as in [`super::load`].
    pub async fn open(paths: &[PathBuf], namespaces: &[String]) -> Result<(Self, Loaded), NothingReadable> {
        Self::open_at(PACE, paths, namespaces).await
    }

    async fn open_at(pace: Pace, paths: &[PathBuf], namespaces: &[String]) -> Result<(Self, Loaded), NothingReadable> {
        let shared = Arc::new(Shared::default());
        let reader = Reader {
            store: Store::new(paths),
            watcher: None,
            watched: BTreeMap::new(),
            blind: false,
            version: 0,
            pace,
            shared: Arc::clone(&shared),
        };
        let mut follower = Self {
            reader: Arc::new(Mutex::new(reader)),
            shared,
            namespaces: namespaces.into(),
            seen: 0,
            pace,
            next_poll: Instant::now() + pace.poll_blind,
            retry: None,
        };
        let (loaded, anything, version) = follower
            .blocking(|reader, namespaces| {
                reader.start();
                reader.read(&Suspects::default(), &HashSet::new());
                (reader.merge(namespaces), reader.store.anything_read(), reader.version)
            })
            .await;
        if !anything {
            return Err(NothingReadable { problems: loaded.problems });
        }
        follower.seen = version;
        follower.plan_retry(&loaded);
        Ok((follower, loaded))
    }

    /// Waits for the next change and returns what the files hold after it. The future may be dropped: the next call then
    /// returns what that one would have.
    pub async fn next(&mut self) -> Loaded {
        loop {
            let (suspects, lost) = self.wait().await;
            // From here on everything is in the reader's hands, whatever becomes of this future.
            let seen = self.seen;
            let (loaded, version, blind) = self
                .blocking(move |reader, namespaces| {
                    reader.read(&suspects, &lost);
                    let news = reader.version != seen;
                    (news.then(|| reader.merge(namespaces)), reader.version, reader.blind)
                })
                .await;
            self.next_poll = Instant::now() + if blind { self.pace.poll_blind } else { self.pace.poll };
            if let Some(loaded) = loaded {
                self.seen = version;
                self.plan_retry(&loaded);
                return loaded;
            }
        }
    }

    /// Waits until there is reason to look at the files.
    async fn wait(&mut self) -> (Suspects, HashSet<PathBuf>) {
        loop {
            let due = self.shared.pending().due();
            let until = due.or(self.retry).unwrap_or(self.next_poll);
            if Instant::now() >= until {
                if due.is_none() && self.retry.take().is_some() {
                    return (Suspects { all: true, ..Suspects::default() }, HashSet::new());
                }
                return self.shared.pending().drain();
            }
            tokio::select! {
                () = self.shared.changed.notified() => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }

    fn plan_retry(&mut self, loaded: &Loaded) {
        let broken = loaded.problems.iter().any(|problem| problem.kind == ProblemKind::NotParsed);
        self.retry = broken.then(|| Instant::now() + RETRY);
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&mut Reader, &[String]) -> T + Send + 'static) -> T {
        let (reader, namespaces) = (Arc::clone(&self.reader), Arc::clone(&self.namespaces));
        let work = move || work(&mut reader.lock().unwrap_or_else(PoisonError::into_inner), &namespaces);
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is shutting down and will not poll this again.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Reader {
    fn start(&mut self) {
        self.watcher = if self.pace.notices { self.watcher() } else { None };
        self.blind = self.watcher.is_none();
        self.store.patience = if self.blind { BLIND_PATIENCE } else { Duration::ZERO };
        self.rewatch(&HashSet::new());
    }

    fn watcher(&self) -> Option<RecommendedWatcher> {
        let shared = Arc::clone(&self.shared);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let mut pending = shared.pending();
            let matters = match event {
                Ok(event) => pending.take(&event, Instant::now()),
                Err(error) => {
                    tracing::debug!(%error, "a notice of changed manifests was lost; all are looked at");
                    pending.take_all(Instant::now());
                    true
                }
            };
            drop(pending);
            if matters {
                shared.changed.notify_one();
            }
        });
        let failed = |error: &notify::Error| {
            tracing::warn!(
                %error,
                "the system gives no notice of changed manifests (inotify); they are looked at every {} s",
                self.pace.poll_blind.as_secs()
            );
        };
        watcher.inspect_err(failed).ok()
    }

    /// Reads what has changed, and watches what is to be watched now.
    fn read(&mut self, suspects: &Suspects, lost: &HashSet<PathBuf>) {
        let mut changed = self.store.refresh(suspects);
        for round in 0..ROUNDS {
            let none = HashSet::new();
            // What changed before a new watch was in place, only looking again can tell.
            if !self.rewatch(if round == 0 { lost } else { &none }) {
                break;
            }
            changed |= self.store.refresh(&Suspects::default());
        }
        self.version += u64::from(changed);
    }

    fn merge(&self, namespaces: &[String]) -> Loaded {
        let mut merge = Merge::new(namespaces);
        merge.add_store(&self.store);
        merge.finish()
    }

    /// Watches the folders that matter now and no others. Returns whether there is a new one among them.
    fn rewatch(&mut self, lost: &HashSet<PathBuf>) -> bool {
        let places = Places::of(self.store.roots(), self.store.files());
        let wanted = places.folders.clone();
        self.shared.pending().places = places;
        let Some(watcher) = &mut self.watcher else { return false };
        let stale = |path: &PathBuf, id: &(u64, u64)| wanted.get(path) != Some(id) || lost.contains(path);
        self.watched.retain(|path, id| {
            let keep = !stale(path, id);
            if !keep {
                // It fails where the folder is gone, and its watch with it.
                watcher.unwatch(path).ok();
            }
            keep
        });
        let mut failed = None;
        let mut new = false;
        for (path, id) in wanted {
            if self.watched.contains_key(&path) {
                continue;
            }
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path, id);
                    new = true;
                }
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = &failed
            && !self.blind
        {
            tracing::warn!(%error, "a folder of manifests cannot be watched; it is looked at every {} s", self.pace.poll_blind.as_secs());
        }
        self.blind = failed.is_some();
        self.store.patience = if self.blind { BLIND_PATIENCE } else { Duration::ZERO };
        new
    }
}

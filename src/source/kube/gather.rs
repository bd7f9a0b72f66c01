//! Gathers what the followers report into the events of the source: complete kinds, batches of changes, troubles.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use lbex_core::snapshot::Change;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::follow::{Message, Report};
use super::resource::{Object, Resource};
use crate::source::{Recovered, SourceEvent, SourceObserver, Trouble};

/// Reports taken at once, at the most.
const BATCH: usize = 256;

/// What is known of one follower.
pub(super) struct Scope {
    /// What it follows.
    pub(super) resource: Resource,
    /// Which of several namespaces.
    pub(super) namespace: Option<Arc<str>>,
    /// Its list, until those of all namespaces are there.
    first: Option<Vec<Object>>,
    /// The identity of the cluster that it follows.
    cluster: Option<Arc<str>>,
    trouble: Option<Current>,
}

struct Current {
    text: String,
    since: Instant,
    told: Instant,
}

impl Scope {
    pub(super) fn new(resource: Resource, namespace: Option<Arc<str>>) -> Self {
        Self { resource, namespace, first: None, cluster: None, trouble: None }
    }
}

/// The followers of one kind.
struct Kind {
    resource: Resource,
    scopes: usize,
    complete: watch::Sender<bool>,
}

/// Nobody receives the events.
struct Deaf;

/// Gathers reports. One task.
pub(super) struct Gatherer {
    scopes: Vec<Scope>,
    kinds: Vec<Kind>,
    events: mpsc::Sender<SourceEvent>,
    observer: Arc<dyn SourceObserver>,
    tell_again: Duration,
    pending: Vec<Change>,
    /// The identity of the cluster that was last told.
    told: Option<Arc<str>>,
    synced: bool,
}

impl Gatherer {
    /// Gathers for these followers.
    pub(super) fn new(
        scopes: Vec<Scope>,
        events: mpsc::Sender<SourceEvent>,
        observer: Arc<dyn SourceObserver>,
        tell_again: Duration,
    ) -> Self {
        let mut kinds: Vec<Kind> = Vec::new();
        for scope in &scopes {
            match kinds.iter_mut().find(|kind| kind.resource == scope.resource) {
                Some(kind) => kind.scopes += 1,
                None => kinds.push(Kind { resource: scope.resource, scopes: 1, complete: watch::Sender::new(false) }),
            }
        }
        Self { scopes, kinds, events, observer, tell_again, pending: Vec::new(), told: None, synced: false }
    }

    /// Turns true when all followers of a kind have a list.
    pub(super) fn complete(&self, resource: Resource) -> Option<watch::Receiver<bool>> {
        self.kinds.iter().find(|kind| kind.resource == resource).map(|kind| kind.complete.subscribe())
    }

    /// Goes on until nobody receives the events, or nobody reports.
    pub(super) async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut clock = clock(self.tell_again);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let done = tokio::select! {
                biased;
                () = self.events.closed() => return,
                _ = clock.tick() => self.tell_lasting().await,
                count = messages.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.take(mem::take(&mut batch)).await
                }
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn take(&mut self, batch: Vec<Message>) -> Result<(), Deaf> {
        for Message { scope, report } in batch {
            match report {
                Report::Listed { objects, cluster } => {
                    self.scopes[scope].cluster = cluster;
                    self.listed(scope, objects).await?;
                    self.working(scope).await?;
                }
                Report::Changes(changes) => {
                    self.speaks(scope).await?;
                    self.pending.extend(changes);
                    self.working(scope).await?;
                }
                Report::Working => self.working(scope).await?,
                Report::Failing(text) => self.failing(scope, text).await?,
            }
        }
        self.flush().await
    }

    async fn send(&self, event: SourceEvent) -> Result<(), Deaf> {
        self.events.send(event).await.map_err(|_| Deaf)
    }

    async fn flush(&mut self) -> Result<(), Deaf> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let changes = mem::take(&mut self.pending);
        self.send(SourceEvent::Changes(changes)).await
    }

    fn kind(&self, scope: usize) -> &Kind {
        let resource = self.scopes[scope].resource;
        // Each scope made its kind in `new`.
        self.kinds.iter().find(|kind| kind.resource == resource).expect("every scope has a kind")
    }

    /// What comes next is of the cluster that this follower follows.
    async fn speaks(&mut self, scope: usize) -> Result<(), Deaf> {
        if self.scopes[scope].cluster == self.told {
            return Ok(());
        }
        self.flush().await?;
        self.told.clone_from(&self.scopes[scope].cluster);
        self.send(SourceEvent::Cluster(self.told.clone())).await
    }

    async fn listed(&mut self, scope: usize, objects: Vec<Object>) -> Result<(), Deaf> {
        let resource = self.scopes[scope].resource;
        if *self.kind(scope).complete.borrow() {
            return self.list(scope, objects).await;
        }
        self.scopes[scope].first = Some(objects);
        let of_kind: Vec<_> = (0..self.scopes.len()).filter(|n| self.scopes[*n].resource == resource).collect();
        if of_kind.iter().any(|n| self.scopes[*n].first.is_none()) {
            return Ok(());
        }
        for n in of_kind {
            let objects = self.scopes[n].first.take().unwrap_or_default();
            self.list(n, objects).await?;
        }
        self.kind(scope).complete.send_replace(true);
        if !self.synced && self.kinds.iter().all(|kind| *kind.complete.borrow()) {
            self.synced = true;
            self.flush().await?;
            self.send(SourceEvent::Synced).await?;
        }
        Ok(())
    }

    /// Passes on the list of one follower: of all objects, or of those of its namespace where it is one of several.
    async fn list(&mut self, scope: usize, objects: Vec<Object>) -> Result<(), Deaf> {
        self.speaks(scope).await?;
        let shared = self.kind(scope).scopes > 1;
        let Scope { resource, namespace, .. } = &self.scopes[scope];
        let list = resource.list(namespace.as_ref().filter(|_| shared), objects);
        self.pending.push(list);
        Ok(())
    }

    fn known(&self, scope: usize) -> bool {
        *self.kind(scope).complete.borrow()
    }

    async fn working(&mut self, scope: usize) -> Result<(), Deaf> {
        if let Some(trouble) = self.scopes[scope].trouble.take() {
            self.flush().await?;
            let Scope { resource, namespace, .. } = &self.scopes[scope];
            let recovered =
                Recovered { kind: resource.kind(), namespace: namespace.clone(), after: trouble.since.elapsed() };
            self.send(SourceEvent::Recovered(recovered)).await?;
        }
        let all_work = self.scopes.iter().all(|scope| scope.trouble.is_none());
        self.observer.connected(all_work);
        if self.synced && all_work {
            self.observer.synced();
        }
        Ok(())
    }

    async fn failing(&mut self, scope: usize, text: String) -> Result<(), Deaf> {
        self.observer.connected(false);
        if let Some(trouble) = &mut self.scopes[scope].trouble {
            trouble.text = text;
            return Ok(());
        }
        let now = Instant::now();
        self.scopes[scope].trouble = Some(Current { text, since: now, told: now });
        self.tell(scope).await
    }

    async fn tell_lasting(&mut self) -> Result<(), Deaf> {
        for scope in 0..self.scopes.len() {
            let due = |trouble: &Current| trouble.told.elapsed() >= self.tell_again;
            if self.scopes[scope].trouble.as_ref().is_some_and(due) {
                self.tell(scope).await?;
            }
        }
        Ok(())
    }

    async fn tell(&mut self, scope: usize) -> Result<(), Deaf> {
        self.flush().await?;
        let known = self.known(scope);
        let Scope { resource, namespace, trouble, .. } = &mut self.scopes[scope];
        let Some(current) = trouble else { return Ok(()) };
        current.told = Instant::now();
        let trouble = Trouble {
            kind: resource.kind(),
            namespace: namespace.clone(),
            text: current.text.clone(),
            lasting: current.since.elapsed(),
            known,
        };
        self.send(SourceEvent::Trouble(trouble)).await
    }
}

/// Ticks often enough to tell of lasting troubles in time.
fn clock(tell_again: Duration) -> Interval {
    let mut clock = tokio::time::interval((tell_again / 10).max(Duration::from_millis(10)));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock
}

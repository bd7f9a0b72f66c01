//! Follows the objects of one kind (in one namespace, or everywhere): a complete list, then its changes, for ever.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use lbex_core::snapshot::Change;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::{mpsc, watch};

use super::access::{Lease, Session};
use super::explain;
use super::identity::Identity;
use super::request::{Answer, Failure, Status, get};
use super::resource::{Frame, Names, Object, Page, Resource, Unreadable, What, version_of};
use super::timing::{Backoff, Timing};
use crate::source::SourceObserver;

/// Objects per page of a list.
const PAGE: u32 = 500;
/// The longest line of a watch. (An object in etcd has at most 1.5 MB.)
const LINE_BYTES: usize = 64 * 1024 * 1024;
/// Objects that are complained about by name, at the most.
const COMPLAINTS: usize = 1000;

/// What a follower reports to [`super::gather`].
#[derive(Debug)]
pub(super) enum Report {
    /// The complete list, and the identity of the cluster that it is of. What follows is of the same.
    Listed { objects: Vec<Object>, cluster: Option<Arc<str>> },
    /// Changes since.
    Changes(Vec<Change>),
    /// The watch works.
    Working,
    /// It does not.
    Failing(String),
}

/// A report, and the follower it comes from.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) scope: usize,
    pub(super) report: Report,
}

/// Why a step ended early.
enum Stop {
    Failed(Failure),
    /// Nobody receives the reports.
    Deaf,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Where a follower reports to.
pub(super) struct Reports {
    /// Which follower this is.
    pub(super) scope: usize,
    /// To the gatherer.
    pub(super) messages: mpsc::Sender<Message>,
    /// True as soon as all followers of the kind have a list.
    pub(super) complete: watch::Receiver<bool>,
    /// Counts.
    pub(super) observer: Arc<dyn SourceObserver>,
}

/// Follows objects.
pub(super) struct Follower {
    session: Arc<Session>,
    identity: Arc<Identity>,
    resource: Resource,
    namespace: Option<Arc<str>>,
    reports: Reports,
    timing: Timing,
    backoff: Backoff,
    /// The identity of the cluster that the last list was of.
    cluster: Option<Arc<str>>,
    /// Where to go on; `None`: with a list.
    version: Option<String>,
    /// Whether to make sure that the cluster has not gone back in time (an API server restored from a backup).
    doubtful: bool,
    /// Since when the API server is away.
    away: Option<Instant>,
    /// Whether to list without pages: the last list expired between two of them.
    whole: bool,
    patience: Duration,
    names: Names,
    complaints: HashSet<Unreadable>,
}

impl Follower {
    pub(super) fn new(
        (session, identity): (Arc<Session>, Arc<Identity>),
        (resource, namespace): (Resource, Option<Arc<str>>),
        reports: Reports,
        timing: Timing,
    ) -> Self {
        Self {
            session,
            identity,
            resource,
            namespace,
            reports,
            timing,
            backoff: Backoff::new(timing),
            cluster: None,
            version: None,
            doubtful: false,
            away: None,
            whole: false,
            patience: timing.patience,
            names: Names::default(),
            complaints: HashSet::new(),
        }
    }

    /// Goes on until nobody receives the reports.
    pub(super) async fn run(mut self) {
        loop {
            let lease = self.session.client().await;
            let watching = self.version.is_some();
            let step = if watching { self.watch(&lease).await } else { self.list(&lease).await };
            let failure = match step {
                Ok(()) => continue,
                Err(Stop::Deaf) => return,
                Err(Stop::Failed(failure)) => failure,
            };
            self.reports.observer.watch_restarted(self.resource.kind());
            let wait = self.after(&failure, watching, &lease).await;
            let Ok(wait) = wait else { return };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.reports.messages.closed() => return,
            }
        }
    }

    /// Draws the consequences of a failure; how long to wait then.
    async fn after(&mut self, failure: &Failure, watching: bool, lease: &Lease) -> Result<Duration, Stop> {
        let verb = if watching { "watch" } else { "list" };
        tracing::debug!(resource = self.resource.plural(), namespace = ?self.namespace, verb, %failure, "a request failed");
        let asked = if let Failure::Status { retry_after, .. } = failure { *retry_after } else { None };
        let wait = self.backoff.failed(asked);
        let mut text = match (failure.code(), failure) {
            (Some(403), Failure::Status { said, .. }) => {
                explain::forbidden(verb, self.resource, self.namespace.as_deref(), said)
            }
            _ => format!("{failure} ({verb} at {})", self.session.shown()),
        };
        match failure {
            Failure::Status { code: 401, .. } | Failure::Broken { tls: true, .. } => {
                if let Err(error) = self.session.refused(lease).await {
                    text = format!("{text}; loading the credentials again failed: {error}");
                }
            }
            Failure::Silent(_) if !watching => self.patience = (self.patience * 2).min(self.timing.most_patience),
            _ => {}
        }
        let silent = if let Failure::Silent(time) = failure { *time } else { Duration::ZERO };
        let away = self.away.get_or_insert_with(Instant::now).elapsed() + silent;
        let over = failure.code() == Some(410) || matches!(failure, Failure::Unexpected(_)) || away >= self.timing.away;
        if watching && over {
            self.version = None;
        }
        self.doubtful = self.version.is_some();
        // What is over by the next attempt (an API server that restarts, a token that was renewed) is not worth a line; a list
        // that was waited for in vain is.
        if self.backoff.failures() > 1 || (!watching && matches!(failure, Failure::Silent(_))) {
            self.report(Report::Failing(text)).await?;
        }
        Ok(wait)
    }

    async fn report(&self, report: Report) -> Result<(), Stop> {
        let message = Message { scope: self.reports.scope, report };
        self.reports.messages.send(message).await.map_err(|_| Stop::Deaf)
    }

    fn path(&self) -> String {
        self.resource.path(self.namespace.as_deref())
    }

    /// Takes the complete list, and waits until all of the kind are complete.
    async fn list(&mut self, lease: &Lease) -> Result<(), Stop> {
        let cluster = self.identity.read(lease).await?;
        let (mut objects, mut total, mut more) = (Vec::new(), 0, String::new());
        let version = loop {
            let limit = if self.whole { String::new() } else { format!("limit={PAGE}") };
            let path = format!("{}{limit}{more}", self.path());
            let answer = async { get(&lease.client, &path, self.patience, true).await?.page().await };
            let bytes = answer.await.inspect_err(|failure| {
                self.whole = failure.code() == Some(410) && !more.is_empty();
            })?;
            let page: Page = serde_json::from_slice(&bytes).map_err(|e| not_this("a list", &e))?;
            let items = page.items.unwrap_or_default();
            total += items.len();
            for (n, item) in items.into_iter().enumerate() {
                objects.extend(self.read(item.get()));
                if n % 64 == 63 {
                    tokio::task::yield_now().await;
                }
            }
            match page.metadata.more.filter(|token| !token.is_empty()) {
                Some(token) => more = format!("&continue={}", utf8_percent_encode(&token, NON_ALPHANUMERIC)),
                None => break page.metadata.resource_version.filter(|version| !version.is_empty()),
            }
        };
        let version = version.ok_or_else(|| Failure::Unexpected("a list without a resourceVersion".to_owned()))?;
        if self.resource != Resource::EndpointSlices && total > 0 && objects.is_empty() {
            // One that is not valid is its own fault; all of them at once are this list's.
            let text = format!("none of the {total} objects of the list can be read (their warnings say why)");
            return Err(Failure::Unexpected(text).into());
        }
        if self.identity.read(lease).await? != cluster {
            return Err(Failure::Unexpected("another cluster answered while the list came".to_owned()).into());
        }
        (self.whole, self.doubtful, self.away) = (false, false, None);
        self.reports.observer.events(self.resource.kind(), total as u64);
        self.cluster.clone_from(&cluster);
        self.report(Report::Listed { objects, cluster }).await?;
        self.version = Some(version);
        self.reports.complete.wait_for(|complete| *complete).await.map(drop).map_err(|_| Stop::Deaf)
    }

    /// Reads one object. One that is not valid is left out, and told once.
    fn read(&mut self, json: &str) -> Option<Object> {
        self.resource.read(json, &mut self.names).unwrap_or_else(|unreadable| {
            let room = self.complaints.len() < COMPLAINTS;
            if room && !self.complaints.contains(&unreadable) {
                tracing::warn!("{}: {}", unreadable.object, unreadable.reason);
                self.complaints.insert(unreadable);
                if self.complaints.len() == COMPLAINTS {
                    tracing::warn!("{COMPLAINTS} {} are not valid; no more are named", self.resource.plural());
                }
            }
            None
        })
    }

    /// Follows the changes from `self.version` on until the API server ends the watch.
    async fn watch(&mut self, lease: &Lease) -> Result<(), Stop> {
        if self.doubtful && self.went_back(lease).await? {
            tracing::warn!(
                "the API server's {} are older than what LBEX has: it was restored from a backup; listing anew",
                self.resource.plural()
            );
            (self.version, self.doubtful) = (None, false);
            return Ok(());
        }
        let begun = Instant::now();
        let seconds = self.timing.watch.mul_f64(0.9 + fastrand::f64() / 5.0).as_secs().max(1);
        let version = self.version.as_deref().unwrap_or_default();
        let path = format!(
            "{}watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}",
            self.path(),
            utf8_percent_encode(version, NON_ALPHANUMERIC)
        );
        let silence = Duration::from_secs(seconds) + self.timing.grace;
        let mut answer = get(&lease.client, &path, silence, false).await?;
        if self.identity.read(lease).await? != self.cluster {
            // Its versions mean nothing there.
            (self.version, self.doubtful) = (None, false);
            return Ok(());
        }
        self.doubtful = false;
        let mut buffer = BytesMut::new();
        while let Some(part) = self.next_part(&mut answer).await? {
            buffer.extend_from_slice(&part);
            self.lines(&mut buffer).await?;
            if !part.is_empty() {
                self.works();
            }
        }
        if self.backoff.failures() > 0 || begun.elapsed() < self.timing.settled.min(Duration::from_millis(500)) {
            return Err(
                Failure::Broken { text: "the watch ended as soon as it had begun".to_owned(), tls: false }.into()
            );
        }
        self.report(Report::Working).await
    }

    /// The next part of a watch. Reports that the watch works when it has gone on for a while.
    async fn next_part(&mut self, answer: &mut Answer) -> Result<Option<bytes::Bytes>, Stop> {
        tokio::select! {
            part = answer.part() => Ok(part?),
            () = self.reports.messages.closed() => Err(Stop::Deaf),
            () = tokio::time::sleep(self.timing.settled), if self.backoff.failures() > 0 => {
                self.works();
                self.report(Report::Working).await?;
                Ok(Some(bytes::Bytes::new()))
            }
        }
    }

    fn works(&mut self) {
        self.backoff.reset();
        self.away = None;
    }

    /// Takes the complete lines out of `buffer`, and reports what they change.
    async fn lines(&mut self, buffer: &mut BytesMut) -> Result<(), Stop> {
        let mut changes = Vec::new();
        let mut failed = None;
        let mut any = false;
        while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
            let line = buffer.split_to(end + 1);
            any = true;
            if let Err(failure) = self.line(&line, &mut changes) {
                failed = Some(failure);
                break;
            }
        }
        if buffer.len() > LINE_BYTES {
            failed = Some(Failure::Unexpected(format!("a line of the watch is longer than {LINE_BYTES} bytes")));
        }
        if !changes.is_empty() {
            self.reports.observer.events(self.resource.kind(), changes.len() as u64);
            self.report(Report::Changes(changes)).await?;
        } else if any && failed.is_none() {
            self.report(Report::Working).await?;
        }
        failed.map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// Takes one line.
    fn line(&mut self, line: &[u8], changes: &mut Vec<Change>) -> Result<(), Failure> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let frame: Frame = serde_json::from_slice(line).map_err(|e| not_this("an event of a watch", &e))?;
        let json = frame.object.get();
        match frame.what {
            What::Error => {
                let status: Status = serde_json::from_str(json).map_err(|e| not_this("a Status", &e))?;
                // It is about this version, whatever its code is: an API server that cannot go on from there says so again and again.
                self.version = None;
                return Err(status.failure());
            }
            What::Other => return Ok(()),
            What::Added | What::Modified => match self.read(json) {
                Some(object) => changes.push(object.into()),
                // It may have been one that could be used.
                None => changes.extend(self.resource.key(json).map(Change::from)),
            },
            What::Deleted => changes.extend(self.resource.key(json).map(Change::from)),
            What::Bookmark => {}
        }
        let version =
            version_of(json).ok_or_else(|| Failure::Unexpected("an event without a resourceVersion".into()))?;
        self.version = Some(version);
        Ok(())
    }

    /// Whether the cluster is now at a version before the one that was seen last. A watch from there would be silent until the
    /// cluster has caught up, and miss all that happens until then.
    async fn went_back(&self, lease: &Lease) -> Result<bool, Failure> {
        let path = format!("{}limit=1", self.path());
        let bytes = get(&lease.client, &path, self.patience, true).await?.page().await?;
        let page: Page = serde_json::from_slice(&bytes).map_err(|e| not_this("a list", &e))?;
        let number = |text: Option<&str>| text?.parse::<u64>().ok();
        let (now, seen) = (number(page.metadata.resource_version.as_deref()), number(self.version.as_deref()));
        Ok(now.zip(seen).is_some_and(|(now, seen)| now < seen))
    }
}

fn not_this(what: &str, error: &serde_json::Error) -> Failure {
    let place = format!("line {}, column {}", error.line(), error.column());
    Failure::Unexpected(format!(
        "what came is not {what} of the Kubernetes API ({place}); does an API server answer there?"
    ))
}

//! The manifests as a source of the engine, and what is said about them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::load::Loaded;
use super::problem::{FileProblem, ProblemKind, ShownPath};
use super::watch::{Follower, NothingReadable};
use crate::source::{ObjectKind, SourceEvent, SourceHandle, SourceObserver};

/// How often what is wrong with whole files is said again.
const REMIND: Duration = Duration::from_secs(60);
/// Problems logged of one reading; more are only counted.
const MOST_LOGGED: usize = 50;

/// Reads manifests for the first time, then follows them in a task of its own and sends `events`: after every reading the
/// complete lists, and [`SourceEvent::Synced`] after the first. Problems are logged here, each once, as they concern files and
/// no object that the engine knows; files and folders that cannot be read, and the last good state of which goes on being
/// served, again every minute.
///
/// An error: not one file can be read.
pub async fn start(
    paths: &[PathBuf],
    namespaces: &[String],
    observer: Arc<dyn SourceObserver>,
    events: mpsc::Sender<SourceEvent>,
) -> Result<SourceHandle, NothingReadable> {
    let (follower, loaded) = Follower::open(paths, namespaces).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(follow(follower, loaded, observer, events));
    Ok(SourceHandle::new(tasks))
}

async fn follow(
    mut follower: Follower,
    first: Loaded,
    observer: Arc<dyn SourceObserver>,
    events: mpsc::Sender<SourceEvent>,
) {
    let mut report = Report::default();
    let mut next = Some(first);
    let mut synced = false;
    loop {
        if let Some(loaded) = next.take() {
            observe(&*observer, &loaded);
            report.tell(&loaded.problems);
            if events.send(SourceEvent::Changes(loaded.into_changes())).await.is_err() {
                return;
            }
            if !synced && events.send(SourceEvent::Synced).await.is_err() {
                return;
            }
            synced = true;
        }
        tokio::select! {
            loaded = follower.next() => next = Some(loaded),
            () = tokio::time::sleep(REMIND) => {
                report.remind();
                if !report.anything_unreadable() {
                    observer.synced();
                }
            }
            () = events.closed() => return,
        }
    }
}

fn observe(observer: &dyn SourceObserver, loaded: &Loaded) {
    let lists = [
        (ObjectKind::Service, loaded.services.len()),
        (ObjectKind::Node, loaded.nodes.len()),
        (ObjectKind::Endpoints, loaded.endpoints.len()),
    ];
    for (kind, count) in lists {
        observer.events(kind, count as u64);
    }
    observer.connected(!loaded.unreadable());
    if !loaded.unreadable() {
        observer.synced();
    }
}

/// What was said already.
#[derive(Default)]
struct Report {
    told: BTreeSet<FileProblem>,
}

impl Report {
    /// Logs what is new, and which files can be read again.
    fn tell(&mut self, problems: &[FileProblem]) {
        let now: BTreeSet<_> = problems.iter().cloned().collect();
        let new: Vec<_> = now.difference(&self.told).collect();
        for problem in new.iter().take(MOST_LOGGED) {
            match problem.kind {
                ProblemKind::Unreadable | ProblemKind::NotParsed => tracing::error!("manifests: {problem}"),
                _ => tracing::warn!("manifests: {problem}"),
            }
        }
        if new.len() > MOST_LOGGED {
            tracing::warn!("manifests: {} more problems; lbex validate shows them all", new.len() - MOST_LOGGED);
        }
        let still: BTreeSet<_> = now.iter().filter(|p| is_whole(p)).map(|p| &p.path).collect();
        for problem in self.told.iter().filter(|p| is_whole(p) && !still.contains(&p.path)) {
            tracing::info!("manifests: {}: it counts again as it is", ShownPath(&problem.path));
        }
        self.told = now;
    }

    /// Says again what is wrong with whole files.
    fn remind(&self) {
        for problem in self.told.iter().filter(|p| is_whole(p)).take(MOST_LOGGED) {
            tracing::warn!("manifests: still so: {problem}");
        }
    }

    fn anything_unreadable(&self) -> bool {
        self.told.iter().any(|problem| problem.kind == ProblemKind::Unreadable)
    }
}

/// Whether a problem keeps a file or folder from counting as it is now.
fn is_whole(problem: &FileProblem) -> bool {
    matches!(problem.kind, ProblemKind::Unreadable | ProblemKind::NotParsed)
}

#[cfg(test)]
mod tests {
    use lbex_core::snapshot::{Change, Snapshot};

    use super::*;
    use crate::source::Ignore;

    #[tokio::test]
    async fn complete_lists_then_synced_then_every_change() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("a.yaml");
        let service = |name: &str| format!("{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}}}");
        std::fs::write(&file, service("a")).unwrap();
        let (send, mut receive) = mpsc::channel(4);
        let paths = [temp.path().to_path_buf()];
        let mut handle = start(&paths, &[], Arc::new(Ignore), send).await.unwrap();
        let mut snapshot = Snapshot::default();
        let mut take = |event: Option<SourceEvent>| {
            let Some(SourceEvent::Changes(changes)) = event else { panic!("{event:?}") };
            assert!(matches!(
                changes[..],
                [Change::AllNodes(_), Change::AllEndpoints(..), Change::AllEndpoints(..), Change::AllServices(_)]
            ));
            changes.into_iter().for_each(|change| drop(snapshot.apply(change)));
            snapshot.services().map(|s| s.key.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(take(receive.recv().await), ["default/a"]);
        assert!(matches!(receive.recv().await, Some(SourceEvent::Synced)));
        std::fs::write(&file, service("b")).unwrap();
        assert_eq!(take(receive.recv().await), ["default/b"]);
        drop(receive);
        handle.ended().await.unwrap();
    }

    #[test]
    fn problems_are_told_once() {
        let problem = |kind, text: &str| FileProblem {
            path: "a.yaml".into(),
            line: 1,
            column: 1,
            kind,
            object: None,
            text: text.to_owned(),
        };
        let mut report = Report::default();
        report.tell(&[problem(ProblemKind::Unreadable, "x"), problem(ProblemKind::Hint, "y")]);
        assert!(report.anything_unreadable() && report.told.len() == 2);
        report.tell(&[problem(ProblemKind::Hint, "y")]);
        assert!(!report.anything_unreadable() && report.told.len() == 1);
    }
}

//! The one source that the settings name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{SourceError, SourceEvent, SourceHandle, SourceObserver, Waiting, kube, kube::KubeSettings, manifests};
use crate::cli::Failure;
use crate::settings::{Settings, SourceSettings};

/// How many events may wait for the engine; a source that is faster waits.
pub const QUEUE: usize = 64;

/// How often manifests that cannot be read at start are looked for.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is said again that they cannot.
const REMIND: Duration = Duration::from_secs(60);

/// What to do about a source that cannot be reached at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Fail: there is nothing to serve.
    Once,
    /// Try again until it can be reached: the last good state is served meanwhile.
    Forever,
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::cluster(error)
    }
}

/// Contacts the source, once or until it answers, and follows it from then on. Its first events are the complete lists of everything.
///
/// A [`Failure`] has exit code 1 where the cluster cannot be reached or refuses, 2 where manifests cannot be read. Credentials that
/// cannot be loaded are one whatever the persistence.
pub async fn start(
    settings: &Settings,
    persistence: Persistence,
    observer: Arc<dyn SourceObserver>,
    events: mpsc::Sender<SourceEvent>,
) -> Result<SourceHandle, Failure> {
    if let SourceSettings::Manifests(path) = &settings.source {
        return start_manifests(path, &settings.namespaces, persistence, observer, events).await;
    }
    let Some(settings) = KubeSettings::new(settings) else {
        return Err(Failure::usage(anyhow::anyhow!("no source of objects is set")));
    };
    Ok(kube::start(settings, persistence, &observer, events).await?)
}

async fn start_manifests(
    path: &Path,
    namespaces: &[String],
    persistence: Persistence,
    observer: Arc<dyn SourceObserver>,
    events: mpsc::Sender<SourceEvent>,
) -> Result<SourceHandle, Failure> {
    let paths = [path.to_owned()];
    let mut waiting = Waiting::new(REMIND);
    loop {
        match manifests::start(&paths, namespaces, observer.clone(), events.clone()).await {
            Ok(source) => {
                waiting.over();
                return Ok(source);
            }
            Err(error) if persistence == Persistence::Once => return Err(Failure::usage(error)),
            Err(error) => waiting.tell(&error, Instant::now()),
        }
        tokio::time::sleep(LOOK).await;
    }
}

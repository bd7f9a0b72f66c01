//! The one source that the settings name.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{SourceError, SourceEvent, SourceHandle, SourceObserver, kube, kube::KubeSettings, manifests};
use crate::cli::Failure;
use crate::settings::{Settings, SourceSettings};

/// How many events may wait for the engine; a source that is faster waits.
pub const QUEUE: usize = 64;

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::cluster(error)
    }
}

/// Contacts the source, once, and follows it from then on. Its first events are the complete lists of everything.
///
/// A [`Failure`] has exit code 1 where the cluster cannot be reached or refuses, 2 where manifests cannot be read.
pub async fn start(
    settings: &Settings,
    observer: Arc<dyn SourceObserver>,
    events: mpsc::Sender<SourceEvent>,
) -> Result<SourceHandle, Failure> {
    if let SourceSettings::Manifests(path) = &settings.source {
        let path = std::slice::from_ref(path);
        return manifests::start(path, &settings.namespaces, observer, events).await.map_err(Failure::usage);
    }
    let Some(settings) = KubeSettings::new(settings) else {
        return Err(Failure::usage(anyhow::anyhow!("no source of objects is set")));
    };
    Ok(kube::start(settings, &observer, events).await?)
}

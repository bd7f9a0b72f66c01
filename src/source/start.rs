//! The one source that the settings name.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{SourceError, SourceEvent, SourceHandle, SourceObserver, kube, manifests};
use crate::cli::Failure;
use crate::settings::{Settings, SourceSettings};

/// How many events may wait for the engine; a source that is faster waits.
pub const QUEUE: usize = 64;

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::cluster(error)
    }
}

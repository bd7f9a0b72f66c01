//! How LBEX is told to let go what it holds back.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::cli::Failure;

/// Notified by each SIGUSR1.
pub(super) fn on_signal() -> Result<Arc<Notify>, Failure> {
    let mut usr1 = signal(SignalKind::user_defined1())
        .map_err(|e| Failure::usage(anyhow::Error::new(e).context("failed to wait for signals")))?;
    let release = Arc::new(Notify::new());
    let notify = release.clone();
    tokio::spawn(async move {
        while usr1.recv().await.is_some() {
            notify.notify_one();
        }
    });
    Ok(release)
}

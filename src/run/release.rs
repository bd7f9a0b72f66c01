//! How LBEX is told to let go what it holds back.

use std::sync::Arc;

use tokio::signal::unix::SignalKind;
use tokio::sync::Notify;

use super::shutdown::listen;
use crate::cli::Failure;

/// Notified by each SIGUSR1.
pub(super) fn on_signal() -> Result<Arc<Notify>, Failure> {
    let mut usr1 = listen(SignalKind::user_defined1())?;
    let release = Arc::new(Notify::new());
    let notify = release.clone();
    tokio::spawn(async move {
        while usr1.recv().await.is_some() {
            notify.notify_one();
        }
    });
    Ok(release)
}

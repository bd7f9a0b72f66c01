//! How LBEX is told to end.

use std::time::{Duration, Instant};

use lbex_core::backend::ProxyBackend;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::Failure;
use crate::settings::{Settings, StopProxy};

/// A signal that follows another within this time is the same wish: `timeout`, shells and supervisors signal a process and then
/// its whole group, so that it gets both.
pub(super) const SAME_WISH: Duration = Duration::from_secs(1);

/// How long a drain on exit lasts where `--worker-shutdown-timeout` does not say: what is usually left of the time that a
/// container runtime gives (30 s in Kubernetes).
const DRAIN: Duration = Duration::from_secs(20);

/// SIGTERM and SIGINT cancel `stop`; a second one, later than [`SAME_WISH`], ends LBEX at once. SIGHUP does nothing but say so: there is nothing to read again.
pub(super) fn on_signals(stop: &CancellationToken) -> Result<(), Failure> {
    let mut term = listen(SignalKind::terminate())?;
    let mut int = listen(SignalKind::interrupt())?;
    let mut hup = listen(SignalKind::hangup())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut first = None;
        loop {
            let name = tokio::select! {
                _ = term.recv() => "SIGTERM",
                _ = int.recv() => "SIGINT",
                _ = hup.recv() => {
                    tracing::info!("SIGHUP has no effect: settings are read at start, manifests and tokens when they change");
                    continue;
                }
            };
            let first = *first.get_or_insert_with(Instant::now);
            if stop.is_cancelled() {
                if first.elapsed() < SAME_WISH {
                    continue;
                }
                tracing::warn!("{name} again: ending at once; the proxy goes on serving");
                std::process::exit(0);
            }
            tracing::info!("{name}: ending");
            stop.cancel();
        }
    });
    Ok(())
}

/// From now on signals of this kind are waited for.
pub(super) fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|e| Failure::usage(anyhow::Error::new(e).context("failed to wait for signals")))
}

/// Whether the proxy ends with this controller. `auto`: where it is the first process of a container itself, without the supervisor
/// that `lbex` is there.
pub(super) fn stop_proxy(setting: StopProxy) -> bool {
    match setting {
        StopProxy::Yes => true,
        StopProxy::No => false,
        StopProxy::Auto => std::process::id() == 1,
    }
}

/// Drains the proxy and ends it.
pub(super) async fn end_proxy(settings: &Settings, backend: &dyn ProxyBackend) -> Result<(), Failure> {
    let drain = drain(settings);
    tracing::info!("stopping the proxy: no new connections, those that exist may go on for {drain:?}");
    backend.stop(drain).await.map_err(Failure::usage)
}

/// How long connections may go on when the proxy is stopped.
pub(super) fn drain(settings: &Settings) -> Duration {
    settings.nginx.worker_shutdown_timeout.unwrap_or(DRAIN)
}

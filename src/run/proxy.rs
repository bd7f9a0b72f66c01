//! `lbex proxy`: starts NGINX for the controller, so that NGINX belongs to another service than LBEX.

use lbex_backend_nginx::prefix::Prefix;
use lbex_backend_nginx::process::{Nginx, StarterService};
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::shutdown;
use crate::cli::Failure;
use crate::settings::Settings;

/// Starts NGINX whenever it is asked to, until SIGTERM or SIGINT; then drains the NGINX of the prefix. One that runs already stays as
/// it is.
pub(super) async fn proxy(settings: Settings) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    shutdown::on_signals(&stop)?;
    let layout = Prefix::prepare(&settings.nginx.prefix).map_err(Failure::usage)?;
    let nginx = Nginx::new(layout.clone());
    let service = StarterService::bind(layout).await.map_err(Failure::usage)?;
    let prefix = settings.nginx.prefix.display();
    if let Some(master) = nginx.status().await {
        tracing::info!("the NGINX of {prefix} runs (process {})", master.id.pid);
    } else {
        tracing::info!("NGINX is started in {prefix} when LBEX asks for it");
    }
    tell(NotifyState::Ready);
    tokio::select! {
        () = service.serve() => {}
        () = stop.cancelled() => {}
    }
    drop(service);
    tell(NotifyState::Stopping);
    let drain = shutdown::drain(&settings);
    tracing::info!("stopping NGINX: no new connections, those that exist may go on for {drain:?}");
    let stopped = nginx.stop(drain).await.map_err(Failure::usage)?;
    tracing::info!(?stopped, "NGINX stopped");
    Ok(())
}

/// Tells the supervisor, if there is one.
fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("failed to tell the supervisor: {error}");
    }
}

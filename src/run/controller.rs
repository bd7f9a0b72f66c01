//! `lbex [FLAGS]`: the controller.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lbex_core::backend::ProxyBackend;
use lbex_core::model::Protocol;
use lbex_core::planner::Planner;
use lbex_core::settings::Reserved;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::release;
use super::shutdown::{self, stop_proxy};
use crate::admin::{AdminServers, HealthState};
use crate::cli::{COMMIT, Failure};
use crate::engine::{Ended, Engine, Pace, Removals};
use crate::host;
use crate::publish::{BuildInfo, Metrics};
use crate::settings::Settings;
use crate::source;

/// Opens a backend, given the settings.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<Arc<dyn ProxyBackend>, Failure>> + Send + 'a>>;

/// How long a drain on exit lasts where `--worker-shutdown-timeout` does not say: what is usually left of the time that a
/// container runtime gives (30 s in Kubernetes).
const DRAIN: Duration = Duration::from_secs(20);

/// Runs the controller with the backend that `open` opens, until SIGTERM or SIGINT. Its own ports are bound first, the backend is
/// opened next (both: exit code 2), then the source is contacted (exit code 1); only then is anything changed.
pub async fn controller(
    settings: Settings,
    open: impl for<'a> FnOnce(&'a Settings) -> Opening<'a>,
) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    shutdown::on_signals(&stop)?;
    let release = release::on_signal()?;
    let admin = AdminServers::bind(&settings.admin).map_err(Failure::usage)?;
    let backend = tokio::select! {
        opened = open(&settings) => opened?,
        () = stop.cancelled() => return Ok(()),
    };
    let capabilities = backend.capabilities();
    tracing::info!("LBEX {} with {}", env!("CARGO_PKG_VERSION"), capabilities.description);

    let metrics = Arc::new(Metrics::new(&BuildInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: COMMIT.unwrap_or("unknown").to_owned(),
        backend: capabilities.description.clone(),
    }));
    let mut planning = settings.planning.clone();
    planning.reserved.extend(reserved(&admin));
    let health = Arc::new(HealthState::new());
    let serving = admin.serve(health.clone(), metrics.clone(), stop.clone()).map_err(Failure::usage)?;

    let (sender, receiver) = mpsc::channel(source::QUEUE);
    let starting = source::start(&settings, metrics.clone(), sender);
    let mut source = tokio::select! {
        started = starting => started?,
        () = stop.cancelled() => return Ok(()),
    };
    let engine = Engine {
        planner: Planner::new(super::rules(planning, &settings.selection, capabilities)),
        removals: Removals::new(settings.mass_removal_hold, release, metrics.clone()),
        source: receiver,
        host: host::follow(),
        backend: backend.clone(),
        pace: Pace { reload_interval: settings.reload_interval },
        health,
        metrics,
    };
    let ended = tokio::select! {
        ended = engine.run(stop.clone()) => ended,
        ended = source.ended() => {
            tracing::error!("the source of objects has ended: {ended:?}");
            Ended::SourceEnded
        }
    };
    if ended != Ended::Stopped {
        // A defect. The supervisor starts LBEX again; the proxy serves on.
        return Err(Failure::cluster(anyhow::anyhow!("LBEX ends because a part of it did: {ended:?}")));
    }
    if stop_proxy(settings.stop_proxy_on_exit) {
        let drain = settings.nginx.worker_shutdown_timeout.unwrap_or(DRAIN);
        tracing::info!("stopping the proxy: no new connections, those that exist may go on for {drain:?}");
        backend.stop(drain).await.map_err(Failure::usage)?;
    } else {
        tracing::info!("the proxy goes on serving");
    }
    serving.ended().await;
    Ok(())
}

/// The ports that LBEX itself has bound, also where it took any free one.
fn reserved(admin: &AdminServers) -> Vec<Reserved> {
    let reserve = |what| move |address| Reserved { protocol: Protocol::Tcp, address, what };
    let health = admin.health_addresses().into_iter().map(reserve("health"));
    health.chain(admin.metrics_address().map(reserve("metrics"))).collect()
}

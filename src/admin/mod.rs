//! What LBEX tells the world about itself over HTTP (contract section 6): health on one set of addresses, Prometheus
//! metrics on an address of their own.
//!
//! Both are served by a thread with a small runtime of its own, so that neither a long plan nor a stuck engine can keep
//! an answer back; they read a [`HealthState`] and the [`Metrics`], which the engine writes.

mod bind;
mod health;
mod holder;
mod routes;
mod server;
#[cfg(test)]
mod tests;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use tokio_util::sync::CancellationToken;

pub use bind::AdminError;
pub use health::{HealthState, Verdict};

use crate::publish::Metrics;
use routes::Routes;
use server::Limits;

/// Where health and metrics are served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminSettings {
    /// `--health-address` with `--health-port`: every address that the health endpoint binds. Default `0.0.0.0:7331` and
    /// `[::]:7331`; empty with `--health-check=false`. Port 0: any free port, the same at every address.
    pub health: Vec<SocketAddr>,
    /// `--metrics-address`. Default `127.0.0.1:7332`; `None` with `off`. Port 0: any free port.
    pub metrics: Option<SocketAddr>,
}

/// The sockets of health and metrics: bound and listening, not yet answering.
#[derive(Debug)]
pub struct AdminServers {
    health: Vec<TcpListener>,
    metrics: Option<TcpListener>,
}

impl AdminServers {
    /// Binds every socket. To be called before anything else is touched: a port that is taken ends LBEX (exit code 2).
    ///
    /// An unspecified IPv6 address on a host without IPv6 is left out where another health address could be bound.
    pub fn bind(settings: &AdminSettings) -> Result<Self, AdminError> {
        let health = bind::health(&settings.health)?;
        let metrics = settings.metrics.map(bind::metrics).transpose()?;
        Ok(Self { health, metrics })
    }

    /// Where the health endpoint listens, ports filled in.
    pub fn health_addresses(&self) -> Vec<SocketAddr> {
        self.health.iter().filter_map(|l| l.local_addr().ok()).collect()
    }

    /// Where the metrics endpoint listens, port filled in.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|l| l.local_addr().ok())
    }

    /// Starts to answer, until `shutdown` is cancelled. Requests that are being answered then have a second to end.
    pub fn serve(
        self,
        state: Arc<HealthState>,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Result<Serving, AdminError> {
        self.serve_within(Limits::default(), state, metrics, shutdown)
    }

    fn serve_within(
        self,
        limits: Limits,
        state: Arc<HealthState>,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Result<Serving, AdminError> {
        let health_routes = Routes::Health(state);
        let metrics_routes = Routes::Metrics(metrics.clone());
        let servers = self.health.into_iter().map(|l| (l, health_routes.clone()));
        let servers: Vec<_> = servers.chain(self.metrics.map(|l| (l, metrics_routes))).collect();

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AdminError::Start)?;
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let run = move || {
            let _end = end;
            runtime.block_on(server::serve_all(servers, limits, metrics, shutdown));
        };
        thread::Builder::new().name("lbex-admin".to_owned()).spawn(run).map_err(AdminError::Start)?;
        Ok(Serving(ended))
    }
}

/// Health and metrics being served. Dropping it ends nothing.
#[derive(Debug)]
pub struct Serving(CancellationToken);

impl Serving {
    /// Waits until the servers have ended, which they do when their shutdown token is cancelled.
    pub async fn ended(&self) {
        self.0.cancelled().await;
    }
}

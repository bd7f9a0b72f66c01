//! Backends by name: what this build has, and what a third party's binary adds.

use std::sync::Arc;

use lbex_core::backend::ProxyBackend;

use crate::cli::Failure;
use crate::settings::Settings;
use crate::supervisor::KeptSockets;

/// Opens the backend that the settings name: finds what it needs, and touches nothing that is running. A [`Failure`] of kind usage
/// (exit code 2) says what is missing. `kept`: what the supervisor has kept of an earlier LBEX, and is to keep of this one.
pub async fn open(settings: &Settings, kept: KeptSockets) -> Result<Arc<dyn ProxyBackend>, Failure> {
    #[cfg(feature = "backend-nginx")]
    {
        let options = lbex_backend_nginx::NginxOptions {
            choice: settings.nginx.choice.clone(),
            prefix: settings.nginx.prefix.clone(),
            worker_shutdown_timeout: settings.nginx.worker_shutdown_timeout,
            endpoint_updates: settings.nginx.endpoint_updates,
            starter: settings.nginx.starter,
            socket_keeper: Some(Arc::new(kept)),
        };
        let backend = lbex_backend_nginx::NginxBackend::open(options).await.map_err(Failure::usage)?;
        Ok(Arc::new(backend))
    }
    #[cfg(not(feature = "backend-nginx"))]
    {
        let _ = (settings, kept);
        Err(Failure::usage(anyhow::anyhow!("this build of LBEX has no backend")))
    }
}

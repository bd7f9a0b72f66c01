//! Backends by name: what this build has, and what a third party's binary adds.

use std::sync::Arc;

use lbex_core::backend::ProxyBackend;

use crate::cli::Failure;
use crate::settings::Settings;

/// Opens the backend that the settings name: finds what it needs, and touches nothing that is running. A [`Failure`] of kind usage
/// (exit code 2) says what is missing.
pub async fn open(settings: &Settings) -> Result<Arc<dyn ProxyBackend>, Failure> {
    #[cfg(feature = "backend-nginx")]
    {
        let options = lbex_backend_nginx::NginxOptions {
            choice: settings.nginx.choice.clone(),
            prefix: settings.nginx.prefix.clone(),
            worker_shutdown_timeout: settings.nginx.worker_shutdown_timeout,
            endpoint_updates: settings.nginx.endpoint_updates,
        };
        let backend = lbex_backend_nginx::NginxBackend::open(options).await.map_err(Failure::usage)?;
        Ok(Arc::new(backend))
    }
    #[cfg(not(feature = "backend-nginx"))]
    {
        let _ = settings;
        Err(Failure::usage(anyhow::anyhow!("this build of LBEX has no backend")))
    }
}

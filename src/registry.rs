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
        use crate::settings::BackendSettings;
        match &settings.backend {
            BackendSettings::Nginx => {
                let backend = lbex_backend_nginx::NginxBackend::open(nginx(settings, Some(kept))).await;
                Ok(Arc::new(backend.map_err(Failure::usage)?))
            }
            #[cfg(feature = "backend-nginx-plus")]
            BackendSettings::NginxPlus(plus) => plus::open(settings, plus).await,
        }
    }
    #[cfg(not(feature = "backend-nginx"))]
    {
        let _ = (settings, kept);
        Err(Failure::usage(anyhow::anyhow!("this build of LBEX has no backend")))
    }
}

#[cfg(feature = "backend-nginx")]
fn nginx(settings: &Settings, kept: Option<KeptSockets>) -> lbex_backend_nginx::NginxOptions {
    lbex_backend_nginx::NginxOptions {
        choice: settings.nginx.choice.clone(),
        prefix: settings.nginx.prefix.clone(),
        worker_shutdown_timeout: settings.nginx.worker_shutdown_timeout,
        endpoint_updates: settings.nginx.endpoint_updates,
        socket_keeper: kept.map(|kept| Arc::new(kept) as _),
    }
}

#[cfg(feature = "backend-nginx-plus")]
mod plus {
    use lbex_backend_nginx_plus::{LocalBackend, Pace, RemoteBackend, RemoteOptions};

    use super::{Arc, Failure, ProxyBackend, Settings, nginx};
    use crate::settings::PlusSettings;

    pub(super) async fn open(settings: &Settings, plus: &PlusSettings) -> Result<Arc<dyn ProxyBackend>, Failure> {
        let pace = Pace { drain: plus.drain, ..Pace::default() };
        if plus.apis.is_empty() {
            let backend = LocalBackend::open(nginx(settings, None), pace).await.map_err(Failure::usage)?;
            return Ok(Arc::new(backend));
        }
        let PlusSettings { apis, files, .. } = plus.clone();
        let options = RemoteOptions { apis, files, pace, prefix: settings.nginx.prefix.clone() };
        Ok(Arc::new(RemoteBackend::open(options).await.map_err(Failure::usage)?))
    }
}

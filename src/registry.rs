//! Backends by name: what this build has, and what a third party's binary adds.

use std::sync::Arc;

use lbex_core::backend::{Capabilities, ProxyBackend};

use crate::cli::Failure;
use crate::settings::{BackendSettings, PluginSettings, Settings};
use crate::supervisor::KeptSockets;

/// Opens the backend that the settings name: finds what it needs, and touches nothing that is running. A [`Failure`] of kind usage
/// (exit code 2) says what is missing. `kept`: what the supervisor has kept of an earlier LBEX, and is to keep of this one.
pub async fn open(settings: &Settings, kept: KeptSockets) -> Result<Arc<dyn ProxyBackend>, Failure> {
    match &settings.backend {
        BackendSettings::Nginx => nginx(settings, kept).await,
        #[cfg(feature = "backend-nginx-plus")]
        BackendSettings::NginxPlus(plus) => plus::open(settings, plus).await,
        BackendSettings::Plugin(chosen) => plugin(settings, chosen).await,
    }
}

#[cfg(feature = "backend-nginx")]
async fn nginx(settings: &Settings, kept: KeptSockets) -> Result<Arc<dyn ProxyBackend>, Failure> {
    let options = nginx_options(settings, Some(kept));
    let backend = lbex_backend_nginx::NginxBackend::open(options).await.map_err(Failure::usage)?;
    Ok(Arc::new(backend))
}

#[cfg(feature = "backend-nginx")]
fn nginx_options(settings: &Settings, kept: Option<KeptSockets>) -> lbex_backend_nginx::NginxOptions {
    lbex_backend_nginx::NginxOptions {
        choice: settings.nginx.choice.clone(),
        prefix: settings.nginx.prefix.clone(),
        worker_shutdown_timeout: settings.nginx.worker_shutdown_timeout,
        endpoint_updates: settings.nginx.endpoint_updates,
        starter: settings.nginx.starter,
        socket_keeper: kept.map(|kept| Arc::new(kept) as _),
    }
}

#[cfg(feature = "backend-nginx-plus")]
mod plus {
    use lbex_backend_nginx_plus::{LocalBackend, Pace, RemoteBackend, RemoteOptions};

    use super::{Arc, Failure, ProxyBackend, Settings, nginx_options};
    use crate::settings::PlusSettings;

    pub(super) async fn open(settings: &Settings, plus: &PlusSettings) -> Result<Arc<dyn ProxyBackend>, Failure> {
        let pace = Pace { drain: plus.drain, ..Pace::default() };
        if plus.apis.is_empty() {
            let backend = LocalBackend::open(nginx_options(settings, None), pace).await.map_err(Failure::usage)?;
            return Ok(Arc::new(backend));
        }
        let PlusSettings { apis, files, .. } = plus.clone();
        let options = RemoteOptions { apis, files, pace, prefix: settings.nginx.prefix.clone() };
        Ok(Arc::new(RemoteBackend::open(options).await.map_err(Failure::usage)?))
    }
}

#[cfg(feature = "plugins")]
async fn plugin(settings: &Settings, chosen: &PluginSettings) -> Result<Arc<dyn ProxyBackend>, Failure> {
    use crate::plugin::{Deadlines, PluginBackend, PluginOptions};

    let options = PluginOptions {
        library: library(chosen)?,
        prefix: settings.nginx.prefix.clone(),
        config: chosen.config.clone(),
        shutdown_timeout: settings.nginx.worker_shutdown_timeout,
        deadlines: Deadlines::default(),
    };
    let backend = PluginBackend::open(options).await.map_err(Failure::usage)?;
    tracing::info!("the backend is the plugin {}", backend.info());
    Ok(Arc::new(backend))
}

/// What the plugin can do, as far as it knows without being opened. Loads it.
#[cfg(feature = "plugins")]
pub(crate) async fn plugin_capabilities(chosen: &PluginSettings) -> Result<Capabilities, Failure> {
    use crate::plugin::{Deadlines, PluginBackend};

    let limit = Deadlines::default().open;
    let info = PluginBackend::look_at(&library(chosen)?, limit).await.map_err(Failure::usage)?;
    Ok(info.to_core(&info.capabilities))
}

#[cfg(feature = "plugins")]
fn library(chosen: &PluginSettings) -> Result<std::path::PathBuf, Failure> {
    use crate::settings::PluginLibrary;

    match &chosen.library {
        PluginLibrary::Path(path) => Ok(path.clone()),
        PluginLibrary::Name(name, dirs) => crate::plugin::find::by_name(name, dirs).map_err(Failure::usage),
    }
}

#[cfg(not(feature = "plugins"))]
#[allow(clippy::unused_async)]
pub(crate) async fn plugin_capabilities(_: &PluginSettings) -> Result<Capabilities, Failure> {
    Err(Failure::usage(anyhow::anyhow!("this build of LBEX loads no plugins")))
}

#[cfg(not(feature = "backend-nginx"))]
#[allow(clippy::unused_async)]
async fn nginx(_: &Settings, _: KeptSockets) -> Result<Arc<dyn ProxyBackend>, Failure> {
    Err(Failure::usage(anyhow::anyhow!("this build of LBEX is without the backend nginx")))
}

#[cfg(not(feature = "plugins"))]
#[allow(clippy::unused_async)]
async fn plugin(_: &Settings, _: &PluginSettings) -> Result<Arc<dyn ProxyBackend>, Failure> {
    Err(Failure::usage(anyhow::anyhow!("this build of LBEX loads no plugins")))
}

//! A shared library.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use lbex_core::backend::{Capabilities, ProxyBackend};

use super::{Offer, Writer};
use crate::cli::Failure;
use crate::plugin::{PluginBackend, PluginOptions, find};
use crate::settings::{NginxSettings, PluginLibrary, PluginSettings, Settings};
use crate::supervisor::KeptSockets;

#[async_trait]
impl Offer for PluginSettings {
    fn name(&self) -> &'static str {
        "a plugin"
    }

    fn at_least(&self) -> Capabilities {
        Capabilities { description: "a plugin".to_owned(), ..Capabilities::default() }
    }

    /// What it says of itself without being opened. Loads it.
    async fn capabilities(&self, _: &NginxSettings) -> Result<Capabilities, Failure> {
        let info = PluginBackend::look_at(&library(self)?, self.deadlines.open).await.map_err(Failure::usage)?;
        Ok(info.to_core(&info.capabilities))
    }

    async fn open(&self, settings: &Settings, _: KeptSockets) -> Result<Arc<dyn ProxyBackend>, Failure> {
        let options = PluginOptions {
            library: library(self)?,
            prefix: settings.nginx.prefix.clone(),
            config: self.config.clone(),
            shutdown_timeout: settings.nginx.worker_shutdown_timeout,
            deadlines: self.deadlines,
        };
        let backend = PluginBackend::open(options).await.map_err(Failure::usage)?;
        tracing::info!("the backend is the plugin {}", backend.info());
        Ok(Arc::new(backend))
    }

    async fn writer(&self, _: &Settings) -> Result<Writer, Failure> {
        Err(Failure::usage(anyhow::anyhow!(
            "a plugin says to nobody what it would write: only the backends nginx and nginx-plus can be rendered"
        )))
    }
}

fn library(plugin: &PluginSettings) -> Result<PathBuf, Failure> {
    match &plugin.library {
        PluginLibrary::Path(path) => Ok(path.clone()),
        PluginLibrary::Name(name, dirs) => find::by_name(name, dirs).map_err(Failure::usage),
    }
}

//! `nginx-plus`.

use std::sync::Arc;

use async_trait::async_trait;
use lbex_backend_nginx::find_plus;
use lbex_backend_nginx_plus::{LocalBackend, Pace, RemoteBackend, RemoteOptions};
use lbex_core::backend::{Capabilities, ProxyBackend};

use super::{Offer, Writer, nginx};
use crate::cli::Failure;
use crate::settings::{NginxSettings, PlusSettings, Settings};
use crate::supervisor::KeptSockets;

#[async_trait]
impl Offer for PlusSettings {
    fn name(&self) -> &'static str {
        "nginx-plus"
    }

    fn about(&self) -> &'static str {
        "on this host, or elsewhere: --nginx-plus-api"
    }

    fn at_least(&self) -> Capabilities {
        lbex_backend_nginx_plus::capabilities(!self.apis.is_empty())
    }

    async fn capabilities(&self, nginx: &NginxSettings) -> Result<Capabilities, Failure> {
        if !self.apis.is_empty() {
            return Ok(self.at_least());
        }
        let candidate = find_plus(&nginx.choice).await.map_err(Failure::usage)?;
        let description = lbex_backend_nginx::capabilities(&candidate).description;
        Ok(Capabilities { description, ..self.at_least() })
    }

    async fn open(&self, settings: &Settings, _: KeptSockets) -> Result<Arc<dyn ProxyBackend>, Failure> {
        let pace = Pace { drain: self.drain, ..Pace::default() };
        if self.apis.is_empty() {
            let backend = LocalBackend::open(nginx::options(settings, None), pace).await.map_err(Failure::usage)?;
            return Ok(Arc::new(backend));
        }
        let Self { apis, files, .. } = self.clone();
        let options = RemoteOptions { apis, files, pace, prefix: settings.nginx.prefix.clone() };
        Ok(Arc::new(RemoteBackend::open(options).await.map_err(Failure::usage)?))
    }

    async fn writer(&self, settings: &Settings) -> Result<Writer, Failure> {
        if !self.apis.is_empty() {
            return Err(Failure::usage(anyhow::anyhow!(
                "with --nginx-plus-api LBEX writes no configuration: there is nothing to render"
            )));
        }
        let candidate = find_plus(&settings.nginx.choice).await.map_err(Failure::usage)?;
        Ok(nginx::writer(settings, candidate, lbex_backend_nginx::render_plus))
    }
}

//! `nginx`.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

use async_trait::async_trait;
use lbex_backend_nginx::binary::{Candidate, find};
use lbex_backend_nginx::{LeftSockets, NginxBackend, NginxOptions, Render, RenderOptions, SocketKeeper};
use lbex_core::backend::{Capabilities, ProxyBackend};

use super::{Offer, Writer};
use crate::cli::Failure;
use crate::settings::{NginxSettings, Settings};
use crate::supervisor::KeptSockets;

/// The open-source NGINX.
pub(super) struct Nginx;

#[async_trait]
impl Offer for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn with_version(&self) -> String {
        match lbex_backend_nginx::embedded::embedded() {
            Some(nginx) => format!("nginx (with NGINX {} inside this binary)", nginx.version),
            None => "nginx (uses an NGINX of the system)".to_owned(),
        }
    }

    fn at_least(&self) -> Capabilities {
        Capabilities { description: "an open-source NGINX".to_owned(), ..Capabilities::default() }
    }

    async fn capabilities(&self, nginx: &NginxSettings) -> Result<Capabilities, Failure> {
        let candidate = find(&nginx.choice).await.map_err(Failure::usage)?;
        Ok(lbex_backend_nginx::capabilities(&candidate))
    }

    async fn open(&self, settings: &Settings, kept: KeptSockets) -> Result<Arc<dyn ProxyBackend>, Failure> {
        let backend = NginxBackend::open(options(settings, Some(kept))).await.map_err(Failure::usage)?;
        Ok(Arc::new(backend))
    }

    async fn writer(&self, settings: &Settings) -> Result<Writer, Failure> {
        let candidate = find(&settings.nginx.choice).await.map_err(Failure::usage)?;
        Ok(writer(settings, candidate, lbex_backend_nginx::render_only))
    }
}

/// How an NGINX is opened.
pub(super) fn options(settings: &Settings, kept: Option<KeptSockets>) -> NginxOptions {
    NginxOptions {
        choice: settings.nginx.choice.clone(),
        prefix: settings.nginx.prefix.clone(),
        worker_shutdown_timeout: settings.nginx.worker_shutdown_timeout,
        endpoint_updates: settings.nginx.endpoint_updates,
        starter: settings.nginx.starter,
        socket_keeper: kept.map(|kept| Arc::new(Keeper(kept)) as _),
    }
}

/// The supervisor keeps the sockets on which NGINX asks for endpoints.
#[derive(Debug)]
struct Keeper(KeptSockets);

impl SocketKeeper for Keeper {
    fn take(&self) -> Option<LeftSockets> {
        self.0.take().map(|(udp, tcp)| LeftSockets { udp, tcp })
    }

    fn keep(&self, udp: &UdpSocket, tcp: &TcpListener) -> io::Result<()> {
        self.0.keep(udp, tcp)
    }

    fn forget(&self) -> io::Result<()> {
        self.0.forget()
    }
}

/// Writes for `candidate` by `render`.
pub(super) fn writer(settings: &Settings, candidate: Candidate, render: Render) -> Writer {
    let capabilities = lbex_backend_nginx::capabilities(&candidate);
    let options = RenderOptions {
        candidate,
        prefix: settings.nginx.prefix.clone(),
        worker_shutdown_timeout: settings.nginx.worker_shutdown_timeout,
        endpoint_updates: settings.nginx.endpoint_updates,
    };
    Writer { capabilities, write: Box::new(move |desired| render(desired, &options).map_err(Failure::usage)) }
}

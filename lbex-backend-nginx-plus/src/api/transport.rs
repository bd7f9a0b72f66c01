//! Connections to an API: TCP, TLS or a UNIX socket.

use std::error::Error as _;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::UnixStream;
use tower::Service;

use super::ApiUrl;

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(3);

/// How long a connection that nobody uses is kept: less than the 75 s of NGINX.
const IDLE: Duration = Duration::from_secs(30);

/// How many of those.
const MOST_IDLE: usize = 16;

/// Sends requests.
#[derive(Debug)]
pub(super) enum Transport {
    Tcp(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
    Plain(Client<HttpConnector, Full<Bytes>>),
    Unix(Client<UnixConnector, Full<Bytes>>),
}

impl Transport {
    /// `tls`: how, where the URL is HTTPS.
    pub(super) fn new(url: &ApiUrl, tls: Option<Arc<ClientConfig>>) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE).pool_max_idle_per_host(MOST_IDLE).pool_timer(TokioTimer::new());
        if let Some(socket) = url.socket() {
            return Self::Unix(builder.build(UnixConnector(socket.clone())));
        }
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        match tls {
            None => Self::Plain(builder.build(connector)),
            Some(tls) => {
                let https = HttpsConnectorBuilder::new().with_tls_config(tls.as_ref().clone()).https_only();
                Self::Tcp(builder.build(https.enable_http1().wrap_connector(connector)))
            }
        }
    }

    /// The answer; an error in words, on one line.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        let sent = match self {
            Self::Tcp(client) => client.request(request).await,
            Self::Plain(client) => client.request(request).await,
            Self::Unix(client) => client.request(request).await,
        };
        sent.map_err(|error| words(&error))
    }
}

/// An error with its causes: that of hyper says next to nothing by itself.
fn words(error: &legacy::Error) -> String {
    let mut text = if error.is_connect() { "cannot connect".to_owned() } else { "the connection broke".to_owned() };
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Connects to a UNIX socket, whatever the URL.
#[derive(Debug, Clone)]
pub(super) struct UnixConnector(PathBuf);

impl Service<Uri> for UnixConnector {
    type Response = UnixConnection;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<UnixConnection, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { Ok(UnixConnection(TokioIo::new(UnixStream::connect(path).await?))) })
    }
}

/// A connection to a UNIX socket.
#[derive(Debug)]
pub(super) struct UnixConnection(TokioIo<UnixStream>);

impl Connection for UnixConnection {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for UnixConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for UnixConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

//! Builds the HTTP client.
//!
//! Not by `kube::Client::try_from`, for what that does not have: TCP keepalive, a time limit for connecting that is short, a
//! proxy with a certificate of its own; and for what it has: retries of its own for up to hours, and a log line with each
//! failure, where LBEX tells a failure once.

use std::time::Duration;

use ::kube::client::{Body, ConfigExt};
use ::kube::{Client, Config, Error};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use hyper::rt::{Read, Write};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_http::decompression::DecompressionLayer;

use super::unverified;

/// How long making a TCP connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// After so much silence the kernel asks whether the other end is still there, three times.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How long sent data may stay unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(45);
/// How long a connection that nobody uses is kept. Short: who knows what became of it.
const IDLE: Duration = Duration::from_secs(10);

/// What went wrong went wrong between LBEX and the proxy, not between LBEX and the API server.
#[derive(Debug, thiserror::Error)]
#[error("the proxy")]
pub(in crate::source::kube) struct OfProxy(#[source] BoxError);

/// A client for `config`, through the proxy `via` if given (a URL that [`super::environment::parse`] made).
pub(super) fn build(config: &Config, via: Option<&Uri>) -> Result<Client, Error> {
    let Some(proxy) = via else { return stack(config, connector()) };
    let user = proxy.authority().and_then(|a| a.as_str().rsplit_once('@')).map(|(user, _)| user);
    match proxy.scheme_str() {
        Some("socks5") => {
            let mut socks = SocksV5::new(without_user(proxy), connector());
            if let Some((name, password)) = user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
                socks = socks.with_auth(decoded(name), decoded(password));
            }
            stack(config, socks)
        }
        Some("https") => {
            // The proxy's certificate is checked against the host's authorities: the cluster's know nothing of it.
            let tls = Config::new(proxy.clone()).rustls_https_connector_with_connector(connector())?;
            let tls = tls.map_err(OfProxy as fn(BoxError) -> OfProxy);
            stack(config, authenticated(Tunnel::new(without_user(proxy), tls), user))
        }
        _ => stack(config, authenticated(Tunnel::new(without_user(proxy), connector()), user)),
    }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_LIMIT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE));
    connector.set_keepalive_retries(Some(3));
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    connector
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn authenticated<C>(tunnel: Tunnel<C>, user: Option<&str>) -> Tunnel<C> {
    let Some(user) = user else { return tunnel };
    // Base64 is always a valid header value.
    match HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(decoded(user)))) {
        Ok(value) => tunnel.with_auth(value),
        Err(_) => tunnel,
    }
}

fn without_user(proxy: &Uri) -> Uri {
    let host = proxy.authority().map(|a| a.as_str().rsplit_once('@').map_or(a.as_str(), |(_, host)| host));
    let text = format!("{}://{}/", proxy.scheme_str().unwrap_or("http"), host.unwrap_or_default());
    text.parse().unwrap_or_else(|_| proxy.clone())
}

fn stack<C>(config: &Config, connector: C) -> Result<Client, Error>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    let tls = if config.accept_invalid_certs {
        unverified::connector(config, connector)?
    } else {
        config.rustls_https_connector_with_connector(connector)?
    };
    let http = legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(4)
        .pool_timer(TokioTimer::new())
        .build::<_, Body>(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(DecompressionLayer::new().gzip(!config.disable_compression))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}

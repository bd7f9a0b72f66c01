//! The API over HTTP: on TCP, on a UNIX socket, over TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::access::Place;
use crate::api::{self, Answer};
use crate::calls::Call;
use crate::control;
use crate::faults::Fault;
use crate::shared::Shared;

/// The largest body that is read, in bytes.
const MOST_BODY: usize = 64 * 1024;

/// How long a port is tried that somebody else seems to have.
const LET_GO: Duration = Duration::from_secs(5);

/// A page for people, as NGINX makes them.
fn page(status: u16, title: &str) -> Response<Full<Bytes>> {
    let text = format!("<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body>\r\n</html>\r\n");
    response(status, "text/html", text)
}

fn response(status: u16, kind: &str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    if let Ok(kind) = kind.parse() {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}

/// Binds a port, which a program that this process starts may still have until it is executed.
async fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let begin = Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && begin.elapsed() < LET_GO => {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            result => return result,
        }
    }
}

/// A listening socket.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds a place. A UNIX socket that an earlier one left is replaced.
    pub(crate) async fn bind(place: &Place) -> Result<Self> {
        match place {
            Place::Tcp(port) => {
                let address = Place::loopback(*port);
                let listener = bind_tcp(address).await;
                Ok(Self::Tcp(listener.with_context(|| format!("failed to listen on {address}"))?))
            }
            Place::Unix(path) => {
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| format!("failed to remove {}", path.display()));
                    }
                    _ => {}
                }
                let listener = UnixListener::bind(path);
                Ok(Self::Unix(listener.with_context(|| format!("failed to listen on {}", path.display()))?))
            }
        }
    }

    /// Accepts until it is dropped, and every connection with it.
    pub(crate) async fn serve(self, shared: Arc<Shared>, tls: Option<Arc<ServerConfig>>) {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let stream: Box<dyn Stream> = match &self {
                Self::Tcp(listener) => match listener.accept().await {
                    Ok((stream, _)) => Box::new(stream),
                    Err(_) => continue,
                },
                Self::Unix(listener) => match listener.accept().await {
                    Ok((stream, _)) => Box::new(stream),
                    Err(_) => continue,
                },
            };
            let (shared, tls) = (shared.clone(), tls.clone());
            connections.spawn(async move {
                match tls {
                    // A client may not like the certificate, or have none itself.
                    Some(config) => {
                        if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                            connection(stream, shared).await;
                        }
                    }
                    None => connection(stream, shared).await,
                }
            });
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn connection(stream: impl Stream + 'static, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { call(&shared, request).await }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).half_close(true);
    // A client may go away at any time, and a fault may be that the connection breaks.
    builder.serve_connection(TokioIo::new(stream), service).await.ok();
}

/// The connection is to break.
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("dropped as told")
    }
}

impl std::error::Error for Broken {}

/// Counts a call in progress for as long as it lives.
struct InProgress<'a>(&'a Shared);

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn call(shared: &Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Broken> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MOST_BODY).collect().await.ok().map(http_body_util::Collected::to_bytes);
    if shared.control
        && let Some((status, text)) =
            control::answer(shared, &head.method, head.uri.path(), body.as_deref().unwrap_or_default())
    {
        return Ok(response(status.as_u16(), "application/json", text));
    }
    let header = |name| head.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let in_progress = shared.in_progress.fetch_add(1, Ordering::SeqCst) + 1;
    let _counted = InProgress(shared);
    let call = Call {
        at: Instant::now(),
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        body: String::from_utf8_lossy(body.as_deref().unwrap_or_default()).into_owned(),
        authorization: header(AUTHORIZATION).map(ToOwned::to_owned),
        in_progress,
        fault: None,
        status: None,
    };
    let (number, fault) = shared.came(call.clone());
    let result = if shared.lets_in(call.authorization.as_deref()) {
        with_fault(shared, &call, body.as_deref(), number, fault).await
    } else {
        let mut refusal = page(401, "401 Authorization Required");
        refusal.headers_mut().insert(WWW_AUTHENTICATE, http::HeaderValue::from_static("Basic realm=\"API\""));
        Ok(refusal)
    };
    if let Ok(response) = &result {
        shared.answered(number, response.status().as_u16());
    }
    result
}

async fn with_fault(
    shared: &Shared,
    call: &Call,
    body: Option<&[u8]>,
    number: usize,
    fault: Option<Fault>,
) -> Result<Response<Full<Bytes>>, Broken> {
    let id = format!("{number:032x}");
    let answer = async |path: &str| {
        let Answer { status, json } = shared.answer(&api::Request { method: &call.method, path, body }, &id).await;
        response(status, "application/json", json.map_or_else(String::new, |json| json.to_string()))
    };
    match fault {
        None => Ok(answer(&call.path).await),
        Some(Fault::Slow(pause)) => {
            tokio::time::sleep(pause).await;
            Ok(answer(&call.path).await)
        }
        Some(Fault::SlowAnswer(pause)) => {
            let answer = answer(&call.path).await;
            tokio::time::sleep(pause).await;
            Ok(answer)
        }
        Some(Fault::DropBefore) => Err(Broken),
        Some(Fault::DropAfter) => {
            answer(&call.path).await;
            Err(Broken)
        }
        Some(Fault::Broken) => Ok(page(500, "500 Internal Server Error")),
        Some(Fault::Html) => Ok(page(200, "Please log in")),
        Some(Fault::Other(name)) => Ok(answer(&about(&call.path, &name)).await),
        Some(Fault::Error(code)) => {
            let error = code.because(format!("{code}, as told"));
            Ok(response(code.status(), "application/json", error.json(&id).to_string()))
        }
    }
}

/// The path with another upstream in it.
fn about(path: &str, name: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    if let Some(index) = parts.iter().position(|part| *part == "upstreams")
        && let Some(part) = parts.get_mut(index + 1)
        && !part.is_empty()
    {
        *part = name;
    }
    parts.join("/")
}

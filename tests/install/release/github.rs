//! A stand-in for GitHub's API as far as releases go, which notes what it is asked to do.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What it has been told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// What changed something: `POST /repos/...`, in order, without the query.
    pub(crate) writes: Vec<String>,
    /// The releases, as it answers with them.
    pub(crate) releases: Vec<Value>,
    /// The assets, as it answers with them, and what is in them.
    pub(crate) assets: Vec<(Value, Bytes)>,
    /// The asset with this name is refused.
    pub(crate) refuses: Option<String>,
}

/// The server; dropping it ends it.
pub(crate) struct GitHub {
    address: SocketAddr,
    told: Arc<Mutex<Told>>,
    task: JoinHandle<()>,
}

/// What it takes for a token.
pub(crate) const TOKEN: &str = "a-token";

impl GitHub {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let told = Arc::new(Mutex::new(Told::default()));
        let state = told.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = state.clone();
                let service = service_fn(move |request| answer(address, state.clone(), request));
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        eprintln!("the stand-in for GitHub: {error}");
                    }
                });
            }
        });
        Ok(Self { address, told, task })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Looks at, or changes, what it knows.
    pub(crate) fn told<T>(&self, look: impl FnOnce(&mut Told) -> T) -> T {
        look(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for GitHub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    address: SocketAddr,
    told: Arc<Mutex<Told>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let authorized = head.headers.get("authorization").is_some_and(|value| value == &format!("Bearer {TOKEN}"));
    let (status, document) = if authorized {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if head.method != Method::GET {
            told.writes.push(format!("{} {}", head.method, head.uri.path()));
        }
        told.answer(address, &head, &body)
    } else {
        (StatusCode::UNAUTHORIZED, json!({ "message": "Bad credentials" }))
    };
    let mut response = Response::new(Full::new(Bytes::from(document.to_string())));
    *response.status_mut() = status;
    Ok(response)
}

impl Told {
    fn answer(&mut self, address: SocketAddr, head: &http::request::Parts, body: &Bytes) -> (StatusCode, Value) {
        let path: Vec<&str> = head.uri.path().trim_matches('/').split('/').skip(3).collect();
        let json = || serde_json::from_slice::<Value>(body).unwrap_or_default();
        match (head.method.as_str(), path.as_slice()) {
            ("GET", ["releases"]) => (StatusCode::OK, json!(self.releases)),
            ("POST", ["releases"]) => {
                let mut release = json();
                release["id"] = json!(7);
                release["upload_url"] =
                    json!(format!("http://{address}/repos/lbex/lbex/releases/7/assets{{?name,label}}"));
                self.releases.push(release.clone());
                (StatusCode::CREATED, release)
            }
            ("GET", ["releases", "7", "assets"]) => {
                (StatusCode::OK, self.assets.iter().map(|(asset, _)| asset.clone()).collect())
            }
            ("POST", ["releases", "7", "assets"]) => self.upload(head.uri.query().unwrap_or_default(), body),
            ("DELETE", ["releases", "assets", id]) => {
                self.assets.retain(|(asset, _)| asset["id"].as_u64() != id.parse().ok());
                (StatusCode::OK, json!({}))
            }
            ("PATCH", ["releases", "7"]) => {
                self.releases[0]["draft"] = json()["draft"].clone();
                (StatusCode::OK, self.releases[0].clone())
            }
            _ => (StatusCode::NOT_FOUND, json!({ "message": "Not Found" })),
        }
    }

    /// One that is refused is there afterwards, and not whole, as GitHub leaves it.
    fn upload(&mut self, query: &str, body: &Bytes) -> (StatusCode, Value) {
        let name = query.strip_prefix("name=").unwrap_or_default();
        if self.assets.iter().any(|(asset, _)| asset["name"] == name) {
            return (StatusCode::UNPROCESSABLE_ENTITY, json!({ "message": "already_exists" }));
        }
        let refused = self.refuses.take_if(|refused| *refused == name).is_some();
        let state = if refused { "starter" } else { "uploaded" };
        let asset = json!({ "id": 100 + self.assets.len(), "name": name, "size": body.len(), "state": state });
        self.assets.push((asset.clone(), body.clone()));
        if refused {
            (StatusCode::BAD_GATEWAY, json!({ "message": "try later" }))
        } else {
            (StatusCode::CREATED, asset)
        }
    }
}

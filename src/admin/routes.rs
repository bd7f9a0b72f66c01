//! Which request gets which answer.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use super::health::{HealthState, Verdict};
use crate::publish::Metrics;

const TEXT: &str = "text/plain; charset=utf-8";

/// The paths of one server.
#[derive(Debug, Clone)]
pub(super) enum Routes {
    /// `/`, `/livez`, `/readyz`.
    Health(Arc<HealthState>),
    /// `/metrics`.
    Metrics(Arc<Metrics>),
}

impl Routes {
    /// The answer to a request. hyper leaves the body out for HEAD.
    pub(super) fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let known = match self {
            Self::Health(_) => matches!(path, "/" | "/livez" | "/readyz"),
            Self::Metrics(_) => path == "/metrics",
        };
        if known && method != Method::GET && method != Method::HEAD {
            let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match (self, path) {
            (Self::Health(state), "/") => verdict(state.healthy()),
            (Self::Health(state), "/livez") => verdict(state.live()),
            (Self::Health(state), "/readyz") => verdict(state.ready()),
            (Self::Health(_), _) => not_found("/, /livez or /readyz"),
            (Self::Metrics(metrics), "/metrics") => match metrics.encode() {
                Ok(text) => respond(StatusCode::OK, Metrics::CONTENT_TYPE, text),
                Err(e) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("metrics cannot be written: {e}\n")),
            },
            (Self::Metrics(_), _) => not_found("/metrics"),
        }
    }
}

fn not_found(try_these: &str) -> Response<Full<Bytes>> {
    respond(StatusCode::NOT_FOUND, TEXT, format!("not found: try {try_these}\n"))
}

fn verdict(verdict: Verdict) -> Response<Full<Bytes>> {
    let status = if verdict.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    respond(status, TEXT, verdict.line + "\n")
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

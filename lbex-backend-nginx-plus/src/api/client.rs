//! The client: one for each API.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::access::{Access, AccessFiles, Stamp};
use super::error::{ApiError, Problem, beginning};
use super::transport::Transport;
use super::{ApiUrl, NewServer, NginxInfo, Patch, Server, Upstreams};

/// The versions of the API that LBEX speaks. What it uses is the same in all of them.
pub const VERSIONS: &[u32] = &[7, 8, 9];

/// How long a call may take, connecting included.
const CALL: Duration = Duration::from_secs(5);

/// How large an answer may be. The status of 5,000 upstreams with 10 servers each takes some 25 MB.
const LARGEST: usize = 128 << 20;

/// How often files are looked at.
const FILES: Duration = Duration::from_secs(1);

/// A client of one API. Connections are kept, and few.
#[derive(Debug)]
pub struct Client {
    url: ApiUrl,
    files: AccessFiles,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// With what the files held, and what they were then.
    opened: Option<(Arc<Opened>, Stamp, Instant)>,
    version: Option<u32>,
}

#[derive(Debug)]
struct Opened {
    transport: Transport,
    access: Access,
}

impl Client {
    /// A client; nothing is read and nobody asked before the first call.
    pub fn new(url: ApiUrl, files: AccessFiles) -> Self {
        Self { url, files, state: Mutex::default() }
    }

    /// Where its API is.
    pub fn url(&self) -> &ApiUrl {
        &self.url
    }

    /// Whether the files can be read now. `Err`: what is wrong with them.
    pub fn check_files(&self) -> Result<(), super::AccessError> {
        self.files.read(self.url.is_tls()).map(drop)
    }

    /// Forgets the version that was agreed on: another NGINX may answer now.
    pub fn negotiate_again(&self) {
        self.state().version = None;
    }

    /// `GET /nginx`.
    pub async fn nginx(&self) -> Result<NginxInfo, ApiError> {
        self.call(Method::GET, "/nginx", None::<&()>).await
    }

    /// `GET /stream/upstreams/`.
    pub async fn upstreams(&self) -> Result<Upstreams, ApiError> {
        let upstreams = self.call(Method::GET, "/stream/upstreams/", None::<&()>).await;
        match upstreams {
            // An NGINX that has no stream upstreams at all.
            Err(ApiError { problem: Problem::Refused { status: 404, code, .. }, .. }) if code == "PathNotFound" => {
                Ok(Upstreams::new())
            }
            other => other,
        }
    }

    /// `GET /stream/upstreams/NAME/servers`.
    pub async fn servers(&self, upstream: &str) -> Result<Vec<Server>, ApiError> {
        self.call(Method::GET, &format!("/stream/upstreams/{upstream}/servers"), None::<&()>).await
    }

    /// `POST /stream/upstreams/NAME/servers`: the server, with its id.
    pub async fn add(&self, upstream: &str, server: &NewServer) -> Result<Server, ApiError> {
        self.call(Method::POST, &format!("/stream/upstreams/{upstream}/servers"), Some(server)).await
    }

    /// `PATCH /stream/upstreams/NAME/servers/ID`: the server as it is then.
    pub async fn change(&self, upstream: &str, id: u64, patch: &Patch) -> Result<Server, ApiError> {
        self.call(Method::PATCH, &format!("/stream/upstreams/{upstream}/servers/{id}"), Some(patch)).await
    }

    /// `DELETE /stream/upstreams/NAME/servers/ID`: the servers that are left.
    pub async fn remove(&self, upstream: &str, id: u64) -> Result<Vec<Server>, ApiError> {
        self.call(Method::DELETE, &format!("/stream/upstreams/{upstream}/servers/{id}"), None::<&()>).await
    }

    /// The highest version that both know.
    async fn version(&self) -> Result<u32, ApiError> {
        if let Some(version) = self.state().version {
            return Ok(version);
        }
        let theirs: Vec<u32> = self.request(Method::GET, "/", None::<&()>).await?;
        let common = VERSIONS.iter().filter(|version| theirs.contains(version)).max();
        let none =
            || ApiError { call: format!("GET {}/", self.url), problem: Problem::NoCommonVersion(theirs.clone()) };
        let version = *common.ok_or_else(none)?;
        tracing::debug!("{} speaks version {version} of the API", self.url);
        self.state().version = Some(version);
        Ok(version)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ApiError> {
        let version = self.version().await?;
        let result = self.request(method, &format!("/{version}{path}"), body).await;
        if let Err(ApiError { problem: Problem::Refused { code, .. }, .. }) = &result
            && code == "UnknownVersion"
        {
            self.negotiate_again();
        }
        result
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ApiError> {
        let call = || format!("{method} {}{path}", self.url);
        let failed = |problem: Problem| ApiError { call: call(), problem };
        let asked = tokio::time::timeout(CALL, self.ask(&method, path, body)).await;
        let (status, answer) =
            asked.unwrap_or_else(|_| Err(Problem::NoAnswer(format!("no answer within {CALL:?}")))).map_err(failed)?;
        if !status.is_success() {
            return Err(failed(Problem::of_answer(status.as_u16(), &answer)));
        }
        serde_json::from_slice(&answer).map_err(|error| {
            let reason = if answer.first().is_some_and(|first| b"[{".contains(first)) {
                format!("it does not have the form that LBEX expects: {error}")
            } else {
                beginning(&answer)
            };
            failed(Problem::NotTheApi(reason))
        })
    }

    async fn ask(
        &self,
        method: &Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<(StatusCode, Bytes), Problem> {
        let defect = |error: &dyn std::fmt::Display| Problem::NoAnswer(format!("the request cannot be made: {error}"));
        let opened = self.opened()?;
        let json = body.map(serde_json::to_vec).transpose().map_err(|error| defect(&error))?;
        let mut request = Request::builder().method(method).uri(self.url.uri(path).map_err(|error| defect(&error))?);
        request =
            request.header(ACCEPT, "application/json").header(USER_AGENT, concat!("lbex/", env!("CARGO_PKG_VERSION")));
        if json.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &opened.access.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(Bytes::from(json.unwrap_or_default()))).map_err(|error| defect(&error))?;
        let answer = opened.transport.send(request).await.map_err(Problem::NoAnswer)?;
        let (parts, body) = answer.into_parts();
        match Limited::new(body, LARGEST).collect().await {
            Ok(whole) => Ok((parts.status, whole.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(Problem::NotTheApi(format!("it is longer than {LARGEST} bytes")))
            }
            Err(error) => Err(Problem::NoAnswer(format!("the answer broke off: {error}"))),
        }
    }

    /// The connections, made anew with what the files hold when those have changed. Files that cannot be read for a moment leave
    /// what there was.
    fn opened(&self) -> Result<Arc<Opened>, Problem> {
        let mut state = self.state();
        let now = Instant::now();
        if let Some((opened, _, looked)) = &state.opened
            && now.duration_since(*looked) < FILES
        {
            return Ok(opened.clone());
        }
        let stamp = self.files.stamp();
        if let Some((opened, before, looked)) = &mut state.opened
            && *before == stamp
        {
            *looked = now;
            return Ok(opened.clone());
        }
        match self.files.read(self.url.is_tls()) {
            Ok(access) => {
                let transport = Transport::new(&self.url, access.tls.clone());
                let opened = Arc::new(Opened { transport, access });
                state.opened = Some((opened.clone(), stamp, now));
                Ok(opened)
            }
            Err(error) => match &mut state.opened {
                Some((opened, _, looked)) => {
                    tracing::warn!("{}: {error}; going on with what was read before", self.url);
                    *looked = now;
                    Ok(opened.clone())
                }
                None => Err(Problem::NoAnswer(error.to_string())),
            },
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Whole or not there: a panicking thread leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

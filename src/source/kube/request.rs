//! Single requests, with limits on silence.

use std::time::Duration;

use ::kube::Client;
use ::kube::client::Body;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ACCEPT_ENCODING, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde::Deserialize;

use super::explain;

/// The most bytes of an answer that tells of an error.
const ERROR_BYTES: usize = 64 * 1024;
/// The most bytes of a page of a list.
const PAGE_BYTES: usize = 1024 * 1024 * 1024;

/// Why a request has no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// No connection, or it broke.
    #[error("{text}")]
    Broken { text: String, tls: bool },
    /// Nothing came for so long.
    #[error("nothing came for {} s", .0.as_secs())]
    Silent(Duration),
    /// An answer other than 200.
    #[error("{}", status_text(*code, said))]
    Status { code: u16, said: String, retry_after: Option<Duration> },
    /// An answer that is not what was asked for.
    #[error("{0}")]
    Unexpected(String),
}

fn status_text(code: u16, said: &str) -> String {
    match code {
        401 => "the API server does not accept the credentials (401 Unauthorized): they are wrong, expired or revoked"
            .to_owned(),
        410 => "the version to go on from is too old (410 Gone)".to_owned(),
        _ => {
            let reason = StatusCode::from_u16(code).ok().and_then(|c| c.canonical_reason()).unwrap_or_default();
            format!("the answer was {code} {reason}{}", explain::said_by_server(said))
        }
    }
}

impl Failure {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let explain::Broken { text, tls } = explain::broken(error);
        Self::Broken { text, tls }
    }

    /// The answer's status code, if it is about one.
    pub(super) fn code(&self) -> Option<u16> {
        if let Self::Status { code, .. } = self { Some(*code) } else { None }
    }
}

/// What a `Status` object says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) message: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) code: Option<u16>,
}

impl Status {
    /// The failure that it tells of.
    pub(super) fn failure(self) -> Failure {
        let gone = matches!(self.reason.as_deref(), Some("Expired" | "Gone"));
        let code = if gone { 410 } else { self.code.unwrap_or(500) };
        Failure::Status { code, said: one_line(&self.message.unwrap_or_default()), retry_after: None }
    }
}

/// Text from elsewhere, cut and on one line.
fn one_line(text: &str) -> String {
    let text = text.trim();
    let head: String = text.chars().take(400).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if head.len() < text.len() { format!("{head}...") } else { head }
}

/// An answer that has begun.
pub(super) struct Answer {
    body: Body,
    silence: Duration,
}

/// Sends `GET path`. `silence` is how long nothing may come, here and between any two parts of the answer. `compressed`: the
/// answer may be.
pub(super) async fn get(client: &Client, path: &str, silence: Duration, compressed: bool) -> Result<Answer, Failure> {
    let mut request = Request::get(path).header(ACCEPT, HeaderValue::from_static("application/json"));
    if !compressed {
        request = request.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    let request = request.body(Body::empty()).map_err(|e| Failure::Unexpected(format!("{path} is no path: {e}")))?;
    let answer = match tokio::time::timeout(silence, client.send(request)).await {
        Err(_) => return Err(Failure::Silent(silence)),
        Ok(Err(error)) => return Err(Failure::of(&error)),
        Ok(Ok(answer)) => answer,
    };
    if answer.status() == StatusCode::OK {
        Ok(Answer { body: answer.into_body(), silence })
    } else {
        Err(refusal(answer, silence).await)
    }
}

async fn refusal(answer: Response<Body>, silence: Duration) -> Failure {
    let code = answer.status().as_u16();
    let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut answer = Answer { body: answer.into_body(), silence };
    // What cannot be read of it adds nothing to the code.
    let text = answer.whole(ERROR_BYTES).await.unwrap_or_default();
    let said = match serde_json::from_slice::<Status>(&text) {
        Ok(Status { message: Some(message), .. }) => one_line(&message),
        _ => one_line(&String::from_utf8_lossy(&text)),
    };
    Failure::Status { code, said, retry_after: after.map(Duration::from_secs) }
}

impl Answer {
    /// The next part; `None`: it has ended.
    pub(super) async fn part(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match tokio::time::timeout(self.silence, self.body.frame()).await {
                Err(_) => return Err(Failure::Silent(self.silence)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(Failure::of(&error)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// All of a page.
    pub(super) async fn page(&mut self) -> Result<Bytes, Failure> {
        self.whole(PAGE_BYTES).await
    }

    async fn whole(&mut self, most: usize) -> Result<Bytes, Failure> {
        let mut all = BytesMut::new();
        while let Some(part) = self.part().await? {
            if all.len() + part.len() > most {
                return Err(Failure::Unexpected(format!("the answer is longer than {most} bytes")));
            }
            all.extend_from_slice(&part);
        }
        Ok(all.freeze())
    }
}

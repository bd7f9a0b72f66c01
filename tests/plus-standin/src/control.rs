//! What a test says to a stand-in that runs as a process: over the API's own socket, below `/standin/`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::calls::Call;
use crate::faults::Rule;
use crate::shared::Shared;

/// Where the calls so far are, and the rules.
const CALLS: &str = "/standin/calls";
const RULES: &str = "/standin/rules";

/// A call as a process tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldCall {
    /// [`Call::line`].
    pub line: String,
    /// Its body as text.
    pub body: String,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
}

/// Answers what is not the API's but a test's; `None` if it is neither path.
pub(crate) fn answer(shared: &Shared, method: &Method, path: &str, body: &[u8]) -> Option<(StatusCode, String)> {
    let told = |call: &Call| ToldCall { line: call.line(), body: call.body.clone(), status: call.status };
    let done = Some((StatusCode::OK, String::new()));
    match (path, method) {
        (CALLS, _) => {
            let calls: Vec<ToldCall> = shared.lock().calls.iter().map(told).collect();
            // Text and numbers: this cannot fail.
            Some((StatusCode::OK, serde_json::to_string(&calls).unwrap_or_default()))
        }
        (RULES, &Method::POST) => match serde_json::from_slice::<Rule>(body) {
            Ok(rule) => {
                shared.lock().rules.push(rule);
                done
            }
            Err(error) => Some((StatusCode::BAD_REQUEST, error.to_string())),
        },
        (RULES, &Method::DELETE) => {
            shared.lock().rules.clear();
            done
        }
        _ => None,
    }
}

/// A stand-in that runs as a process, by the UNIX socket of its API.
#[derive(Debug, Clone)]
pub struct Control {
    socket: PathBuf,
}

impl Control {
    /// The one whose API is on this socket.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Adds a fault, as [`StandIn::inject`](crate::StandIn::inject).
    pub async fn inject(&self, rule: &Rule) -> Result<()> {
        self.ask("POST", RULES, &serde_json::to_string(rule)?).await.map(drop)
    }

    /// Nothing goes wrong any more.
    pub async fn heal(&self) -> Result<()> {
        self.ask("DELETE", RULES, "").await.map(drop)
    }

    /// All calls so far.
    pub async fn calls(&self) -> Result<Vec<ToldCall>> {
        Ok(serde_json::from_str(&self.ask("GET", CALLS, "").await?)?)
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let stream = UnixStream::connect(&self.socket).await;
        let mut stream = stream.with_context(|| format!("failed to connect to {}", self.socket.display()))?;
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: standin\r\nConnection: close\r\n");
        stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the stand-in has not answered")?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "the stand-in answers {answer:?} to {method} {path} {body:?}");
        Ok(body.to_owned())
    }
}

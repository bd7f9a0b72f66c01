//! A client without a library: each call as it goes over the wire.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON, of which the header must tell.
    pub(crate) fn json(&self) -> Result<Value> {
        ensure!(self.head.contains("content-type: application/json"), "{}", self.head);
        serde_json::from_str(&self.body).with_context(|| format!("{:?} is not JSON", self.body))
    }
}

/// The text of a request that closes its connection.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: plus\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Sends a request and reads the whole answer; fails if the connection ends without one.
pub(crate) async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Result<Answer> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer but {answer:?}"))?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

/// A call over TCP.
pub(crate) async fn call(server: SocketAddr, method: &str, path: &str, body: &str) -> Result<Answer> {
    exchange(TcpStream::connect(server).await?, &request(method, path, "", body)).await
}

/// A call that has to give this status, and JSON.
pub(crate) async fn json(server: SocketAddr, method: &str, path: &str, body: &str, status: u16) -> Result<Value> {
    let answer = call(server, method, path, body).await?;
    ensure!(answer.status == status, "{method} {path} {body}: {} {}", answer.status, answer.body);
    answer.json()
}

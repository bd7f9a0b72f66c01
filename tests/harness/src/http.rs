//! GET and POST without a client library: HTTP/1.0, one connection each, plain text bodies.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a whole request may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The status line and the headers, as they came.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Sends `GET path` to a server; fails if there is no whole answer within 5 s.
pub async fn get(server: SocketAddr, path: &str) -> Result<Response> {
    request(server, &format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n")).await
}

/// Sends a JSON document with `POST path` to a server; fails if there is no whole answer within 5 s.
pub async fn post_json(server: SocketAddr, path: &str, json: &serde_json::Value) -> Result<Response> {
    let body = json.to_string();
    let length = body.len();
    let head = format!("POST {path} HTTP/1.0\r\nHost: {server}\r\nContent-Type: application/json\r\n");
    request(server, &format!("{head}Content-Length: {length}\r\n\r\n{body}")).await
}

async fn request(server: SocketAddr, text: &str) -> Result<Response> {
    let line = text.lines().next().unwrap_or_default();
    let exchange = async {
        let mut connection = TcpStream::connect(server).await?;
        connection.write_all(text.as_bytes()).await?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(DEADLINE, exchange)
        .await
        .with_context(|| format!("no whole answer from {server} to {line:?} within {DEADLINE:?}"))?
        .with_context(|| format!("failed to ask {server}: {line:?}"))?;
    parse(&String::from_utf8_lossy(&answer)).with_context(|| format!("{server} gave no HTTP answer to {line:?}"))
}

fn parse(answer: &str) -> Option<Response> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Response { status, head: head.to_owned(), body: body.to_owned() })
}

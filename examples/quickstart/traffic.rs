//! What stands for the clients.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::backends::Protocol;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// After how long without an answer a UDP client asks again.
const RESEND: Duration = Duration::from_millis(250);
/// How long a change may take to arrive in traffic.
const ARRIVAL: Duration = Duration::from_secs(8);
/// A backend that has not answered any of so many requests in a row is out of rotation.
const GONE_AFTER: usize = 12;

/// A port of LBEX, as a client sees it.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// Its protocol.
    pub(crate) protocol: Protocol,
    /// The port on 127.0.0.1.
    pub(crate) port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.protocol == Protocol::Tcp { "TCP" } else { "UDP" };
        write!(f, "{protocol} 127.0.0.1:{}", self.port)
    }
}

impl Target {
    /// One request from a new client; returns who answered.
    pub(crate) async fn ask(self) -> Result<String> {
        let asking = async {
            match self.protocol {
                Protocol::Tcp => self.ask_tcp().await,
                Protocol::Udp => self.ask_udp().await,
            }
        };
        tokio::time::timeout(PATIENCE, asking)
            .await
            .with_context(|| format!("{self} did not answer in {PATIENCE:?}"))?
    }

    async fn ask_tcp(self) -> Result<String> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).await?;
        connection.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut response = String::new();
        connection.read_to_string(&mut response).await?;
        match response.split_once("\r\n\r\n") {
            Some((_, name)) if !name.is_empty() => Ok(name.trim_end().to_owned()),
            _ => bail!("{self} closed the connection without an answer"),
        }
    }

    async fn ask_udp(self) -> Result<String> {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await?;
        socket.connect(("127.0.0.1", self.port)).await?;
        let mut packet = [0; 1500];
        loop {
            // A datagram may get lost, above all where NGINX is reloaded at that moment: ask again, as UDP clients do.
            socket.send(b"time?").await?;
            if let Ok(length) = tokio::time::timeout(RESEND, socket.recv(&mut packet)).await {
                return Ok(String::from_utf8_lossy(&packet[..length?]).into_owned());
            }
        }
    }

    /// Sends `count` requests; returns how many each backend answered. All of `wanted` must have, and nobody else.
    pub(crate) async fn spread(self, count: usize, wanted: &[&str]) -> Result<BTreeMap<String, usize>> {
        let mut answers = BTreeMap::new();
        for _ in 0..count {
            *answers.entry(self.ask().await?).or_default() += 1;
        }
        let who: Vec<_> = answers.keys().map(String::as_str).collect();
        if who != wanted {
            bail!("{self} was answered by {who:?} instead of {wanted:?}");
        }
        Ok(answers)
    }

    /// Asks until `name` answers; returns how long after `change` it did. Answers of others do not matter, nor do refusals.
    pub(crate) async fn until_answered_by(self, name: &str, change: Instant) -> Result<Duration> {
        let mut last = String::new();
        while change.elapsed() < ARRIVAL {
            match self.ask().await {
                Ok(answer) if answer == name => return Ok(change.elapsed()),
                Ok(answer) => last = format!("the last answer was that of {answer}"),
                Err(error) => last = format!("{error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bail!("{self}: {name} did not answer within {ARRIVAL:?} of the change; {last}")
    }

    /// Asks until `name` answers no more; returns how long after `change` its last answer came. Every request must be answered.
    pub(crate) async fn until_without(self, name: &str, change: Instant) -> Result<Duration> {
        let mut last = Duration::ZERO;
        let mut others = 0;
        while others < GONE_AFTER {
            if self.ask().await? == name {
                (last, others) = (change.elapsed(), 0);
            } else {
                others += 1;
            }
            if last > ARRIVAL {
                bail!("{self}: {name} still answers {ARRIVAL:?} after it was removed");
            }
        }
        Ok(last)
    }
}

//! What stands for the Pods: small servers that answer with their name.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// How often a port is tried that is to be free on several addresses.
const ATTEMPTS: usize = 50;

/// The backends of the quickstart; dropping them ends them.
#[derive(Default)]
pub(crate) struct Backends {
    tasks: JoinSet<()>,
}

impl Backends {
    /// Starts a TCP backend per address, all on one port that was free; returns the port.
    pub(crate) async fn tcp(&mut self, named: &[(&str, IpAddr)]) -> Result<u16> {
        for _ in 0..ATTEMPTS {
            let (_, first) = named.first().context("no TCP backends are wanted")?;
            let listener = TcpListener::bind((*first, 0)).await?;
            let port = listener.local_addr()?.port();
            let mut listeners = vec![listener];
            for (_, address) in &named[1..] {
                listeners.extend(TcpListener::bind((*address, port)).await.ok());
            }
            if listeners.len() == named.len() {
                for (listener, (name, _)) in listeners.into_iter().zip(named) {
                    self.tasks.spawn(serve_tcp(listener, (*name).into()));
                }
                return Ok(port);
            }
        }
        bail!("no TCP port is free on all of {}", addresses(named))
    }

    /// The same for UDP.
    pub(crate) async fn udp(&mut self, named: &[(&str, IpAddr)]) -> Result<u16> {
        for _ in 0..ATTEMPTS {
            let (_, first) = named.first().context("no UDP backends are wanted")?;
            let socket = UdpSocket::bind((*first, 0)).await?;
            let port = socket.local_addr()?.port();
            let mut sockets = vec![socket];
            for (_, address) in &named[1..] {
                sockets.extend(UdpSocket::bind((*address, port)).await.ok());
            }
            if sockets.len() == named.len() {
                for (socket, (name, _)) in sockets.into_iter().zip(named) {
                    self.tasks.spawn(serve_udp(socket, (*name).into()));
                }
                return Ok(port);
            }
        }
        bail!("no UDP port is free on all of {}", addresses(named))
    }
}

fn addresses(named: &[(&str, IpAddr)]) -> String {
    named.iter().map(|(_, address)| address.to_string()).collect::<Vec<_>>().join(", ")
}

async fn serve_tcp(listener: TcpListener, name: Arc<str>) {
    loop {
        match listener.accept().await {
            Ok((connection, _)) => drop(tokio::spawn(answer(connection, Arc::clone(&name)))),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Answers one HTTP request, whatever it is; a client that goes away is its own business.
async fn answer(mut connection: TcpStream, name: Arc<str>) {
    let mut request = [0; 1024];
    if matches!(connection.read(&mut request).await, Ok(length) if length > 0) {
        let length = name.len() + 1;
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{name}\n");
        connection.write_all(response.as_bytes()).await.ok();
    }
}

async fn serve_udp(socket: UdpSocket, name: Arc<str>) {
    let mut packet = [0; 1500];
    loop {
        if let Ok((_, client)) = socket.recv_from(&mut packet).await {
            socket.send_to(name.as_bytes(), client).await.ok();
        }
    }
}

/// `wanted`, where this process may listen there and nobody else does, else a port that is free for `protocol`.
pub(crate) async fn listener_port(protocol: Protocol, wanted: u16) -> Result<u16> {
    let everywhere = |port| SocketAddr::from(([127, 0, 0, 1], port));
    for port in [wanted, 0] {
        let bound = match protocol {
            Protocol::Tcp => TcpListener::bind(everywhere(port)).await.and_then(|l| l.local_addr()),
            Protocol::Udp => UdpSocket::bind(everywhere(port)).await.and_then(|s| s.local_addr()),
        };
        if let Ok(address) = bound {
            return Ok(address.port());
        }
    }
    bail!("this machine has no free port on 127.0.0.1")
}

/// TCP or UDP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

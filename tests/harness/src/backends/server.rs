//! The echo server itself.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Counters;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

/// The size of the UDP receive buffer in bytes (the kernel may give less): bursts must not look like losses of LBEX.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A server's bound sockets, not yet served.
pub(super) struct Sockets {
    address: SocketAddr,
    tcp: Option<TcpListener>,
    udp: Option<UdpSocket>,
}

impl Sockets {
    pub(super) fn bind(address: SocketAddr, tcp: bool, udp: bool) -> io::Result<Self> {
        let tcp = tcp.then(|| bind_tcp(address)).transpose()?;
        let udp = udp.then(|| bind_udp(address)).transpose()?;
        Ok(Self { address, tcp, udp })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A server that comes back finds connections of the last one in TIME_WAIT.
    socket.set_reuse_address(true)?;
    bind_socket(&socket, address)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    bind_socket(&socket, address)?;
    Ok(socket.into())
}

fn bind_socket(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())
}

/// Serves until `stopped` is dropped at its other end; then every connection is closed.
pub(super) fn run(sockets: Sockets, name: &str, counters: &Arc<Counters>, stopped: oneshot::Receiver<()>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("the echo server {name} has no runtime: {error}"),
    };
    runtime.block_on(async {
        tokio::select! {
            error = serve_tcp(sockets.tcp, name, counters) => panic!("the echo server {name} cannot accept: {error}"),
            error = serve_udp(sockets.udp, name, counters) => panic!("the echo server {name} cannot receive: {error}"),
            _ = stopped => {}
        }
    });
}

async fn serve_tcp(listener: Option<TcpListener>, name: &str, counters: &Arc<Counters>) -> io::Error {
    let Some(listener) = listener else { return std::future::pending().await };
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => return error,
        };
        counters.connections.fetch_add(1, Ordering::SeqCst);
        let open = Open::new(counters);
        let greeting = format!("{name} {peer}\n");
        connections.spawn(async move {
            let _open = open;
            // A client may go away at any time; that is no concern of the server.
            converse(stream, &greeting).await.ok();
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(mut stream: TcpStream, greeting: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (input, mut output) = stream.split();
    output.write_all(greeting.as_bytes()).await?;
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).await? > 0 {
        output.write_all(&line).await?;
        line.clear();
    }
    output.shutdown().await
}

async fn serve_udp(socket: Option<UdpSocket>, name: &str, counters: &Counters) -> io::Error {
    let Some(socket) = socket else { return std::future::pending().await };
    let socket = match tokio::net::UdpSocket::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return error,
    };
    let mut buffer = vec![0; 65_536];
    let mut answer = format!("{name} ").into_bytes();
    let prefix = answer.len();
    loop {
        // Errors that tell of clients that went away (ICMP) are theirs.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        counters.datagrams.fetch_add(1, Ordering::SeqCst);
        answer.truncate(prefix);
        answer.extend_from_slice(&buffer[..length]);
        socket.send_to(&answer, peer).await.ok();
    }
}

/// Counts an open connection for as long as it lives.
struct Open(Arc<Counters>);

impl Open {
    fn new(counters: &Arc<Counters>) -> Self {
        counters.open.fetch_add(1, Ordering::SeqCst);
        Self(counters.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

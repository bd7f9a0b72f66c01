//! Clients of [`Echo`](super::Echo) servers.

use std::collections::BTreeMap;
use std::io::{self, Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long connecting, and each answer, may take over TCP.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long [`udp_tally`] waits for each answer.
const UDP_TIMEOUT: Duration = Duration::from_secs(2);

/// What an echo server says when a TCP client connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The server's name.
    pub name: String,
    /// The client's address as the server sees it: behind a load balancer, the load balancer's.
    pub peer: SocketAddr,
}

/// An open TCP connection to an echo server. Dropping it closes the connection.
#[derive(Debug)]
pub struct Conversation {
    greeting: Greeting,
    stream: BufReader<TcpStream>,
}

impl Conversation {
    /// Connects and reads the greeting.
    ///
    /// Fails with [`ErrorKind::UnexpectedEof`] if the connection is accepted and closed at once (no endpoints),
    /// with [`ErrorKind::TimedOut`] after 5 s.
    pub async fn open(server: SocketAddr) -> io::Result<Self> {
        Self::open_from(None, server).await
    }

    /// Like [`open`](Self::open), from a source address of this host (each of 127.0.0.0/8 is one).
    pub async fn open_from(source: impl Into<Option<IpAddr>>, server: SocketAddr) -> io::Result<Self> {
        let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = source.into() {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let stream = in_time(TCP_TIMEOUT, socket.connect(server)).await?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        let line = read_line(&mut stream).await?;
        let greeting = parse_greeting(&line).ok_or_else(|| invalid(format!("no greeting but {line:?}")))?;
        Ok(Self { greeting, stream })
    }

    /// What the server said at the start.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// The name of the server.
    pub fn name(&self) -> &str {
        &self.greeting.name
    }

    /// The local address of the connection.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().local_addr()
    }

    /// Sends a line and reads it back; fails if the connection is gone, or with something else.
    pub async fn say(&mut self, line: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).await?;
        let answer = read_line(&mut self.stream).await?;
        if answer == line { Ok(()) } else { Err(invalid(format!("sent {line:?}, got {answer:?}"))) }
    }

    /// Says that there is no more to come and waits until the other side closes the connection too: then a load balancer in between
    /// has done with it.
    pub async fn finish(mut self, deadline: Duration) -> io::Result<()> {
        self.stream.get_mut().shutdown().await?;
        self.closed(deadline).await
    }

    /// Waits until the other side closes the connection (in whatever way), up to `deadline`.
    pub async fn closed(&mut self, deadline: Duration) -> io::Result<()> {
        let mut rest = Vec::new();
        match in_time(deadline, self.stream.read_to_end(&mut rest)).await {
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(error),
            _ => Ok(()),
        }
    }
}

/// Connects over TCP and returns the name of the server that answers.
///
/// Fails with [`ErrorKind::UnexpectedEof`] if the connection is accepted and closed at once (no endpoints),
/// [`ErrorKind::ConnectionRefused`] if nothing listens, [`ErrorKind::TimedOut`] after 5 s.
pub async fn tcp_ask(server: SocketAddr) -> io::Result<String> {
    tcp_greeting(server).await.map(|greeting| greeting.name)
}

/// Like [`tcp_ask`], from a source address of this host.
pub async fn tcp_ask_from(source: IpAddr, server: SocketAddr) -> io::Result<String> {
    Ok(Conversation::open_from(source, server).await?.greeting.name)
}

/// Connects over TCP and returns the whole greeting.
pub async fn tcp_greeting(server: SocketAddr) -> io::Result<Greeting> {
    Ok(Conversation::open(server).await?.greeting)
}

/// Sends one datagram from a new socket and returns the name of the server that answers.
///
/// Fails with [`ErrorKind::TimedOut`] without an answer (datagrams are not sent again),
/// [`ErrorKind::InvalidData`] if the answer does not have the payload.
pub async fn udp_ask(server: SocketAddr, payload: &str, deadline: Duration) -> io::Result<String> {
    udp_ask_from(any(server), server, payload, deadline).await
}

/// Where the kernel chooses the address and port of a client of this server.
fn any(server: SocketAddr) -> SocketAddr {
    let ip: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    SocketAddr::new(ip, 0)
}

/// Like [`udp_ask`], from a source address of this host; its port may be 0, for any. The same source port
/// makes it the same client, for a load balancer.
pub async fn udp_ask_from(
    source: SocketAddr,
    server: SocketAddr,
    payload: &str,
    deadline: Duration,
) -> io::Result<String> {
    udp_ask_by(&udp_client(source, server).await?, payload, deadline).await
}

async fn udp_client(source: SocketAddr, server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(source).await?;
    socket.connect(server).await?;
    Ok(socket)
}

async fn udp_ask_by(socket: &UdpSocket, payload: &str, deadline: Duration) -> io::Result<String> {
    socket.send(payload.as_bytes()).await?;
    let mut buffer = vec![0; 65_536];
    let length = in_time(deadline, socket.recv(&mut buffer)).await?;
    let answer = String::from_utf8_lossy(&buffer[..length]);
    match answer.split_once(' ') {
        Some((name, echo)) if echo == payload => Ok(name.to_owned()),
        _ => Err(invalid(format!("sent {payload:?}, got {answer:?}"))),
    }
}

/// Asks `count` times over TCP, a connection each, and counts who answered. Fails at the first failure.
pub async fn tcp_tally(server: SocketAddr, count: usize) -> io::Result<BTreeMap<String, usize>> {
    let mut tally = BTreeMap::new();
    for _ in 0..count {
        *tally.entry(tcp_ask(server).await?).or_default() += 1;
    }
    Ok(tally)
}

/// Asks `count` times over UDP, a new client each, and counts who answered. Fails at the first failure.
pub async fn udp_tally(server: SocketAddr, count: usize) -> io::Result<BTreeMap<String, usize>> {
    let (mut tally, mut clients) = (BTreeMap::new(), Vec::new());
    for number in 0..count {
        // Kept to the end: the port of one that has gone may be given to another, who would go on with its session.
        let client = udp_client(any(server), server).await?;
        let name = udp_ask_by(&client, &format!("question {number}"), UDP_TIMEOUT).await?;
        *tally.entry(name).or_default() += 1;
        clients.push(client);
    }
    Ok(tally)
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    in_time(TCP_TIMEOUT, stream.read_line(&mut line)).await?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.to_owned()),
        None => Err(Error::new(ErrorKind::UnexpectedEof, format!("connection closed after {line:?}"))),
    }
}

fn parse_greeting(line: &str) -> Option<Greeting> {
    let (name, peer) = line.split_once(' ')?;
    Some(Greeting { name: name.to_owned(), peer: peer.parse().ok()? })
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::TimedOut, format!("nothing within {limit:?}"))))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidData, message)
}

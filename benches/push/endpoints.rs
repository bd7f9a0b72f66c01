//! The endpoints of the Service that changes: addresses of 127.7.0.0/16, one to a Node, all on one port. Each answers a connection
//! with its number and closes it. (An API server lets no loopback address into an EndpointSlice, but into a Node.)

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result};
use lbex_test_harness::ports::free_port;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;

/// How many there are: no change gets back to an endpoint that a slow load balancer may still be on its way to.
pub(crate) const COUNT: usize = 100;

/// The number of the black hole, which is none of them.
pub(crate) const HOLE: usize = COUNT;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// The Node of an endpoint.
pub(crate) fn node(number: usize) -> String {
    format!("node-{number}")
}

/// Its address.
pub(crate) fn address(number: usize) -> Ipv4Addr {
    // Far fewer than 65,000.
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 7, 0, 1)) + u32::try_from(number).unwrap_or_default())
}

/// The endpoints, served until this is dropped.
pub(crate) struct Endpoints {
    port: u16,
    tasks: Vec<JoinHandle<()>>,
}

impl Endpoints {
    /// Starts all of them, on the runtime of the caller.
    pub(crate) fn start() -> Result<Self> {
        let port = free_port()?;
        let mut tasks = Vec::new();
        for number in 0..COUNT {
            let listener = listen(number, port, BACKLOG)?;
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let answer = format!("{number}\n");
            tasks.push(tokio::spawn(async move {
                loop {
                    match listener.accept().await {
                        // A client that is gone is not this server's concern.
                        Ok((mut stream, _)) => drop(stream.write_all(answer.as_bytes()).await),
                        Err(error) => eprintln!("endpoint {number} accepts nothing: {error}"),
                    }
                }
            }));
        }
        Ok(Self { port, tasks })
    }

    /// The node port of the Service.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn listen(number: usize, port: u16, backlog: i32) -> Result<TcpListener> {
    let address = SocketAddr::from((address(number), port));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    let bound = socket.bind(&SockAddr::from(address)).and_then(|()| socket.listen(backlog));
    bound.with_context(|| format!("failed to listen on {address}"))?;
    Ok(socket.into())
}

/// An endpoint whose host swallows everything: the queue of a socket that nobody accepts from is full, and the kernel drops what
/// comes beyond it without a word.
pub(crate) struct BlackHole {
    _listener: TcpListener,
    _queued: Vec<Socket>,
}

impl BlackHole {
    /// Opens it at the address of [`HOLE`].
    pub(crate) fn open(port: u16) -> Result<Self> {
        let listener = listen(HOLE, port, 0)?;
        let mut queued = Vec::new();
        for _ in 0..3 {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_nonblocking(true)?;
            // In progress: the first one is queued at once, the others never.
            drop(socket.connect(&SockAddr::from(SocketAddr::from((address(HOLE), port)))));
            queued.push(socket);
        }
        let probe = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        let address = SockAddr::from(SocketAddr::from((address(HOLE), port)));
        let connected = probe.connect_timeout(&address, std::time::Duration::from_millis(200));
        anyhow::ensure!(connected.is_err(), "a connection to the black hole came about");
        Ok(Self { _listener: listener, _queued: queued })
    }
}

//! One listener: accepts clients, and copies bytes between each and a server.

use std::io;
use std::net::SocketAddr;

use lbex_core::desired::{Listener, Servers};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How many clients may wait until they are accepted.
const BACKLOG: i32 = 1024;

/// Listens until it is dropped. Connections that exist go on then.
pub(super) struct Serving {
    listener: watch::Sender<Listener>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Listens at `address`.
    pub(super) fn start(address: SocketAddr, listener: &Listener) -> io::Result<Self> {
        let socket = listen(address)?;
        let (sender, current) = watch::channel(listener.clone());
        Ok(Self { listener: sender, task: tokio::spawn(accept(socket, current)) })
    }

    /// New connections are as `listener` says from now on. False: they were already.
    pub(super) fn becomes(&self, listener: &Listener) -> bool {
        self.listener.send_if_modified(|current| {
            let differs = *current != *listener;
            current.clone_from(listener);
            differs
        })
    }

    /// Whether it accepts clients.
    pub(super) fn is_alive(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // IPv4 has a listener of its own.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn accept(socket: TcpListener, current: watch::Receiver<Listener>) {
    let mut turn = 0;
    loop {
        match socket.accept().await {
            Ok((client, from)) => {
                turn += 1;
                let listener = current.borrow().clone();
                tokio::spawn(relay(client, from, listener, turn));
            }
            // Such as too many open files: others may be closed meanwhile.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

/// Serves a client until both sides have ended. One that may not be let in, or for whom there is no server, is closed at once.
async fn relay(mut client: TcpStream, from: SocketAddr, listener: Listener, turn: usize) -> io::Result<()> {
    let Servers::Addresses(servers) = &listener.upstream.servers else { return Ok(()) };
    let is_let_in = listener.allow.is_empty() || listener.allow.iter().any(|network| network.contains(&from.ip()));
    if !is_let_in || servers.is_empty() {
        return Ok(());
    }
    // Each in turn, and the next where one does not answer.
    for server in servers.iter().cycle().skip(turn % servers.len()).take(servers.len()) {
        if let Ok(Ok(mut server)) = tokio::time::timeout(listener.connect_timeout, TcpStream::connect(server)).await {
            tokio::io::copy_bidirectional(&mut client, &mut server).await?;
            break;
        }
    }
    Ok(())
}

//! Whoever keeps the responder's sockets open while there is no LBEX.

use std::fmt;
use std::io;
use std::net::{TcpListener, UdpSocket};

/// Keeps the sockets on which NGINX asks for endpoints while LBEX is away: NGINX's questions then wait until it is back, and nobody
/// else can take the port. A supervisor does that, for instance systemd.
pub trait SocketKeeper: fmt::Debug + Send + Sync {
    /// What an earlier LBEX left, once. What LBEX cannot use it closes.
    fn take(&self) -> Option<LeftSockets>;

    /// From now on these are to be kept, and no others. An error is logged; LBEX works on without.
    fn keep(&self, udp: &UdpSocket, tcp: &TcpListener) -> io::Result<()>;

    /// None are in use: those that were left, and not taken, are to be kept no more. An error is logged.
    fn forget(&self) -> io::Result<()>;
}

/// Sockets that an earlier LBEX left. They are not believed to be what they should be.
#[derive(Debug)]
pub struct LeftSockets {
    /// Where NGINX asks.
    pub udp: UdpSocket,
    /// Where it asks for answers that are too long for a datagram.
    pub tcp: TcpListener,
}

//! Binding the sockets of health and metrics, with errors that say what to do.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::holder::{self, Holder};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Why health or metrics cannot be served. All end LBEX with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Another socket has the port.
    #[error("cannot serve {what} on {address}: the port is taken{}; end that, or choose another with {remedy}", held_by(.holder.as_ref()))]
    PortTaken {
        /// `health` or `metrics`.
        what: &'static str,
        /// The address that was asked for.
        address: SocketAddr,
        /// Who has it, where that could be found out.
        holder: Option<Holder>,
        /// The flags that change it.
        remedy: &'static str,
    },
    /// The address cannot be bound for another reason.
    #[error("cannot serve {what} on {address}: {source}; another can be chosen with {remedy}")]
    Bind {
        /// `health` or `metrics`.
        what: &'static str,
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
        /// The flags that change it.
        remedy: &'static str,
    },
    /// The thread that serves both cannot be started.
    #[error("cannot start the thread that serves health and metrics: {0}")]
    Start(io::Error),
}

fn held_by(holder: Option<&Holder>) -> String {
    holder.map(|h| format!(" by {h}")).unwrap_or_default()
}

/// What is bound, and the flags that decide where.
struct Purpose {
    what: &'static str,
    remedy: &'static str,
}

const HEALTH: Purpose =
    Purpose { what: "health", remedy: "--health-port or --health-address (--health-check=false: none)" };
const METRICS: Purpose = Purpose { what: "metrics", remedy: "--metrics-address (off: none)" };

/// Binds all health addresses. Where they leave the port open (0), the first one's is used for all.
pub(super) fn health(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, AdminError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    let mut open_port = None;
    for &wanted in addresses {
        let port = if wanted.port() == 0 { open_port.unwrap_or(0) } else { wanted.port() };
        let address = SocketAddr::new(wanted.ip(), port);
        match listen(address) {
            Ok(listener) => {
                if wanted.port() == 0 {
                    open_port = listener.local_addr().ok().map(|a| a.port());
                }
                listeners.push(listener);
            }
            Err(e) if no_such_family(address.ip(), &e) && addresses.len() > 1 => {
                tracing::info!(%address, "this host has no IPv6: health is not served there");
            }
            Err(e) => return Err(HEALTH.error(address, e)),
        }
    }
    Ok(listeners)
}

/// Binds the metrics address.
pub(super) fn metrics(address: SocketAddr) -> Result<TcpListener, AdminError> {
    listen(address).map_err(|e| METRICS.error(address, e))
}

impl Purpose {
    fn error(&self, address: SocketAddr, source: io::Error) -> AdminError {
        let Self { what, remedy } = *self;
        if source.kind() == io::ErrorKind::AddrInUse {
            return AdminError::PortTaken { what, address, holder: holder::of_tcp_port(address), remedy };
        }
        AdminError::Bind { what, address, source, remedy }
    }
}

/// A listening socket. `SO_REUSEADDR`, so that connections in `TIME_WAIT` do not keep a restarted LBEX out; IPv6 sockets
/// take IPv6 only, since IPv4 has one of its own.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether the failure means that the host has no IPv6 at all.
fn no_such_family(address: IpAddr, error: &io::Error) -> bool {
    let missing = [Errno::EAFNOSUPPORT as i32, Errno::EADDRNOTAVAIL as i32];
    address.is_ipv6() && address.is_unspecified() && error.raw_os_error().is_some_and(|e| missing.contains(&e))
}

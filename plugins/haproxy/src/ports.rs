//! Whether a port can be bound, and who has it: HAProxy's check binds nothing, and a reload that cannot bind one port fails as a whole.

use std::io;
use std::net::SocketAddr;

use lbex_plugin_sdk::{Protocol, Refusal};
use lbex_port_holders::{Holder, Holders};
use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

use crate::render::refusal;

/// Binds a TCP listener and lets it go again. An error: why nobody can listen there.
pub fn probe(address: SocketAddr, holders: &Holders) -> Result<(), Refusal> {
    let Err(error) = bind(address) else { return Ok(()) };
    let port = address.port();
    let refused =
        |code: &str, why: String| Err(refusal(Some(port), code, format!("port {port} at {}: {why}", address.ip())));
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => {
            let why = match holders.of(Protocol::Tcp, address) {
                Some(holder) if holders.is_ours(&holder) => return Ok(()),
                Some(Holder { pid, name }) => format!("in use by {name} (process {pid})"),
                None => "in use by another process".to_owned(),
            };
            refused("PortInUse", why).map_err(again)
        }
        Some(Errno::EACCES) => {
            refused("PermissionDenied", "ports so low need root or the capability CAP_NET_BIND_SERVICE".to_owned())
        }
        Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT) => {
            refused("AddressNotAvailable", "no interface of this host has that address".to_owned()).map_err(again)
        }
        _ => refused("ListenFailed", error.to_string()).map_err(again),
    }
}

fn again(refusal: Refusal) -> Refusal {
    Refusal { retry: true, ..refusal }
}

/// With `SO_REUSEADDR`, or connections in TIME_WAIT would look like a conflict.
fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_port_that_is_taken_is_told_with_its_holder_and_ours_is_free() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let refusal = probe(address, &Holders::default()).unwrap_err();
        let words = format!("(process {})", std::process::id());
        assert!(refusal.code == "PortInUse" && refusal.retry && refusal.message.contains(&words), "{refusal:?}");
        // All addresses include that one.
        let refusal = probe(SocketAddr::from(([0, 0, 0, 0], address.port())), &Holders::default()).unwrap_err();
        assert!(refusal.message.contains(&words), "{refusal:?}");
        assert_eq!(probe(address, &Holders::new(vec![std::process::id()])), Ok(()));
        drop(held);
        // A program that another test starts has the socket too, until it is executed.
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(refusal) = probe(address, &Holders::default()) {
            assert!(refusal.code == "PortInUse" && Instant::now() < deadline, "{refusal:?}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_address_of_nobody_here_is_told() {
        let refusal = probe("192.0.2.1:8080".parse().unwrap(), &Holders::default()).unwrap_err();
        assert_eq!((refusal.code.as_str(), refusal.retry), ("AddressNotAvailable", true));
    }
}

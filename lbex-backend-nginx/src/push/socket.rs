//! The responder's sockets: UDP and TCP at one port of the loopback address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

/// Ports that are tried as root, the highest first. Below 1024 no ordinary user can answer in LBEX's place while it is away; these
/// are assigned to nobody, and NFS, which takes ports from 665 up, does not use them.
const AS_ROOT: RangeInclusive<u16> = 324..=343;

/// Room for questions that were not read yet, in bytes: an NGINX that begins asks for all names in the same instant, two questions
/// each, which count for some 800 bytes each.
const ROOM: usize = 8 << 20;

/// Where NGINX asks if nothing is in the way: what `lbex render` writes.
pub fn usual_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, *AS_ROOT.end()))
}

/// The two sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
    pub(super) address: SocketAddr,
}

/// Binds `wanted`, where NGINX asks already; where that is taken, or there is none, another port. Neither SO_REUSEADDR nor
/// SO_REUSEPORT is set on the UDP socket: with one of them somebody else could bind beside it.
pub(super) fn bind(wanted: Option<SocketAddr>) -> io::Result<Sockets> {
    if let Some(address) = wanted.filter(|address| address.ip().is_loopback()) {
        match bind_both(address) {
            Ok(sockets) => return Ok(sockets),
            Err(error) => tracing::warn!(
                "{address}, where NGINX asks for its endpoints, cannot be had ({error}); another port is used, which takes one reload"
            ),
        }
    }
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for ip in loopback {
        let fixed = AS_ROOT.rev().filter(|_| nix::unistd::geteuid().is_root());
        for port in fixed.chain([0, 0, 0]) {
            match bind_both(SocketAddr::new(ip, port)) {
                Ok(sockets) => return Ok(sockets),
                Err(error) if error.raw_os_error() == Some(Errno::EADDRNOTAVAIL as i32) => {
                    last = error;
                    break;
                }
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

fn bind_both(address: SocketAddr) -> io::Result<Sockets> {
    let udp = UdpSocket::bind(address)?;
    let address = udp.local_addr()?;
    let tcp = TcpListener::bind(address)?;
    // An ordinary user gets as much as `net.core.rmem_max` allows; NGINX repeats what is lost after five seconds.
    if setsockopt(&udp, sockopt::RcvBufForce, &ROOM).is_err() {
        setsockopt(&udp, sockopt::RcvBuf, &ROOM)?;
    }
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    Ok(Sockets { udp, tcp, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wanted_port_is_taken_again_and_another_where_somebody_has_it() {
        let first = bind(None).expect("bound");
        assert!(first.address.ip().is_loopback());
        let second = bind(Some(first.address)).expect("bound");
        assert_ne!(first.address, second.address);
        let address = first.address;
        drop(first);
        assert_eq!(bind(Some(address)).expect("bound").address, address);
    }

    #[test]
    fn nobody_can_bind_beside_it() {
        let sockets = bind(None).expect("bound");
        let other = socket2::Socket::new(socket2::Domain::for_address(sockets.address), socket2::Type::DGRAM, None)
            .expect("a socket");
        other.set_reuse_address(true).expect("set");
        other.set_reuse_port(true).expect("set");
        assert!(other.bind(&sockets.address.into()).is_err());
    }

    #[test]
    fn no_address_but_loopback_is_taken() {
        let sockets = bind(Some("0.0.0.0:0".parse().expect("an address"))).expect("bound");
        assert!(sockets.address.ip().is_loopback());
    }
}

//! The responder's sockets: UDP and TCP at one port of the loopback address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use super::keeper::LeftSockets;

/// Ports that are tried as root, the highest first. Below 1024 no ordinary user can answer in LBEX's place while it is away; these
/// are assigned to nobody, and NFS, which takes ports from 665 up, does not use them.
const AS_ROOT: RangeInclusive<u16> = 324..=343;

/// Room for questions that were not read yet, in bytes: an NGINX that begins asks for all names in the same instant, two questions
/// each, which count for some 800 bytes each.
const ROOM: usize = 8 << 20;

/// Where NGINX asks, as root, if nothing is in the way: what `lbex render` writes. `spread` is that of [`ResponderOptions`].
///
/// [`ResponderOptions`]: super::ResponderOptions
pub fn usual_address(spread: u64) -> SocketAddr {
    let port = AS_ROOT.rev().nth(first_tried(spread)).unwrap_or(*AS_ROOT.end());
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The index of the port that is tried first.
fn first_tried(spread: u64) -> usize {
    usize::try_from(spread % AS_ROOT.len() as u64).unwrap_or_default()
}

/// The two sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Whether an earlier LBEX left them.
    pub(super) left: bool,
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
    pub(super) address: SocketAddr,
}

/// Takes what an earlier LBEX left, where it is of use. Else binds `wanted`, where NGINX asks already; where that is taken, or there
/// is none, another port. Neither SO_REUSEADDR nor SO_REUSEPORT is set on the UDP socket: with one of them somebody else could bind
/// beside it. `spread` says with which port the search begins: LBEXes of one host that differ in it do not take one another's port
/// while its owner is away.
pub(super) fn bind(wanted: Option<SocketAddr>, left: Option<LeftSockets>, spread: u64) -> io::Result<Sockets> {
    let wanted = wanted.filter(|address| address.ip().is_loopback());
    if let Some(left) = left {
        match adopt(left, wanted) {
            Ok(sockets) => return Ok(sockets),
            Err(error) => tracing::warn!("the sockets that the supervisor kept for LBEX are closed: {error}"),
        }
    }
    if let Some(address) = wanted {
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
        let fixed = AS_ROOT
            .rev()
            .cycle()
            .skip(first_tried(spread))
            .take(AS_ROOT.len())
            .filter(|_| nix::unistd::geteuid().is_root());
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
    prepare(Sockets { left: false, udp, tcp, address })
}

/// What an earlier LBEX left, if it is what LBEX would have bound itself.
fn adopt(LeftSockets { udp, tcp }: LeftSockets, wanted: Option<SocketAddr>) -> io::Result<Sockets> {
    let (address, of_tcp) = (udp.local_addr()?, tcp.local_addr()?);
    let refuse = |why: String| Err(io::Error::other(why));
    if address != of_tcp || !address.ip().is_loopback() || address.port() == 0 {
        return refuse(format!(
            "they are at {address} (UDP) and {of_tcp} (TCP), not at one port of the loopback address"
        ));
    }
    if let Some(wanted) = wanted.filter(|wanted| *wanted != address) {
        return refuse(format!("they are at {address}, and NGINX asks {wanted}"));
    }
    if udp.peer_addr().is_ok() || !getsockopt(&tcp, sockopt::AcceptConn)? {
        return refuse("they do not take questions from everybody".to_owned());
    }
    let shared = [getsockopt(&udp, sockopt::ReuseAddr)?, getsockopt(&udp, sockopt::ReusePort)?];
    if shared.contains(&true) || getsockopt(&tcp, sockopt::ReusePort)? {
        return refuse(format!("somebody else could bind {address}, too"));
    }
    prepare(Sockets { left: true, udp, tcp, address })
}

fn prepare(sockets: Sockets) -> io::Result<Sockets> {
    let Sockets { udp, tcp, .. } = &sockets;
    // An ordinary user gets as much as `net.core.rmem_max` allows; NGINX repeats what is lost after five seconds.
    if setsockopt(udp, sockopt::RcvBufForce, &ROOM).is_err() {
        setsockopt(udp, sockopt::RcvBuf, &ROOM)?;
    }
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    /// At an address of loopback that no other test uses.
    fn bound() -> Sockets {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [.., high, low] = std::process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, 64 + high % 32, low, NEXT.fetch_add(1, Ordering::Relaxed));
        bind(Some(SocketAddr::from((ip, 0))), None, 0).expect("bound")
    }

    /// Until it is so: a program that another test starts has the sockets of before, too, until it is executed.
    fn soon<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(Instant::now() < deadline, "it never was so");
        }
    }

    #[test]
    fn the_wanted_port_is_taken_again_and_another_where_somebody_has_it() {
        let first = bound();
        let second = bind(Some(first.address), None, 0).expect("bound");
        assert_ne!(first.address, second.address);
        let address = first.address;
        drop(first);
        soon(|| bind(Some(address), None, 0).ok().filter(|again| again.address == address));
    }

    #[test]
    fn the_search_begins_elsewhere_for_another_prefix_and_tries_every_port_once() {
        let from = |spread| AS_ROOT.rev().cycle().skip(first_tried(spread)).take(AS_ROOT.len());
        for spread in [0, 1, 19, 20, u64::MAX] {
            assert_eq!(from(spread).next(), Some(usual_address(spread).port()));
            let mut ports: Vec<u16> = from(spread).collect();
            ports.sort_unstable();
            assert_eq!(ports, AS_ROOT.collect::<Vec<_>>(), "{spread}");
        }
        assert_ne!(usual_address(0), usual_address(1));
        assert_eq!(usual_address(0), usual_address(20));
    }

    #[test]
    fn nobody_can_bind_beside_it() {
        let sockets = bound();
        let other = socket2::Socket::new(socket2::Domain::for_address(sockets.address), socket2::Type::DGRAM, None)
            .expect("a socket");
        other.set_reuse_address(true).expect("set");
        other.set_reuse_port(true).expect("set");
        assert!(other.bind(&sockets.address.into()).is_err());
    }

    #[test]
    fn no_address_but_loopback_is_taken() {
        let sockets = bind(Some("0.0.0.0:0".parse().expect("an address")), None, 0).expect("bound");
        assert!(sockets.address.ip().is_loopback());
    }

    fn left(udp: &UdpSocket, tcp: &TcpListener) -> LeftSockets {
        LeftSockets { udp: udp.try_clone().expect("a copy"), tcp: tcp.try_clone().expect("a copy") }
    }

    #[test]
    fn what_an_earlier_lbex_left_is_used_where_nginx_asks() {
        let Sockets { udp, tcp, address, .. } = bound();
        for wanted in [None, Some(address)] {
            let sockets = bind(wanted, Some(left(&udp, &tcp)), 0).expect("adopted");
            assert_eq!((sockets.left, sockets.address), (true, address), "{wanted:?}");
        }
        let free = bound().address;
        soon(|| {
            let sockets = bind(Some(free), Some(left(&udp, &tcp)), 0).expect("bound");
            assert!(!sockets.left);
            Some(sockets).filter(|sockets| sockets.address == free)
        });
    }

    #[test]
    fn what_lbex_would_not_have_bound_is_not_used() {
        let Sockets { udp, tcp, .. } = bound();
        let other = bound();
        let everywhere = (0..50).find_map(|_| bind_both(SocketAddr::from(([0; 4], 0))).ok()).expect("bound");
        let connected = bound();
        connected.udp.connect(other.address).expect("connected");
        let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let Sockets { udp: asked, tcp: listens, address, .. } = bound();
        drop(listens);
        soon(|| silent.bind(&address.into()).ok());
        let shared = bound();
        setsockopt(&shared.udp, sockopt::ReusePort, &true).expect("set");
        for (why, udp, tcp) in [
            ("one port", &udp, &other.tcp),
            ("one port", &other.udp, &tcp),
            ("loopback", &everywhere.udp, &everywhere.tcp),
            ("from everybody", &connected.udp, &connected.tcp),
            ("from everybody", &asked, &silent.into()),
            ("could bind", &shared.udp, &shared.tcp),
        ] {
            let error = adopt(left(udp, tcp), None).map(|sockets| sockets.address).expect_err(why);
            assert!(error.to_string().contains(why), "{why}: {error}");
            assert!(!bind(None, Some(left(udp, tcp)), 0).expect("bound").left, "{why}");
        }
    }
}

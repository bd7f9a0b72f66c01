//! Whose a local socket is. The kernel is asked for just that one socket (`sock_diag`, as `ss` does); where it cannot be, the tables
//! in `/proc/net` are read, which takes the longer the more sockets the host has.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use lbex_core::model::Protocol;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::process::procfs;

/// Message types of netlink: an error (or 'done well'), and a question for a socket by family, and its answer.
const NLMSG_ERROR: u16 = 2;
const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// Where things stand in an answer: the type, an error's number, and the user of a socket.
const AT_TYPE: usize = 4;
const AT_ERROR: usize = 16;
const AT_USER: usize = 80;

/// Who has a local socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    User(u32),
    /// No socket, or those of several users.
    Nobody,
    /// This host does not tell: it has no `/proc`.
    Untold,
}

/// A way to find out: the user whose socket at the first address would get what is sent from the second.
pub(super) type Find = fn(Protocol, SocketAddr, SocketAddr) -> Owner;

/// The best way that this host has: that of the kernel takes microseconds.
pub(super) fn best() -> (Find, Cost) {
    // A kernel without it answers as if there were no such socket; so it is tried on one that is there.
    let works = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].into_iter().any(|ip| {
        let own = UdpSocket::bind((ip, 0)).and_then(|socket| Ok((socket.local_addr()?, socket)));
        own.is_ok_and(|(address, _socket)| {
            matches!(ask_kernel(Protocol::Udp, address, address), Ok(Owner::User(user)) if user == nix::unistd::geteuid().as_raw())
        })
    });
    if works { (by_kernel, Cost::Little) } else { (by_proc, Cost::Much) }
}

/// What finding out costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    Little,
    Much,
}

fn by_kernel(protocol: Protocol, local: SocketAddr, remote: SocketAddr) -> Owner {
    ask_kernel(protocol, local, remote).unwrap_or_else(|error| {
        tracing::debug!(%error, %local, "the kernel does not say whose a socket is; /proc/net is read");
        by_proc(protocol, local, remote)
    })
}

fn ask_kernel(protocol: Protocol, local: SocketAddr, remote: SocketAddr) -> io::Result<Owner> {
    let kernel =
        socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    send(kernel.as_raw_fd(), &question(protocol, local, remote), MsgFlags::empty())?;
    let mut answer = [0; 4096];
    let length = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    read(answer.get(..length).unwrap_or_default())
}

/// A netlink message with an `inet_diag_req_v2` for one socket.
fn question(protocol: Protocol, local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let (family, number) = (
        if local.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 },
        match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        },
    );
    // For UDP the kernel takes source and destination the other way round.
    let [from, to] = if protocol == Protocol::Udp { [remote, local] } else { [local, remote] };
    let mut request = vec![family as u8, number, 0, 0];
    request.extend(u32::MAX.to_ne_bytes());
    request.extend([from.port(), to.port()].into_iter().flat_map(u16::to_be_bytes));
    request.extend([from, to].into_iter().flat_map(sixteen));
    // Any interface; no cookie.
    request.extend(0_u32.to_ne_bytes());
    request.extend([0xff; 8]);
    let request_flag = 1_u16;
    let mut message = Vec::new();
    message.extend(u32::try_from(16 + request.len()).unwrap_or_default().to_ne_bytes());
    message.extend([SOCK_DIAG_BY_FAMILY, request_flag].into_iter().flat_map(u16::to_ne_bytes));
    message.extend([1_u32, 0].into_iter().flat_map(u32::to_ne_bytes));
    message.extend(request);
    message
}

/// An address in the sixteen bytes that there are for it.
fn sixteen(address: SocketAddr) -> [u8; 16] {
    let mut bytes = [0; 16];
    match address.ip() {
        IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes = ip.octets(),
    }
    bytes
}

fn read(answer: &[u8]) -> io::Result<Owner> {
    let four = |at: usize| answer.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let kind =
        answer.get(AT_TYPE..AT_TYPE + 2).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok()).map(u16::from_ne_bytes);
    match (kind, four(AT_ERROR), four(AT_USER)) {
        (Some(SOCK_DIAG_BY_FAMILY), _, Some(user)) => Ok(Owner::User(u32::from_ne_bytes(user))),
        (Some(NLMSG_ERROR), Some(error), _) => match i32::from_ne_bytes(error).saturating_neg() {
            error if error == nix::errno::Errno::ENOENT as i32 => Ok(Owner::Nobody),
            error => Err(io::Error::from_raw_os_error(error)),
        },
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn by_proc(protocol: Protocol, local: SocketAddr, remote: SocketAddr) -> Owner {
    let file = format!("net/{}{}", protocol.as_str(), if local.is_ipv4() { "" } else { "6" });
    let table = match procfs::read_to_string(&file) {
        Ok(table) => table,
        Err(error) => {
            tracing::warn!("failed to read /proc/{file}: {error}; whoever asks for endpoints on this host is answered");
            return Owner::Untold;
        }
    };
    let (local, remote) = (as_proc_writes(local), as_proc_writes(remote));
    let users = table.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let is_local = words.next()? == local;
        // A port may have connections to several addresses; a UDP socket need not be connected.
        let is_remote = words.next()? == remote || protocol == Protocol::Udp;
        (is_local && is_remote).then(|| words.nth(4)?.parse().ok())?
    });
    let users: std::collections::BTreeSet<u32> = users.collect();
    match users.first() {
        Some(user) if users.len() == 1 => Owner::User(*user),
        _ => Owner::Nobody,
    }
}

/// As `/proc/net/udp` has it: the address in groups of four bytes, each as the machine stores numbers.
fn as_proc_writes(address: SocketAddr) -> String {
    use std::fmt::Write as _;
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut text = String::new();
    for group in octets.chunks_exact(4) {
        let number = u32::from_ne_bytes([group[0], group[1], group[2], group[3]]);
        // Writing to a String cannot fail.
        let _ = write!(text, "{number:08X}");
    }
    let _ = write!(text, ":{:04X}", address.port());
    text
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn me() -> Owner {
        Owner::User(nix::unistd::geteuid().as_raw())
    }

    #[test]
    fn the_owner_of_a_socket_is_found_in_either_way() {
        for find in [best().0, by_proc] {
            for bind in ["127.0.0.1:0", "[::1]:0"] {
                let Ok(responder) = UdpSocket::bind(bind) else { continue };
                let at = responder.local_addr().expect("an address");
                let socket = UdpSocket::bind(bind).expect("a socket");
                let address = socket.local_addr().expect("an address");
                assert_eq!(find(Protocol::Udp, address, at), me(), "{bind}");
                socket.connect(at).expect("connected");
                assert_eq!(find(Protocol::Udp, address, at), me(), "{bind}");
                drop(socket);
                // A program that another test starts has it too, until it is executed.
                let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
                while find(Protocol::Udp, address, at) != Owner::Nobody {
                    assert!(std::time::Instant::now() < deadline, "{bind}");
                }
            }
        }
    }

    #[test]
    fn the_owner_of_a_connection_is_found_in_either_way() {
        for find in [best().0, by_proc] {
            for bind in ["127.0.0.1:0", "[::1]:0"] {
                let Ok(listener) = TcpListener::bind(bind) else { continue };
                let at = listener.local_addr().expect("an address");
                let client = TcpStream::connect(at).expect("connected");
                let address = client.local_addr().expect("an address");
                assert_eq!(find(Protocol::Tcp, address, at), me(), "{bind}");
                let elsewhere = SocketAddr::new(at.ip(), at.port() ^ 1);
                assert_eq!(find(Protocol::Tcp, address, elsewhere), Owner::Nobody, "{bind}");
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for length in [0, 3, 16, 20, 83] {
            assert!(read(&vec![0; length]).is_err());
        }
    }
}

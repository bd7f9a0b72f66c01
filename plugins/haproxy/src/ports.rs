//! Whether a port can be bound, and who has it: HAProxy's check binds nothing, and a reload that cannot bind one port fails as a whole.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use lbex_plugin_sdk::Refusal;
use nix::errno::Errno;
use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{FDTarget, Process, all_processes};
use socket2::{Domain, Protocol, Socket, Type};

use crate::render::refusal;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its short name.
    pub name: String,
}

/// Binds a TCP listener and lets it go again. An error: why nobody can listen there. Ports of the processes in `ours` count as free.
pub fn probe(address: SocketAddr, ours: &[u32]) -> Result<(), Refusal> {
    let Err(error) = bind(address) else { return Ok(()) };
    let port = address.port();
    let refused =
        |code: &str, why: String| Err(refusal(Some(port), code, format!("port {port} at {}: {why}", address.ip())));
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => {
            let why = match holder(address) {
                Some(holder) if ours.contains(&holder.pid) => return Ok(()),
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
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

fn holder(address: SocketAddr) -> Option<Holder> {
    // An IPv6 socket that takes IPv4 too stands in the IPv6 table alone: both tables are looked at.
    let tables = [procfs::net::tcp(), procfs::net::tcp6()];
    let inodes: Vec<u64> = tables
        .into_iter()
        .filter_map(Result::ok)
        .flatten()
        .filter(|entry| in_the_way(entry, address))
        .map(|entry| entry.inode)
        .collect();
    let holds = |process: &Process| {
        process.fd().is_ok_and(|descriptors| {
            let mut targets = descriptors.filter_map(Result::ok).map(|descriptor| descriptor.target);
            targets.any(|target| matches!(target, FDTarget::Socket(inode) if inodes.contains(&inode)))
        })
    };
    if inodes.is_empty() {
        return None;
    }
    let process = all_processes().ok()?.filter_map(Result::ok).find(holds)?;
    let name = process.stat().map_or_else(|_| "a process".to_owned(), |stat| stat.comm);
    Some(Holder { pid: u32::try_from(process.pid).ok()?, name })
}

fn in_the_way(entry: &TcpNetEntry, address: SocketAddr) -> bool {
    let bound = entry.local_address;
    if entry.state != TcpState::Listen || bound.port() != address.port() {
        return false;
    }
    let both_families = bound.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && address.is_ipv4();
    let one_family = bound.is_ipv4() == address.is_ipv4();
    let overlap = bound.ip() == address.ip() || bound.ip().is_unspecified() || address.ip().is_unspecified();
    both_families || (one_family && overlap)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_that_is_taken_is_told_with_its_holder_and_ours_is_free() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let refusal = probe(address, &[]).unwrap_err();
        let words = format!("(process {})", std::process::id());
        assert!(refusal.code == "PortInUse" && refusal.retry && refusal.message.contains(&words), "{refusal:?}");
        // All addresses include that one.
        let refusal = probe(SocketAddr::from(([0, 0, 0, 0], address.port())), &[]).unwrap_err();
        assert!(refusal.message.contains(&words), "{refusal:?}");
        assert_eq!(probe(address, &[std::process::id()]), Ok(()));
        drop(held);
        assert_eq!(probe(address, &[]), Ok(()));
    }

    #[test]
    fn an_address_of_nobody_here_is_told() {
        let refusal = probe("192.0.2.1:8080".parse().unwrap(), &[]).unwrap_err();
        assert_eq!((refusal.code.as_str(), refusal.retry), ("AddressNotAvailable", true));
    }
}

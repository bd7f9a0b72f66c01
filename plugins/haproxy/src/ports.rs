//! Whether a port can be bound, and who has it: HAProxy's check binds nothing, and a reload that cannot bind one port fails as a whole.

use std::cell::OnceCell;
use std::collections::HashMap;
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

/// Who listens on this host, read when it is first asked for: all processes are looked through for that.
#[derive(Debug, Default)]
pub struct Holders {
    ours: Vec<u32>,
    found: OnceCell<Found>,
}

/// What listens, and which process has which socket.
type Found = (Vec<TcpNetEntry>, HashMap<u64, i32>);

impl Holders {
    /// Ports of these processes count as free.
    pub fn new(ours: Vec<u32>) -> Self {
        Self { ours, found: OnceCell::new() }
    }

    /// Who keeps `address` from being bound; `None`: that cannot be seen from here.
    fn of(&self, address: SocketAddr) -> Option<Holder> {
        let (listening, owners) = self.found.get_or_init(look);
        let mut in_the_way = listening.iter().filter(|entry| in_the_way(entry, address));
        let pid = in_the_way.find_map(|entry| owners.get(&entry.inode)).copied()?;
        let name = Process::new(pid).and_then(|process| process.stat());
        let name = name.map_or_else(|_| "a process".to_owned(), |stat| stat.comm);
        Some(Holder { pid: u32::try_from(pid).ok()?, name })
    }
}

fn look() -> Found {
    // An IPv6 socket that takes IPv4 too stands in the IPv6 table alone: both tables are looked at.
    let tables = [procfs::net::tcp(), procfs::net::tcp6()].into_iter().filter_map(Result::ok).flatten();
    let listening = tables.filter(|entry| entry.state == TcpState::Listen).collect();
    let mut owners = HashMap::new();
    for process in all_processes().into_iter().flatten().filter_map(Result::ok) {
        for descriptor in process.fd().into_iter().flatten().filter_map(Result::ok) {
            if let FDTarget::Socket(inode) = descriptor.target {
                owners.insert(inode, process.pid);
            }
        }
    }
    (listening, owners)
}

/// Binds a TCP listener and lets it go again. An error: why nobody can listen there.
pub fn probe(address: SocketAddr, holders: &Holders) -> Result<(), Refusal> {
    let Err(error) = bind(address) else { return Ok(()) };
    let port = address.port();
    let refused =
        |code: &str, why: String| Err(refusal(Some(port), code, format!("port {port} at {}: {why}", address.ip())));
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => {
            let why = match holders.of(address) {
                Some(holder) if holders.ours.contains(&holder.pid) => return Ok(()),
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

fn in_the_way(entry: &TcpNetEntry, address: SocketAddr) -> bool {
    let bound = entry.local_address;
    if bound.port() != address.port() {
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
        let refusal = probe(address, &Holders::default()).unwrap_err();
        let words = format!("(process {})", std::process::id());
        assert!(refusal.code == "PortInUse" && refusal.retry && refusal.message.contains(&words), "{refusal:?}");
        // All addresses include that one.
        let refusal = probe(SocketAddr::from(([0, 0, 0, 0], address.port())), &Holders::default()).unwrap_err();
        assert!(refusal.message.contains(&words), "{refusal:?}");
        assert_eq!(probe(address, &Holders::new(vec![std::process::id()])), Ok(()));
        drop(held);
        assert_eq!(probe(address, &Holders::default()), Ok(()));
    }

    #[test]
    fn an_address_of_nobody_here_is_told() {
        let refusal = probe("192.0.2.1:8080".parse().unwrap(), &Holders::default()).unwrap_err();
        assert_eq!((refusal.code.as_str(), refusal.retry), ("AddressNotAvailable", true));
    }
}

//! Which process has a port of this host.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use lbex_plugin_sdk::Protocol;
use procfs::net::{TcpState, UdpState};
use procfs::process::{FDTarget, Process, all_processes};

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
    sockets: OnceCell<Vec<Bound>>,
    owners: OnceCell<HashMap<u64, i32>>,
}

/// A socket that takes what anybody sends.
#[derive(Debug)]
struct Bound {
    protocol: Protocol,
    address: SocketAddr,
    inode: u64,
}

impl Holders {
    /// Ports of these processes count as free.
    pub fn new(ours: Vec<u32>) -> Self {
        Self { ours, ..Self::default() }
    }

    /// Whether a process is one of those whose ports count as free.
    pub fn is_ours(&self, holder: &Holder) -> bool {
        self.ours.contains(&holder.pid)
    }

    /// Whether a socket has `address`, or one that covers it or that it covers.
    pub fn is_taken(&self, protocol: Protocol, address: SocketAddr) -> bool {
        self.in_the_way(protocol, address).next().is_some()
    }

    /// Who keeps `address` from being bound; `None`: that cannot be seen from here.
    pub fn of(&self, protocol: Protocol, address: SocketAddr) -> Option<Holder> {
        let owners = self.owners.get_or_init(owners);
        let pid = self.in_the_way(protocol, address).find_map(|bound| owners.get(&bound.inode)).copied()?;
        let name = Process::new(pid).and_then(|process| process.stat());
        let name = name.map_or_else(|_| "a process".to_owned(), |stat| stat.comm);
        Some(Holder { pid: u32::try_from(pid).ok()?, name })
    }

    fn in_the_way(&self, protocol: Protocol, address: SocketAddr) -> impl Iterator<Item = &Bound> {
        let sockets = self.sockets.get_or_init(sockets);
        sockets.iter().filter(move |bound| bound.protocol == protocol && overlap(bound.address, address))
    }
}

/// An IPv6 socket that takes IPv4 too stands in the IPv6 table alone: both tables are looked at.
fn sockets() -> Vec<Bound> {
    let tcp = [procfs::net::tcp(), procfs::net::tcp6()].into_iter().filter_map(Result::ok).flatten();
    let tcp = tcp.filter(|entry| entry.state == TcpState::Listen);
    let tcp = tcp.map(|entry| Bound { protocol: Protocol::Tcp, address: entry.local_address, inode: entry.inode });
    let udp = [procfs::net::udp(), procfs::net::udp6()].into_iter().filter_map(Result::ok).flatten();
    let udp = udp.filter(|entry| entry.state == UdpState::Close);
    let udp = udp.map(|entry| Bound { protocol: Protocol::Udp, address: entry.local_address, inode: entry.inode });
    tcp.chain(udp).collect()
}

/// The process with the lowest number of those that have a socket: a master rather than its workers, and the parent of a child that executes
/// something else in a moment.
fn owners() -> HashMap<u64, i32> {
    let mut owners = HashMap::new();
    for process in all_processes().into_iter().flatten().filter_map(Result::ok) {
        for descriptor in process.fd().into_iter().flatten().filter_map(Result::ok) {
            if let FDTarget::Socket(inode) = descriptor.target {
                owners.entry(inode).and_modify(|pid: &mut i32| *pid = process.pid.min(*pid)).or_insert(process.pid);
            }
        }
    }
    owners
}

fn overlap(bound: SocketAddr, address: SocketAddr) -> bool {
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
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn holder(protocol: Protocol, address: SocketAddr) -> Option<u32> {
        let holders = Holders::default();
        let found = holders.of(protocol, address).map(|holder| holder.pid);
        assert_eq!(holders.is_taken(protocol, address), found.is_some());
        found
    }

    #[test]
    fn a_port_that_is_taken_has_its_holder_at_every_address_that_covers_it() {
        let this = Some(std::process::id());
        let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let (tcp_at, udp_at) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
        assert_eq!((holder(Protocol::Tcp, tcp_at), holder(Protocol::Udp, udp_at)), (this, this));
        let everywhere = |at: SocketAddr| SocketAddr::from(([0, 0, 0, 0], at.port()));
        assert_eq!(holder(Protocol::Tcp, everywhere(tcp_at)), this);
        assert_eq!(holder(Protocol::Udp, everywhere(udp_at)), this);
        let elsewhere = SocketAddr::from(([127, 0, 0, 2], udp_at.port()));
        assert_eq!(holder(Protocol::Udp, elsewhere), None);
        // It talks to one client, and takes nobody else's.
        udp.connect("127.0.0.1:9").unwrap();
        assert_eq!(holder(Protocol::Udp, udp_at), None);
        drop(tcp);
        assert_eq!(holder(Protocol::Tcp, tcp_at), None);
    }
}

//! Tries new listeners before NGINX is told of them (design, invariant 6).
//!
//! `nginx -t` ignores ports that are in use, and a reload that cannot bind one port fails as a whole. So each new
//! listener is bound here first, and let go again. Listeners that NGINX has already must not be probed: they are in
//! use, by NGINX.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::process::{proc, procfs};

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// A process that holds a port, as far as this user may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortHolder {
    /// Its process id.
    pub pid: i32,
    /// Its short name.
    pub name: String,
}

/// Whether NGINX could listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It could, a moment ago.
    Free,
    /// Somebody else does.
    InUse {
        /// Who; `None` if that cannot be seen from here (another user's process, another container's).
        holder: Option<PortHolder>,
    },
    /// A port below the first unprivileged one, and no right to it.
    NoPermission {
        /// The lowest port that needs no right (`net.ipv4.ip_unprivileged_port_start`).
        first_unprivileged: u16,
    },
    /// No interface of this host has the address.
    AddressNotAvailable,
    /// Something else.
    Failed {
        /// What the system said.
        reason: String,
    },
}

impl Probe {
    /// Whether NGINX could listen.
    pub fn is_free(&self) -> bool {
        matches!(self, Self::Free)
    }
}

impl fmt::Display for Probe {
    /// A sentence for the owner of the Service, without the address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("free"),
            Self::InUse { holder: Some(PortHolder { pid, name }) } => write!(f, "in use by {name} (process {pid})"),
            Self::InUse { holder: None } => f.write_str("in use by another process"),
            Self::NoPermission { first_unprivileged } => write!(
                f,
                "ports below {first_unprivileged} need root, the capability CAP_NET_BIND_SERVICE, or a lower \
                 net.ipv4.ip_unprivileged_port_start"
            ),
            Self::AddressNotAvailable => f.write_str("no interface of this host has that address"),
            Self::Failed { reason } => f.write_str(reason),
        }
    }
}

/// Binds a listener and lets it go again. Blocking, and short.
///
/// TCP with `SO_REUSEADDR`, bound and listened on, or connections in TIME_WAIT would look like a conflict; UDP with
/// no option at all, since `SO_REUSEADDR` would let it share the port. IPv6 is bound for IPv6 alone, as NGINX does.
pub fn probe(transport: Transport, address: SocketAddr) -> Probe {
    probe_some(&[(transport, address)], &BTreeSet::new()).pop().unwrap_or(Probe::Free)
}

/// [`probe`] for several. Who holds those that are in use is looked for in one go, and among these processes first: to read what all
/// processes of a busy host have open takes seconds.
fn probe_some(listeners: &[(Transport, SocketAddr)], first: &BTreeSet<i32>) -> Vec<Probe> {
    let mut probes: Vec<Probe> = listeners.iter().map(|(transport, address)| try_once(*transport, *address)).collect();
    if !probes.iter().any(|probe| matches!(probe, Probe::InUse { .. })) {
        return probes;
    }
    let tables = [Transport::Tcp, Transport::Udp].map(|transport| (transport, table(transport)));
    let in_the_way = |(transport, address): &(Transport, SocketAddr)| -> BTreeSet<u64> {
        let lines = tables.iter().filter(|(of, _)| of == transport).flat_map(|(_, text)| text.lines());
        lines.filter_map(|line| in_the_way(line, *transport, *address)).collect()
    };
    let inodes: Vec<BTreeSet<u64>> = probes
        .iter()
        .zip(listeners)
        .map(|(probe, listener)| match probe {
            Probe::InUse { .. } => in_the_way(listener),
            _ => BTreeSet::new(),
        })
        .collect();
    let holders = proc::holders_of_sockets(inodes.iter().flatten().copied().collect(), first);
    for (probe, inodes) in probes.iter_mut().zip(inodes) {
        if let Some(pid) = inodes.iter().find_map(|inode| holders.get(inode)).copied() {
            let name = proc::name(pid).unwrap_or_else(|| "a process".to_owned());
            *probe = Probe::InUse { holder: Some(PortHolder { pid, name }) };
        }
    }
    probes
}

/// Does not say who holds one that is in use.
fn try_once(transport: Transport, address: SocketAddr) -> Probe {
    let error = match bind(transport, address) {
        Ok(()) => return Probe::Free,
        Err(error) => error,
    };
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => Probe::InUse { holder: None },
        Some(Errno::EACCES) => Probe::NoPermission { first_unprivileged: first_unprivileged_port() },
        Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT) => Probe::AddressNotAvailable,
        Some(errno) => Probe::Failed { reason: errno.desc().to_owned() },
        None => Probe::Failed { reason: error.to_string() },
    }
}

/// [`probe`] for several listeners at once, in their order, away from the async runtime.
///
/// They are tried one by one: two of them that exclude each other are both free. The planner sees to those. `first`: processes that
/// most likely hold those that are in use.
pub async fn probe_all(listeners: Vec<(Transport, SocketAddr)>, first: BTreeSet<i32>) -> Vec<Probe> {
    proc::blocking(move || probe_some(&listeners, &first)).await
}

/// Whether this host can listen on IPv6 at all.
pub fn ipv6_available() -> bool {
    bind(Transport::Tcp, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))).is_ok()
}

fn bind(transport: Transport, address: SocketAddr) -> io::Result<()> {
    let domain = Domain::for_address(address);
    let socket = match transport {
        Transport::Tcp => Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?,
        Transport::Udp => Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?,
    };
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    match transport {
        Transport::Tcp => {
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(1)
        }
        Transport::Udp => socket.bind(&address.into()),
    }
}

fn first_unprivileged_port() -> u16 {
    let text = procfs::read_to_string("sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

/// The sockets of this network namespace, a line each.
fn table(transport: Transport) -> String {
    // An IPv6 socket that takes IPv4 too stands in the IPv6 table alone: both tables are looked at.
    let tables = match transport {
        Transport::Tcp => ["net/tcp", "net/tcp6"],
        Transport::Udp => ["net/udp", "net/udp6"],
    };
    tables.into_iter().filter_map(|table| procfs::read_to_string(table).ok()).collect()
}

/// The inode of a socket in a line of `/proc/net/tcp` and its like, if that socket keeps `address` from being bound.
fn in_the_way(line: &str, transport: Transport, address: SocketAddr) -> Option<u64> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let bound = parse_address(fields.get(1)?)?;
    if bound.port() != address.port() || (transport == Transport::Tcp && *fields.get(3)? != LISTEN) {
        return None;
    }
    let both_families = bound.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && address.is_ipv4();
    let one_family = bound.is_ipv4() == address.is_ipv4();
    let overlap = bound.ip() == address.ip() || bound.ip().is_unspecified() || address.ip().is_unspecified();
    if both_families || (one_family && overlap) { fields.get(9)?.parse().ok() } else { None }
}

/// `0100007F:1F90`: words of the address in the machine's byte order, and the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(index * 8)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::time::{Duration, Instant};

    use super::*;

    fn ourselves() -> Probe {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        Probe::InUse { holder: Some(PortHolder { pid, name: proc::name(pid).expect("a name") }) }
    }

    /// A child that another test is just starting has a copy of our sockets until it runs its program.
    fn becomes_free(transport: Transport, address: SocketAddr) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while probe(transport, address) != Probe::Free {
            assert!(Instant::now() < deadline, "{transport} {address} stays in use");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_listener_in_use_names_the_process_that_holds_it() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = tcp.local_addr().expect("an address");
        assert_eq!(probe(Transport::Tcp, address), ourselves());
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        assert_eq!(probe(Transport::Tcp, everywhere), ourselves());
        let udp = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let address = udp.local_addr().expect("an address");
        assert_eq!(probe(Transport::Udp, address), ourselves());
        let text = probe(Transport::Udp, address).to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        drop(udp);
        becomes_free(Transport::Udp, address);
    }

    #[test]
    fn a_udp_port_that_its_holder_would_share_counts_as_taken() {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("set");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("bound");
        let address = socket.local_addr().expect("an address").as_socket().expect("an IP address");
        assert_eq!(probe(Transport::Udp, address), ourselves());
    }

    #[test]
    fn connections_in_time_wait_are_no_conflict() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        let client = TcpStream::connect(address).expect("connected");
        let (server, _) = listener.accept().expect("accepted");
        drop(server); // The listening side closes first: its port stays in TIME_WAIT.
        drop(client);
        drop(listener);
        becomes_free(Transport::Tcp, address);
    }

    #[test]
    fn ipv4_and_ipv6_of_one_port_do_not_exclude_each_other() {
        if !ipv6_available() {
            return;
        }
        let v4 = TcpListener::bind("0.0.0.0:0").expect("bound");
        let port = v4.local_addr().expect("an address").port();
        assert_eq!(probe(Transport::Tcp, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))), Probe::Free);
    }

    #[test]
    fn an_address_of_no_interface_is_told_apart() {
        let address = SocketAddr::from(([192, 0, 2, 1], 4000));
        assert_eq!(probe(Transport::Tcp, address), Probe::AddressNotAvailable);
        assert_eq!(probe(Transport::Udp, address), Probe::AddressNotAvailable);
    }

    #[test]
    fn addresses_of_the_kernels_tables_are_read() {
        assert_eq!(parse_address("0100007F:1F90"), Some("127.0.0.1:8080".parse().expect("an address")));
        assert_eq!(
            parse_address("00000000000000000000000001000000:0016"),
            Some("[::1]:22".parse().expect("an address"))
        );
        assert_eq!(parse_address("rubbish"), None);
    }

    #[test]
    fn the_missing_right_is_explained() {
        let text = Probe::NoPermission { first_unprivileged: 1024 }.to_string();
        assert!(text.contains("below 1024") && text.contains("CAP_NET_BIND_SERVICE"), "{text}");
    }
}

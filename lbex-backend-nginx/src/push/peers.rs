//! Who asks. Any local user may send datagrams to the responder; only NGINX's sockets count.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How many sockets are remembered. NGINX has one, and one more for each reload whose workers still drain.
const MOST: usize = 1024;

/// How often `/proc/net` is read because of sockets that are not known, at the most.
const EVERY: Duration = Duration::from_millis(20);

/// For how long what was found out about a socket holds: its port may have another owner then.
const LASTS: Duration = Duration::from_secs(30);

/// Which local sockets belong to NGINX.
#[derive(Debug)]
pub(super) struct Peers {
    /// Users that NGINX's workers may run as.
    users: Vec<u32>,
    /// What is known: since when, and whether it is NGINX's.
    known: HashMap<SocketAddr, (Duration, bool)>,
    looked: Option<Duration>,
    read: fn(SocketAddr) -> Owner,
}

impl Peers {
    /// Sockets of these users count.
    pub(super) fn new(users: Vec<u32>) -> Self {
        Self { users, known: HashMap::new(), looked: None, read: owner_of }
    }

    /// Whether a datagram from there is NGINX's. One from a socket that there was no time to look at yet is not; NGINX repeats it.
    pub(super) fn is_nginx(&mut self, now: Duration, from: SocketAddr) -> bool {
        if let Some((since, is)) = self.known.get(&from)
            && *since + LASTS > now
        {
            return *is;
        }
        if self.looked.is_some_and(|at| at + EVERY > now) {
            return false;
        }
        if self.known.len() >= MOST {
            self.known.retain(|_, (since, is)| *is && *since + LASTS > now);
        }
        if self.known.len() >= MOST {
            self.known.clear();
        }
        let is = match (self.read)(from) {
            Owner::User(user) => self.users.contains(&user),
            Owner::Nobody => false,
            Owner::Untold => true,
        };
        if !is {
            // Only strangers are slowed down.
            self.looked = Some(now);
        }
        self.known.insert(from, (now, is));
        is
    }
}

/// Who has a local socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    User(u32),
    Nobody,
    /// This host does not tell: it has no `/proc`.
    Untold,
}

/// The user whose UDP socket is bound to this local address.
fn owner_of(address: SocketAddr) -> Owner {
    let file = if address.is_ipv4() { "/proc/net/udp" } else { "/proc/net/udp6" };
    let table = match std::fs::read_to_string(file) {
        Ok(table) => table,
        Err(error) => {
            tracing::warn!("failed to read {file}: {error}; whoever asks for endpoints on this host is answered");
            return Owner::Untold;
        }
    };
    let wanted = as_proc_writes(address);
    let user = table.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let local = words.nth(1)?;
        (local == wanted).then(|| words.nth(5)?.parse().ok())?
    });
    user.map_or(Owner::Nobody, Owner::User)
}

/// As `/proc/net/udp` has it: the address in groups of four bytes, each as the machine stores numbers.
fn as_proc_writes(address: SocketAddr) -> String {
    use std::fmt::Write as _;
    let octets = match address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
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
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_owner_of_a_socket_is_found() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(socket) = UdpSocket::bind(bind) else { continue };
            let address = socket.local_addr().expect("an address");
            assert_eq!(owner_of(address), Owner::User(nix::unistd::geteuid().as_raw()), "{bind}");
            drop(socket);
            assert_eq!(owner_of(address), Owner::Nobody, "{bind}");
        }
    }

    #[test]
    fn strangers_are_refused_and_cost_little() {
        let mut peers = Peers { read: |from| Owner::User(u32::from(from.port())), ..Peers::new(vec![33]) };
        let from = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let second = Duration::from_secs(1);
        assert!(peers.is_nginx(second, from(33)));
        assert!(!peers.is_nginx(second, from(34)));
        // Not looked at so soon after a stranger, and later it is.
        peers.users.push(35);
        assert!(!peers.is_nginx(second, from(35)));
        assert!(peers.is_nginx(second * 2, from(35)));
        for port in 1000..5000 {
            assert!(!peers.is_nginx(second * u32::from(port), from(port)));
        }
        assert!(peers.known.len() <= MOST);
    }

    #[test]
    fn a_port_may_get_another_owner() {
        let mut peers = Peers { read: |_| Owner::User(33), ..Peers::new(vec![33]) };
        let from = SocketAddr::from(([127, 0, 0, 1], 1000));
        assert!(peers.is_nginx(Duration::ZERO, from));
        peers.read = |_| Owner::User(34);
        assert!(peers.is_nginx(Duration::from_secs(29), from));
        assert!(!peers.is_nginx(Duration::from_secs(31), from));
    }
}

//! Who asks. Any local user may send datagrams to the responder; only NGINX's sockets count.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use lbex_core::model::Protocol;

use super::owner::{self, Cost, Find, Owner};

/// How many sockets are remembered. NGINX has one, and one more for each reload whose workers still drain.
const MOST: usize = 1024;

/// Where finding out costs much: the pause after a stranger's socket was looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// The same to see whether sockets are still there.
const GONE_EVERY: Duration = Duration::from_millis(50);

/// For how long what was found out about a socket holds: its port may have another owner then.
const LASTS: Duration = Duration::from_secs(2);

/// Tells NGINX's sockets from those of others.
#[derive(Debug, Clone)]
pub(super) struct Owners {
    /// Users that NGINX's workers may run as.
    users: Vec<u32>,
    /// Where the responder answers.
    at: SocketAddr,
    find: Find,
    /// After a stranger nobody is looked at for so long.
    pub(super) pause: Duration,
}

impl Owners {
    /// Sockets of these users count.
    pub(super) fn new(users: Vec<u32>, at: SocketAddr) -> Self {
        let (find, cost) = owner::best();
        let pause = if cost == Cost::Little { Duration::ZERO } else { PAUSE };
        Self { users, at, find, pause }
    }

    /// Whether NGINX's is the socket at `from`.
    pub(super) fn is_nginx(&self, protocol: Protocol, from: SocketAddr) -> bool {
        match (self.find)(protocol, from, self.at) {
            Owner::User(user) => self.users.contains(&user),
            Owner::Nobody => false,
            Owner::Untold => true,
        }
    }

    /// Whether there is no UDP socket at `from` any more.
    fn is_closed(&self, from: SocketAddr) -> bool {
        (self.find)(Protocol::Udp, from, self.at) == Owner::Nobody
    }
}

/// Which local UDP sockets belong to NGINX, as far as is known.
#[derive(Debug)]
pub(super) struct Peers {
    owners: Owners,
    /// What is known: since when, and whether it is NGINX's.
    known: HashMap<SocketAddr, (Duration, bool)>,
    looked: Option<Duration>,
    looked_for_gone: Option<Duration>,
}

impl Peers {
    pub(super) fn new(owners: Owners) -> Self {
        Self { owners, known: HashMap::new(), looked: None, looked_for_gone: None }
    }

    /// Whether a datagram from there is NGINX's. One from a socket that there was no time to look at yet is not; NGINX repeats it.
    pub(super) fn is_nginx(&mut self, now: Duration, from: SocketAddr) -> bool {
        if let Some((since, is)) = self.known.get(&from)
            && *since + LASTS > now
        {
            return *is;
        }
        if self.looked.is_some_and(|at| at + self.owners.pause > now) {
            return false;
        }
        if self.known.len() >= MOST {
            self.known.retain(|_, (since, is)| *is && *since + LASTS > now);
        }
        if self.known.len() >= MOST {
            self.known.clear();
        }
        let is = self.owners.is_nginx(Protocol::Udp, from);
        if !is {
            // Only strangers are slowed down.
            self.looked = Some(now);
        }
        self.known.insert(from, (now, is));
        is
    }

    /// Those of these sockets that are not there any more: a worker was killed. Says of none where it was asked just before; who asks
    /// does so again.
    pub(super) fn gone(&mut self, now: Duration, doubted: BTreeSet<SocketAddr>) -> Vec<SocketAddr> {
        if doubted.is_empty() || self.looked_for_gone.is_some_and(|at| at + GONE_EVERY > now) {
            return Vec::new();
        }
        self.looked_for_gone = Some(now);
        let gone: Vec<_> = doubted.into_iter().filter(|from| self.owners.is_closed(*from)).collect();
        self.known.retain(|from, _| !gone.contains(from));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket belongs to the user whose number is its port.
    fn peers(users: &[u32], pause: Duration) -> Peers {
        let find: Find = |_, from, _| Owner::User(u32::from(from.port()));
        Peers::new(Owners { users: users.to_vec(), at: from(1), find, pause })
    }

    fn from(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn strangers_are_refused_and_cost_little() {
        let mut peers = peers(&[33], PAUSE);
        let second = Duration::from_secs(1);
        assert!(peers.is_nginx(second, from(33)));
        assert!(!peers.is_nginx(second, from(34)));
        // Not looked at so soon after a stranger, and later it is.
        peers.owners.users.push(35);
        assert!(!peers.is_nginx(second, from(35)));
        assert!(peers.is_nginx(second * 2, from(35)));
        for port in 1000..5000 {
            assert!(!peers.is_nginx(second * u32::from(port), from(port)));
        }
        assert!(peers.known.len() <= MOST);
    }

    #[test]
    fn sockets_that_are_closed_are_gone() {
        let find: Find = |_, from, _| if from.port() == 7 { Owner::Nobody } else { Owner::User(33) };
        let mut peers = Peers::new(Owners { users: vec![33], at: from(1), find, pause: Duration::ZERO });
        let second = Duration::from_secs(1);
        assert_eq!(peers.gone(second, BTreeSet::new()), []);
        assert_eq!(peers.gone(second, [from(6), from(7)].into()), [from(7)]);
        assert_eq!(peers.gone(second, [from(7)].into()), [], "looked so soon");
        assert_eq!(peers.gone(second * 2, [from(7)].into()), [from(7)]);
    }

    #[test]
    fn a_flood_of_strangers_does_not_keep_nginx_out() {
        let mut peers = peers(&[33, 34], Duration::ZERO);
        for strangers in 0..5000_u16 {
            let now = Duration::from_millis(strangers.into());
            assert!(!peers.is_nginx(now, from(1000 + strangers)));
            assert!(peers.is_nginx(now, from(33 + strangers % 2)), "after {strangers}");
        }
    }

    #[test]
    fn a_port_may_get_another_owner() {
        let mut peers = peers(&[33], PAUSE);
        assert!(peers.is_nginx(Duration::ZERO, from(33)));
        peers.owners.users = vec![34];
        assert!(peers.is_nginx(Duration::from_millis(1999), from(33)));
        assert!(!peers.is_nginx(LASTS, from(33)));
    }
}

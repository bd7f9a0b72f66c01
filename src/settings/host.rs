//! What settings depend on besides what was given: facts about the host and the user.

use std::net::{Ipv6Addr, UdpSocket};

/// Facts about the host that defaults depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Whether something can listen on `::`.
    pub ipv6: bool,
    /// Whether LBEX runs as root.
    pub root: bool,
}

impl Host {
    /// Looks at the host: binds a UDP socket on `[::]` for a moment, and asks who runs this process.
    pub fn look() -> Self {
        Self { ipv6: UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok(), root: nix::unistd::geteuid().is_root() }
    }
}

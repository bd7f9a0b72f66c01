//! Which addresses traffic may be sent to, and which are this host's own.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What makes an address one that whoever writes endpoints must not reach through LBEX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Special {
    /// `127.0.0.0/8`, `::1`: what listens on LBEX's own host.
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10`: neighbours of LBEX's host; the metadata service of most clouds.
    LinkLocal,
    /// The metadata services of clouds elsewhere.
    Metadata,
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Metadata => "of a cloud's metadata service",
        })
    }
}

/// Metadata services that are not link-local: Azure, Alibaba Cloud; AWS, Google Cloud, Oracle Cloud.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200)];
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];

impl Special {
    /// What an address is. IPv4 inside IPv6 (mapped, compatible, NAT64) is judged as IPv4.
    pub fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(v4) if v4.is_loopback() => Some(Self::Loopback),
            IpAddr::V4(v4) if v4.is_link_local() => Some(Self::LinkLocal),
            IpAddr::V4(v4) => METADATA_V4.contains(&v4).then_some(Self::Metadata),
            IpAddr::V6(v6) if v6.is_loopback() => Some(Self::Loopback),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(Self::LinkLocal),
            IpAddr::V6(v6) if METADATA_V6.contains(&v6) => Some(Self::Metadata),
            IpAddr::V6(v6) => inside(v6).and_then(|v4| Self::of(v4.into())),
        }
    }
}

/// Prefixes of IPv6 addresses that end in an IPv4 address: mapped, compatible, NAT64.
const HOLD_V4: [[u8; 12]; 3] =
    [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff], [0; 12], [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]];

/// The IPv4 address inside an IPv6 one.
fn inside(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = v6.octets();
    let (prefix, v4) = octets.split_last_chunk::<4>()?;
    HOLD_V4.iter().any(|holds| holds == prefix).then(|| Ipv4Addr::from(*v4))
}

/// What endpoints and ClusterIPs may be. Node addresses are the operator's own and not judged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointRules {
    trusted: bool,
    allow: Vec<IpNet>,
}

impl EndpointRules {
    /// For objects of an API server, which many may write: no [`Special`] address but those in `allow`
    /// (`--allow-endpoint-cidrs`).
    pub fn allowing(allow: Vec<IpNet>) -> Self {
        Self { trusted: false, allow }
    }

    /// For manifest files, which are the operator's own: every address.
    pub fn trusting() -> Self {
        Self { trusted: true, allow: Vec::new() }
    }

    /// Why traffic must not be sent to an endpoint of this address.
    pub fn refusal(&self, address: IpAddr) -> Option<Special> {
        let address = address.to_canonical();
        let special = Special::of(address).filter(|_| !self.trusted)?;
        let allowed = self.allow.iter().any(|network| network.contains(&address));
        (!allowed).then_some(special)
    }
}

/// The addresses of the host that LBEX runs on. Loopback is always among them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostAddresses(BTreeSet<IpAddr>);

impl HostAddresses {
    /// Whether an address is this host's.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.0.contains(&address)
    }

    /// The addresses that only one of the two has.
    pub fn difference(&self, other: &Self) -> BTreeSet<IpAddr> {
        self.0.symmetric_difference(&other.0).copied().collect()
    }
}

impl FromIterator<IpAddr> for HostAddresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        Self(addresses.into_iter().map(|address| address.to_canonical()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn special_addresses_in_every_form() {
        let forms = [
            ("127.0.0.1", Some(Special::Loopback)),
            ("127.255.255.254", Some(Special::Loopback)),
            ("::1", Some(Special::Loopback)),
            ("::ffff:127.0.0.1", Some(Special::Loopback)),
            ("::127.0.0.1", Some(Special::Loopback)),
            ("64:ff9b::127.0.0.1", Some(Special::Loopback)),
            ("169.254.169.254", Some(Special::LinkLocal)),
            ("169.254.0.1", Some(Special::LinkLocal)),
            ("::ffff:169.254.169.254", Some(Special::LinkLocal)),
            ("64:ff9b::a9fe:a9fe", Some(Special::LinkLocal)),
            ("fe80::1", Some(Special::LinkLocal)),
            ("febf::1", Some(Special::LinkLocal)),
            ("fd00:ec2::254", Some(Special::Metadata)),
            ("168.63.129.16", Some(Special::Metadata)),
            ("100.100.100.200", Some(Special::Metadata)),
            ("10.0.0.1", None),
            ("169.253.255.255", None),
            ("126.0.0.1", None),
            ("::ffff:10.0.0.1", None),
            ("fec0::1", None),
            ("fd00::1", None),
            ("2001:db8::127.0.0.1", None),
        ];
        for (text, special) in forms {
            assert_eq!(Special::of(ip(text)), special, "{text}");
        }
    }

    #[test]
    fn networks_are_allowed_and_files_are_trusted() {
        let rules = EndpointRules::allowing(vec!["127.0.1.0/24".parse().unwrap(), "fe80::/10".parse().unwrap()]);
        for (text, refused) in
            [("127.0.1.9", false), ("::ffff:127.0.1.9", false), ("127.0.2.9", true), ("fe80::1", false), ("::1", true)]
        {
            assert_eq!(rules.refusal(ip(text)).is_some(), refused, "{text}");
            assert_eq!(EndpointRules::trusting().refusal(ip(text)), None);
        }
        assert_eq!(EndpointRules::default(), EndpointRules::allowing(Vec::new()));
    }

    #[test]
    fn loopback_is_every_hosts_own() {
        let host: HostAddresses = [ip("10.0.0.1"), ip("::ffff:10.0.0.2")].into_iter().collect();
        for own in ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1", "127.3.2.1", "::1"] {
            assert!(host.contains(ip(own)), "{own}");
        }
        assert!(!host.contains(ip("10.0.0.3")));
        assert_eq!(host.difference(&[ip("10.0.0.2"), ip("fd00::1")].into_iter().collect()).len(), 2);
    }
}

//! What the operator decided that planning depends on (contract section 2), parsed and validated.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::addresses::EndpointRules;
use crate::backend::Capabilities;
use crate::model::Protocol;

/// Port ranges such as `53,80,443,8000-8999` (`--allowed-ports`): sorted, not overlapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRanges(Vec<(u16, u16)>);

/// Why a text is not a list of port ranges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a port (1-65535) or a range of ports such as 8000-8999", crate::names::Quoted(.0))]
pub struct PortRangesError(String);

impl PortRanges {
    /// Every port.
    pub fn all() -> Self {
        Self(vec![(1, u16::MAX)])
    }

    /// Parses ports and ranges separated by commas; spaces around them are ignored, overlaps are joined.
    pub fn parse(text: &str) -> Result<Self, PortRangesError> {
        let port = |t: &str| {
            let t = t.trim();
            let digits = !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| t.parse::<u16>().ok()).flatten().filter(|&p| p > 0)
        };
        let range = |part: &str| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            match (port(low), port(high)) {
                (Some(low), Some(high)) if low <= high => Ok((low, high)),
                _ => Err(PortRangesError(part.trim().to_owned())),
            }
        };
        let mut ranges = text.split(',').map(range).collect::<Result<Vec<_>, _>>()?;
        ranges.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::new();
        for (low, high) in ranges {
            match joined.last_mut() {
                Some(last) if u32::from(low) <= u32::from(last.1) + 1 => last.1 = last.1.max(high),
                _ => joined.push((low, high)),
            }
        }
        Ok(Self(joined))
    }

    /// Whether `port` is in one of the ranges.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|&(low, high)| (low..=high).contains(&port))
    }
}

impl fmt::Display for PortRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (low, high)) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            if low == high { write!(f, "{comma}{low}")? } else { write!(f, "{comma}{low}-{high}")? }
        }
        Ok(())
    }
}

/// An address that LBEX itself listens on, so that no Service may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// Protocol.
    pub protocol: Protocol,
    /// Address and port; an unspecified address stands for all of its family.
    pub address: SocketAddr,
    /// What for, in words: `health`, `metrics`.
    pub what: &'static str,
}

impl Reserved {
    /// Whether a listener on `address` and `port` would collide with it.
    pub fn covers(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        let mine = self.address.ip();
        self.protocol == protocol
            && self.address.port() == port
            && mine.is_ipv4() == address.is_ipv4()
            && (mine == address || mine.is_unspecified() || address.is_unspecified())
    }
}

/// What planning depends on besides the cluster.
#[derive(Debug, Clone)]
pub struct PlanSettings {
    /// `--load-balancer-class`. Default `lbex.io/lbex`.
    pub load_balancer_class: String,
    /// `--require-port`. Default true.
    pub require_port: bool,
    /// `--allow-external-name`. Default false.
    pub allow_external_name: bool,
    /// `--allowed-ports`. Default all.
    pub allowed_ports: PortRanges,
    /// Ports that LBEX itself uses.
    pub reserved: Vec<Reserved>,
    /// `--allow-endpoint-cidrs`: which endpoint addresses traffic may be sent to. Default: those that are not special.
    pub endpoints: EndpointRules,
    /// `--listen-address`: where every listener binds; none covers another. Default `0.0.0.0` here; the command line adds `::`
    /// where the host has IPv6.
    pub listen: Arc<[IpAddr]>,
    /// `--connect-timeout`. Default 3 s.
    pub connect_timeout: Duration,
    /// `--tcp-idle-timeout`. Default 1 h.
    pub tcp_idle_timeout: Duration,
    /// `--udp-idle-timeout`. Default 60 s.
    pub udp_idle_timeout: Duration,
    /// What the backend can do.
    pub capabilities: Capabilities,
}

impl PlanSettings {
    /// Whether listeners bind `address`, which is this host's.
    pub fn listens_on(&self, address: IpAddr) -> bool {
        self.listen.iter().any(|l| *l == address || (l.is_unspecified() && l.is_ipv4() == address.is_ipv4()))
    }

    /// Whether LBEX itself uses a port of `address`, which is this host's.
    pub fn reserves(&self, protocol: Protocol, address: SocketAddr) -> bool {
        self.reserved.iter().any(|reserved| reserved.covers(protocol, address.ip(), address.port()))
    }
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self {
            load_balancer_class: "lbex.io/lbex".to_owned(),
            require_port: true,
            allow_external_name: false,
            allowed_ports: PortRanges::all(),
            reserved: Vec::new(),
            endpoints: EndpointRules::default(),
            listen: Arc::from([IpAddr::V4(Ipv4Addr::UNSPECIFIED)]),
            connect_timeout: Duration::from_secs(3),
            tcp_idle_timeout: Duration::from_secs(3600),
            udp_idle_timeout: Duration::from_secs(60),
            capabilities: Capabilities::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges() {
        let ranges = PortRanges::parse("443, 53,80,8000-8999,8500-9000,81").unwrap();
        assert_eq!(ranges.to_string(), "53,80-81,443,8000-9000");
        assert!(ranges.contains(81) && ranges.contains(9000) && !ranges.contains(82));
        for text in ["", "0", "65536", "80-", "-80", "90-80", "80;81", "+80", "a"] {
            assert!(PortRanges::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn reserved_covers_its_family_only() {
        let health = Reserved { protocol: Protocol::Tcp, address: "0.0.0.0:7331".parse().unwrap(), what: "health" };
        assert!(health.covers(Protocol::Tcp, "10.0.0.1".parse().unwrap(), 7331));
        assert!(!health.covers(Protocol::Udp, "10.0.0.1".parse().unwrap(), 7331));
        assert!(!health.covers(Protocol::Tcp, "::".parse().unwrap(), 7331));
        assert!(!health.covers(Protocol::Tcp, "10.0.0.1".parse().unwrap(), 7332));
    }
}

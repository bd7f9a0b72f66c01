//! Names of upstream servers: what NGINX asks for, and how a Service's servers are told by them.
//!
//! A DNS name has addresses and no ports, so there is one name for each port that the servers of a listener have: nearly always
//! one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use lbex_core::desired::{Servers, ServiceConfig};
use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;

/// The last label of each name.
const ZONE: &str = "lbex";

/// Which servers of a Service: those of one listener that have one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerGroup {
    /// The listener's protocol.
    pub protocol: Protocol,
    /// The listener's port.
    pub listener: u16,
    /// The servers' port.
    pub port: u16,
}

/// A name that NGINX asks for: `SERVERPORT.PORT.PROTOCOL.NAMESPACE.SERVICE.lbex`, for instance `8080.80.tcp.default.web.lbex`.
/// Kubernetes' names are DNS labels, so this is one, of 167 characters at the most.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName {
    /// The Service.
    pub service: ServiceKey,
    /// Which of its servers.
    pub group: ServerGroup,
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, group: ServerGroup { protocol, listener, port } } = self;
        write!(f, "{port}.{listener}.{}.{}.{}.{ZONE}", protocol.as_str(), service.namespace, service.name)
    }
}

/// A text is none of LBEX's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a name of LBEX's upstream servers")]
pub struct ForeignName;

impl FromStr for ServerName {
    type Err = ForeignName;

    /// Reads what [`Display`](fmt::Display) writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, ForeignName> {
        let mut labels = text.split('.');
        let mut next = || labels.next().ok_or(ForeignName);
        let (port, listener, protocol) = (number(next()?)?, number(next()?)?, next()?);
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(ForeignName),
        };
        let service = ServiceKey::new(next()?, next()?).map_err(|_| ForeignName)?;
        let ends = next()? == ZONE && labels.next().is_none();
        ends.then_some(Self { service, group: ServerGroup { protocol, listener, port } }).ok_or(ForeignName)
    }
}

/// A port, written in the one way that counts.
fn number(text: &str) -> Result<u16, ForeignName> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain).ok_or(ForeignName)
}

/// The addresses of all groups of a Service, each sorted. Listeners whose servers are DNS names of others have none.
pub fn groups(service: &ServiceConfig) -> BTreeMap<ServerGroup, Vec<IpAddr>> {
    let mut groups: BTreeMap<ServerGroup, Vec<IpAddr>> = BTreeMap::new();
    for listener in &service.listeners {
        let Servers::Addresses(addresses) = &listener.upstream.servers else { continue };
        for address in addresses.iter() {
            let group = ServerGroup { protocol: listener.protocol, listener: listener.port, port: address.port() };
            groups.entry(group).or_default().push(address.ip());
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let text = "8080.80.tcp.default.web.lbex";
        let name: ServerName = text.parse().expect("a name");
        assert_eq!(name.group, ServerGroup { protocol: Protocol::Tcp, listener: 80, port: 8080 });
        assert_eq!(name.to_string(), text);
        let longest = "a".repeat(63);
        let text = format!("65535.65535.udp.{longest}.{longest}.lbex");
        assert_eq!(text.parse::<ServerName>().expect("a name").to_string(), text);
        assert!(text.len() < 253);
    }

    #[test]
    fn what_is_written_otherwise_is_none() {
        for text in [
            "",
            "example.com",
            "080.80.tcp.default.web.lbex",
            "0.80.tcp.default.web.lbex",
            "+80.80.tcp.default.web.lbex",
            "65536.80.tcp.default.web.lbex",
            "80.80.sctp.default.web.lbex",
            "80.80.tcp.default.web.lbex.",
            "80.80.tcp.default.web.example.lbex",
            "80.80.tcp.Default.web.lbex",
            "80.80.tcp.default..lbex",
        ] {
            assert_eq!(text.parse::<ServerName>(), Err(ForeignName), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_is_written_the_same(text in "[0-9a-z.-]{0,60}") {
            if let Ok(name) = text.parse::<ServerName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}

//! Where listeners bind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All addresses: `0.0.0.0` and, where the host has IPv6, `::`.
pub(super) fn all(ipv6: bool) -> Vec<IpAddr> {
    let mut all = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
    if ipv6 {
        all.push(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    }
    all
}

/// Drops addresses that another one covers (itself given before, or the wildcard of its family), with a warning for each; the
/// rest keep their order. `None` stands for all addresses.
pub(super) fn distinct(given: &[Option<IpAddr>], ipv6: bool) -> (Vec<IpAddr>, Vec<String>) {
    let given: Vec<IpAddr> = given.iter().flat_map(|g| g.map_or_else(|| all(ipv6), |address| vec![address])).collect();
    let mut kept: Vec<IpAddr> = Vec::new();
    let mut warnings = Vec::new();
    for address in &given {
        let wildcard = given.iter().find(|g| g.is_unspecified() && g.is_ipv4() == address.is_ipv4() && *g != address);
        if let Some(wildcard) = wildcard {
            warnings.push(format!("--listen-address {address} is left out: {wildcard}, which is given too, covers it"));
        } else if kept.contains(address) {
            warnings.push(format!("--listen-address {address} is given more than once"));
        } else {
            kept.push(*address);
        }
    }
    (kept, warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distinct_of(given: &[&str], ipv6: bool) -> (Vec<String>, usize) {
        let given: Vec<_> = given.iter().map(|t| (*t != "all").then(|| t.parse().unwrap())).collect();
        let (kept, warnings) = distinct(&given, ipv6);
        (kept.iter().map(ToString::to_string).collect(), warnings.len())
    }

    #[test]
    fn all_is_what_the_host_has() {
        assert_eq!(distinct_of(&["all"], true), (vec!["0.0.0.0".to_owned(), "::".to_owned()], 0));
        assert_eq!(distinct_of(&["all"], false), (vec!["0.0.0.0".to_owned()], 0));
    }

    #[test]
    fn wildcards_cover_their_own_family_only() {
        let (kept, warnings) = distinct_of(&["10.0.0.1", "::1", "0.0.0.0", "127.0.0.1"], true);
        assert_eq!((kept, warnings), (vec!["::1".to_owned(), "0.0.0.0".to_owned()], 2));
        assert_eq!(distinct_of(&["::", "fd00::1", "10.0.0.1"], true).0, ["::", "10.0.0.1"]);
    }

    #[test]
    fn the_same_address_counts_once() {
        assert_eq!(distinct_of(&["10.0.0.1", "10.0.0.1", "10.0.0.2"], true).0, ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(distinct_of(&["0.0.0.0", "0.0.0.0"], true), (vec!["0.0.0.0".to_owned()], 1));
    }
}

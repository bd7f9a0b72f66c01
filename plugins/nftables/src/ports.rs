//! Listeners whose port a process of this host has.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lbex_plugin_sdk::{Instead, ListenerName, Refusal};
use lbex_port_holders::{Holder, Holders};

use crate::plan::{Family, Key, Part, Ruleset};

/// Takes out listeners whose port somebody has, but for those that are there already. The Services, with why.
pub(crate) fn take_out_held(ruleset: &mut Ruleset, there: impl Fn(&Key) -> bool) -> Vec<(String, Refusal)> {
    let holders = Holders::default();
    let tried = ruleset.iter().filter(|(key, _)| !there(key));
    let refused: Vec<(Key, String, Refusal)> = tried
        .filter_map(|(key, part)| {
            let address = addresses(key, part).find(|address| holders.is_taken(key.protocol, *address))?;
            Some((*key, part.service.clone(), refusal(*key, address, holders.of(key.protocol, address))))
        })
        .collect();
    for (key, ..) in &refused {
        ruleset.remove(key);
    }
    let mut told = BTreeSet::new();
    // Of both families, one is enough to tell.
    let first = refused.into_iter().filter(|(key, ..)| told.insert((key.protocol, key.port)));
    first.map(|(_, service, refusal)| (service, refusal)).collect()
}

fn addresses(key: &Key, part: &Part) -> impl Iterator<Item = SocketAddr> {
    let all: IpAddr = match key.family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let addresses = if part.addresses.is_empty() { vec![all] } else { part.addresses.clone() };
    let port = key.port;
    addresses.into_iter().map(move |address| SocketAddr::new(address, port))
}

fn refusal(key: Key, address: SocketAddr, holder: Option<Holder>) -> Refusal {
    let by = match holder {
        Some(Holder { pid, name }) => format!("{name} (process {pid})"),
        None => "another process".to_owned(),
    };
    Refusal {
        listener: Some(ListenerName { protocol: key.protocol, port: key.port }),
        code: "PortInUse".to_owned(),
        message: format!("port {} at {}: in use by {by}", key.port, address.ip()),
        instead: Instead::LeftOut,
        retry: true,
    }
}

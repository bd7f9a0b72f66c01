//! What matters of this host, in the network namespace that LBEX runs in.

use std::fs;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

use crate::plan::Facts;

/// Looks.
pub fn facts() -> std::io::Result<Facts> {
    let addresses = getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    });
    Ok(Facts {
        addresses: addresses.collect(),
        forwards_v4: forwards("ipv4"),
        forwards_v6: forwards("ipv6"),
        route_localnet: is_on("/proc/sys/net/ipv4/conf/all/route_localnet"),
    })
}

/// Whether any interface forwards: it may be on for some of them only.
fn forwards(family: &str) -> bool {
    let interfaces = fs::read_dir(format!("/proc/sys/net/{family}/conf")).into_iter().flatten().flatten();
    interfaces
        .filter(|interface| interface.file_name() != "default" && interface.file_name() != "lo")
        .any(|interface| is_on(interface.path().join("forwarding")))
}

fn is_on(path: impl AsRef<std::path::Path>) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() != "0")
}

/// A number of the kernel's connection tracking: `count` or `max`.
pub fn conntrack(name: &str) -> Option<f64> {
    fs::read_to_string(format!("/proc/sys/net/netfilter/nf_conntrack_{name}")).ok()?.trim().parse().ok()
}

//! The addresses of the host that LBEX runs on: servers there may be LBEX itself.

use std::net::IpAddr;
use std::time::Duration;

use lbex_core::addresses::HostAddresses;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// How often they are read again.
const EVERY: Duration = Duration::from_secs(10);

/// Where kube-proxy in its mode IPVS keeps the ClusterIPs of all Services. They lead to endpoints, not to this host.
const IPVS: &str = "kube-ipvs0";

/// The addresses of all interfaces, link-local ones of IPv6 aside (nothing can be sent there without an interface). An error is
/// told, and counts as none.
pub fn addresses() -> HostAddresses {
    match getifaddrs() {
        Ok(all) => {
            let of_host = all.filter(|interface| interface.interface_name != IPVS);
            of_host.filter_map(|interface| ip(&interface.address?)).collect()
        }
        Err(error) => {
            tracing::warn!(
                "the addresses of this host cannot be read, so that servers there are not told from LBEX: {error}"
            );
            HostAddresses::default()
        }
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(v4.ip().into());
    }
    let v6 = address.as_sockaddr_in6()?.ip();
    (!v6.is_unicast_link_local()).then(|| v6.into())
}

/// Follows the addresses until nobody wants to know any more.
pub fn follow() -> watch::Receiver<HostAddresses> {
    let (sender, receiver) = watch::channel(addresses());
    tokio::spawn(async move {
        let mut clock = tokio::time::interval(EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = clock.tick() => {}
                () = sender.closed() => return,
            }
            // A host may have thousands of interfaces.
            match tokio::task::spawn_blocking(addresses).await {
                Ok(now) => drop(sender.send_if_modified(|known| {
                    let changed = *known != now;
                    *known = now;
                    changed
                })),
                // The runtime ends.
                Err(error) if error.is_cancelled() => return,
                Err(error) => tracing::warn!("reading the addresses of this host failed: {error}"),
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_is_among_them_and_others_are_not() {
        let host = follow().borrow().clone();
        assert!(host.contains("127.0.0.1".parse().unwrap()));
        assert!(!host.contains("192.0.2.1".parse().unwrap()), "an address of documents: {host:?}");
        assert_ne!(host, HostAddresses::default(), "every host has an interface with an address");
    }
}

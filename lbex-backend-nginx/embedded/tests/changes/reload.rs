//! What LBEX relies on when it reloads: which addresses the new workers start with. (NGINX's own behaviour, without a change.)

use std::net::{IpAddr, SocketAddr};

use crate::backends;
use crate::dns::Dns;
use crate::nginx::{Nginx, free_address};

struct Scene {
    dns: SocketAddr,
    listener: SocketAddr,
    port: u16,
}

impl Scene {
    fn configuration(&self, upstream: &str, zone: &str, name: &str, more: &str) -> String {
        let Self { dns, listener, port } = self;
        format!(
            "upstream {upstream} {{ zone {zone}; resolver {dns} ipv6=off push=on; resolver_timeout 24h; \
               server {name}:{port} resolve; {more} }}\n\
             server {{ listen {listener}; proxy_pass {upstream}; }}"
        )
    }

    /// Starts with one address, reloads, and tells who serves a client of the new workers before their question is answered.
    fn after(&self, dns: &Dns, address: IpAddr, reloaded: &str) -> Option<IpAddr> {
        let nginx = Nginx::start(&self.configuration("u", "u 256k", "web.lbex", ""));
        let first = dns.question();
        let waiting = dns.push(&first, &[address]);
        nginx.reload(reloaded);
        let asked = dns.question();
        assert_ne!(asked.from, waiting.from, "the old worker asks");
        // The old workers end: only the new ones answer.
        nginx.await_info("exited with code 0", 2);
        backends::ask(self.listener, None).ok()
    }
}

fn scene() -> (Dns, Scene, IpAddr) {
    let dns = Dns::start();
    let (addresses, port) = backends::start(1);
    let scene = Scene { dns: dns.address(), listener: free_address(), port };
    (dns, scene, addresses[0])
}

#[test]
fn addresses_stay_where_upstream_zone_and_server_names_stay() {
    let down = "server 127.98.0.9:1 down;";
    for (upstream, zone, name, more) in [
        ("u", "u 256k", "web.lbex", ""),
        ("u", "u 512k", "web.lbex", ""),
        ("u", "u 256k", "web.lbex", down),
        ("u", "u 256k", "web.lbex", "least_conn;"),
        ("u", "u 256k", "web.lbex", "server other.lbex:80 resolve;"),
    ] {
        let (dns, scene, address) = scene();
        let reloaded = scene.configuration(upstream, zone, name, more);
        assert_eq!(scene.after(&dns, address, &reloaded), Some(address), "{upstream}, {zone}, {name}, {more}");
    }
}

#[test]
fn addresses_are_gone_where_a_name_changes() {
    for (upstream, zone, name) in
        [("v", "u 256k", "web.lbex"), ("u", "v 256k", "web.lbex"), ("u", "u 256k", "other.lbex")]
    {
        let (dns, scene, address) = scene();
        let reloaded = scene.configuration(upstream, zone, name, "");
        assert_eq!(scene.after(&dns, address, &reloaded), None, "{upstream}, {zone}, {name}");
    }
}

//! TCP and UDP, on one port, over IPv4, IPv6 and both.

use std::net::Ipv6Addr;

use anyhow::Result;
use lbex_test_harness::backends::Echo;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::slice;
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_ports;

use crate::support::{World, at, at6, local, pods, pods_slice, tcp_reaches, udp_reaches};

/// Clients of either family reach servers of either family, TCP and UDP on the same port.
async fn families(nginx: Nginx) -> Result<()> {
    let ports = free_ports(3)?;
    let v4 = Echo::new("v4").ip(local(10, 1)).start()?;
    let v6 = Echo::new("v6").ip(Ipv6Addr::LOCALHOST).start()?;
    let six = |name: &str, service: &str| {
        let ports = slice(name, service).ipv6().tcp("tcp", v6.port()).udp("udp", v6.port());
        ports.ready(Ipv6Addr::LOCALHOST, "somewhere")
    };
    let world = World::start(
        nginx,
        [
            &pods("four", ports[0]) as _,
            &pods_slice("four", [&v4]) as _,
            &pods("six", ports[1]).families(&["IPv6"]) as _,
            &six("six-1", "six") as _,
            &pods("dual", ports[2]).families(&["IPv4", "IPv6"]) as _,
            &pods_slice("dual", [&v4]) as _,
            &six("dual-2", "dual") as _,
        ],
    )
    .await?;
    for (port, names) in ports.iter().zip([&["v4"][..], &["v6"], &["v4", "v6"]]) {
        for server in [at(*port), at6(*port)] {
            tcp_reaches(server, names).await?;
            udp_reaches(server, names).await?;
        }
    }
    assert_eq!(world.lbex.metric("lbex_listeners", &[("protocol", "tcp")]).await?, Some(3.0));
    assert_eq!(world.lbex.metric("lbex_listeners", &[("protocol", "udp")]).await?, Some(3.0));
    Ok(())
}

/// A listener that is bound to one address answers there and nowhere else.
async fn listen_address(nginx: Nginx) -> Result<()> {
    let port = free_ports(1)?[0];
    let server = Echo::new("a").start()?;
    let here = local(11, 7);
    let flags = [&format!("--listen-address={here}"), "--listen-address=::1"];
    let objects = [&pods("web", port) as _, &pods_slice("web", [&server]) as _];
    let _world = World::start_with(nginx, &flags, objects).await?;
    for server in [(here, port).into(), at6(port)] {
        tcp_reaches(server, &["a"]).await?;
        udp_reaches(server, &["a"]).await?;
    }
    crate::support::tcp_refused(at(port)).await
}

on_each_nginx!(families, listen_address);

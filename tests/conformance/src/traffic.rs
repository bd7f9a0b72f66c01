//! TCP and UDP, on one port, over IPv4, IPv6 and both.

use std::net::Ipv6Addr;

use anyhow::Result;
use lbex_test_harness::backends::{Echo, udp_ask};
use lbex_test_harness::manifests::{
    ANSWER, World, at, at6, local, pods, pods_slice, servers, tcp_reaches, tcp_refused,
};
use lbex_test_harness::objects::slice;
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::SOON;

use crate::common::{is_told, nobody, reaches, start, web};
use crate::{Feature, Subject};

/// Clients of either family reach servers of either family, TCP and UDP on the same port. Without UDP, TCP is served alone and the
/// Service told.
pub async fn families(subject: &dyn Subject) -> Result<()> {
    let ports = free_ports(3)?;
    let v4 = Echo::new("v4").ip(local(10, 1)).start()?;
    let v6 = Echo::new("v6").ip(Ipv6Addr::LOCALHOST).start()?;
    let six = |name: &str, service: &str| {
        let ports = slice(name, service).ipv6().tcp("tcp", v6.port()).udp("udp", v6.port());
        ports.ready(Ipv6Addr::LOCALHOST, "somewhere")
    };
    let world = start(
        subject,
        [
            &web(subject, "four", ports[0]) as _,
            &pods_slice("four", [&v4]) as _,
            &web(subject, "six", ports[1]).families(&["IPv6"]) as _,
            &six("six-1", "six") as _,
            &web(subject, "dual", ports[2]).families(&["IPv4", "IPv6"]) as _,
            &pods_slice("dual", [&v4]) as _,
            &six("dual-2", "dual") as _,
        ],
    )
    .await?;
    let other_family = subject.lacks(Feature::OtherFamily);
    for (port, names) in ports.iter().zip([&["v4"][..], &["v6"], &["v4", "v6"]]) {
        for (server, own) in [(at(*port), "v4"), (at6(*port), "v6")] {
            match other_family {
                None => reaches(subject, server, names).await?,
                Some(_) if names.contains(&own) => reaches(subject, server, &[own]).await?,
                Some(_) => nobody(subject, server).await?,
            }
        }
    }
    if let Some(words) = other_family {
        world.lbex.wait_log(words, SOON).await?;
    }
    let lacks_udp = subject.lacks(Feature::Udp);
    let udp = if lacks_udp.is_some() { Some(0.0) } else { Some(3.0) };
    assert_eq!(world.lbex.metric("lbex_listeners", &[("protocol", "tcp")]).await?, Some(3.0));
    assert_eq!(world.lbex.metric("lbex_listeners", &[("protocol", "udp")]).await?, udp);
    if let Some(words) = lacks_udp {
        world.put([&pods("four", ports[0]) as _, &pods_slice("four", [&v4]) as _])?;
        crate::common::told(&world, "four", words).await?;
        tcp_reaches(at(ports[0]), &["v4"]).await?;
    }
    Ok(())
}

/// A listener that is bound to one address answers there and nowhere else.
pub async fn listen_address(subject: &dyn Subject) -> Result<()> {
    let port = free_ports(1)?[0];
    let server = Echo::new("a").start()?;
    let here = local(11, 7);
    let lbex = subject.lbex()?.args([&format!("--listen-address={here}"), "--listen-address=::1"]);
    let _world = World::serve(lbex, [&web(subject, "web", port) as _, &pods_slice("web", [&server]) as _]).await?;
    reaches(subject, (here, port).into(), &["a"]).await?;
    match subject.lacks(Feature::OtherFamily) {
        None => reaches(subject, at6(port), &["a"]).await?,
        Some(_) => nobody(subject, at6(port)).await?,
    }
    tcp_refused(at(port)).await
}

/// Datagrams of one byte and of the largest size come through whole, both ways.
pub async fn datagram_sizes(subject: &dyn Subject) -> Result<()> {
    let (port, servers) = (free_ports(1)?[0], servers(1)?);
    let (web, slice) = (pods("web", port), pods_slice("web", &servers));
    if let Some(words) = subject.lacks(Feature::Udp) {
        return is_told(subject, [&web as _, &slice as _], "web", words).await;
    }
    let _world = start(subject, [&web as _, &slice as _]).await?;
    // The answer has the name of the server in front.
    for size in [1, 512, 1472, 1473, 9_000, 16_384, 32_768, 65_505] {
        assert_eq!(udp_ask(at(port), &"x".repeat(size), ANSWER).await?, "a", "{size} bytes");
    }
    Ok(())
}

//! A port that another process holds.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use anyhow::Result;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::service;
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::{SOON, eventually_is};

use crate::support::{World, at, pods_slice, servers, tcp_reaches, udp_reaches};

/// The Service is refused, with the holder's name; the others are served; once the port is free it is served, with no change of
/// manifests. The same for a Service that comes later.
async fn held_by_another(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(3)?, servers(1)?);
    let one = |name: &str| service(name).ask().lbex("upstream-type", "pod");
    let tcp = one("held-tcp").tcp("tcp", 80, 0).listen("tcp", ports[0]);
    let udp = one("held-udp").udp("udp", 53, 0).listen("udp", ports[1]);
    let good = one("good").tcp("tcp", 80, 0).listen("tcp", ports[2]);
    let slices = ["held-tcp", "held-udp", "good"].map(|name| pods_slice(name, &servers));
    let held_tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, ports[0]))?;
    let held_udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, ports[1]))?;

    let world = World::start(nginx, [&tcp as _, &slices[0] as _, &good as _, &slices[2] as _]).await?;
    tcp_reaches(at(ports[2]), &["a"]).await?;
    world.put([&tcp as _, &slices[0] as _, &udp as _, &slices[1] as _, &good as _, &slices[2] as _])?;
    for (service, port) in [("default/held-tcp", ports[0]), ("default/held-udp", ports[1])] {
        let line = world.lbex.wait_log(&format!("service={service} reason=PortInUse"), SOON).await?;
        for word in [&port.to_string(), &format!("process {}", std::process::id())] {
            assert!(line.contains(word), "no {word:?} in: {line}");
        }
    }
    let refusals = || async { world.lbex.metric("lbex_refusals", &[("code", "PortInUse")]).await.unwrap_or_default() };
    assert_eq!(refusals().await, Some(2.0));
    assert_eq!(world.lbex.metric("lbex_services_served", &[]).await?, Some(1.0));
    assert_eq!(world.lbex.get("/").await?.status, 200);
    tcp_reaches(at(ports[2]), &["a"]).await?;

    drop(held_tcp);
    tcp_reaches(at(ports[0]), &["a"]).await?;
    drop(held_udp);
    udp_reaches(at(ports[1]), &["a"]).await?;
    eventually_is("no refusals", SOON, None, refusals).await?;
    world.lbex.wait_log("no longer: refused", SOON).await?;
    assert_eq!(world.lbex.metric("lbex_services_served", &[]).await?, Some(3.0));
    Ok(())
}

on_each_nginx!(held_by_another);

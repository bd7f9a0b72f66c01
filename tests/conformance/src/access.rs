//! Who is let in, and what port a Service gets.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use anyhow::Result;
use lbex_test_harness::backends::{tcp_ask_from, udp_ask_from};
use lbex_test_harness::manifests::{
    ANSWER, CLOSED, SILENCE, at, fails_with, local, pods_slice, servers, tcp_reaches, tcp_refused, udp_reaches,
};
use lbex_test_harness::objects::service;
use lbex_test_harness::ports::{free_ports, soon};
use lbex_test_harness::wait::{SOON, eventually, eventually_is};
use serde_json::json;

use crate::common::{start, web};
use crate::{Feature, Subject};

/// `loadBalancerSourceRanges`: who is in them is let in, nobody else; who cannot say whom to let in lets nobody in.
pub async fn source_ranges(subject: &dyn Subject) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(1)?);
    let ranged = |name, port, ranges| web(subject, name, port).spec(json!({"loadBalancerSourceRanges": ranges}));
    let broken = ranged("broken", ports[1], json!(["127.0.20.0/24", "127.0.21.0/240"]));
    let service = ranged("web", ports[0], json!(["127.0.20.0/24", "10.0.0.0/8"]));
    let slices = [pods_slice("web", &servers), pods_slice("broken", &servers)];
    let world = start(subject, [&service as _, &slices[0] as _, &broken as _, &slices[1] as _]).await?;
    let server = at(ports[0]);

    assert_eq!(tcp_ask_from(local(20, 1), server).await?, "a");
    let refused = [CLOSED, &[std::io::ErrorKind::ConnectionRefused, std::io::ErrorKind::TimedOut]].concat();
    fails_with(tcp_ask_from(local(21, 1), server), &refused).await?;
    let has_udp = subject.lacks(Feature::Udp).is_none();
    if has_udp {
        assert_eq!(udp_ask_from((local(20, 2), 0).into(), server, "in", ANSWER).await?, "a");
        let silent = &[std::io::ErrorKind::TimedOut];
        fails_with(udp_ask_from((local(21, 1), 0).into(), server, "out", SILENCE), silent).await?;
    }
    // No packet of the other went further.
    assert_eq!((servers[0].connections(), servers[0].datagrams()), (1, usize::from(has_udp)));

    tcp_refused(at(ports[1])).await?;
    let line = world.lbex.wait_log("127.0.21.0/240", SOON).await?;
    assert!(line.contains("default/broken") && line.contains("not served"), "{line}");
    assert_eq!(world.lbex.metric("lbex_rejections", &[("reason", "InvalidSourceRange")]).await?, Some(1.0));

    // Without ranges everyone may.
    world.put([&ranged("web", ports[0], json!([])) as _, &slices[0] as _])?;
    eventually("all are let in", SOON, || tcp_ask_from(local(21, 1), server)).await?;
    tcp_reaches(server, &["a"]).await
}

/// A port that another process holds: the Service is refused, with the holder's name; the others are served; once the port is free it is
/// served, with no change of manifests. The same for a Service that comes later.
pub async fn held_by_another(subject: &dyn Subject) -> Result<()> {
    let (ports, servers) = (free_ports(3)?, servers(1)?);
    let has_udp = subject.lacks(Feature::Udp).is_none();
    let one = |name: &str| service(name).ask().lbex("upstream-type", "pod");
    let first = one("held-first").tcp("tcp", 80, 0).listen("tcp", ports[0]);
    let later = if has_udp {
        one("held-later").udp("udp", 53, 0).listen("udp", ports[1])
    } else {
        one("held-later").tcp("tcp", 53, 0).listen("tcp", ports[1])
    };
    let good = one("good").tcp("tcp", 80, 0).listen("tcp", ports[2]);
    let slices = ["held-first", "held-later", "good"].map(|name| pods_slice(name, &servers));
    let held_first = soon(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, ports[0])))?;
    let (held_udp, held_tcp) = if has_udp {
        (Some(soon(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, ports[1])))?), None)
    } else {
        (None, Some(soon(|| TcpListener::bind((Ipv4Addr::LOCALHOST, ports[1])))?))
    };

    let world = start(subject, [&first as _, &slices[0] as _, &good as _, &slices[2] as _]).await?;
    tcp_reaches(at(ports[2]), &["a"]).await?;
    world.put([&first as _, &slices[0] as _, &later as _, &slices[1] as _, &good as _, &slices[2] as _])?;
    for (service, port) in [("default/held-first", ports[0]), ("default/held-later", ports[1])] {
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

    drop(held_first);
    tcp_reaches(at(ports[0]), &["a"]).await?;
    drop((held_udp, held_tcp));
    if has_udp {
        udp_reaches(at(ports[1]), &["a"]).await?;
    } else {
        tcp_reaches(at(ports[1]), &["a"]).await?;
    }
    eventually_is("no refusals", SOON, None, refusals).await?;
    world.lbex.wait_log("no longer: refused", SOON).await?;
    assert_eq!(world.lbex.metric("lbex_services_served", &[]).await?, Some(3.0));
    Ok(())
}

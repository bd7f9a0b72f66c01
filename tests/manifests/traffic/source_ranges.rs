//! `loadBalancerSourceRanges`: who is let in.

use anyhow::Result;
use lbex_test_harness::backends::{tcp_ask_from, udp_ask_from};
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::{SOON, eventually};
use serde_json::json;

use crate::support::{
    ANSWER, CLOSED, SILENCE, World, at, fails_with, local, pods, pods_slice, servers, tcp_reaches, tcp_refused,
};

async fn source_ranges(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(1)?);
    let web = |ranges| pods("web", ports[0]).spec(json!({"loadBalancerSourceRanges": ranges}));
    let broken =
        pods("broken", ports[1]).spec(json!({"loadBalancerSourceRanges": ["127.0.20.0/24", "127.0.21.0/240"]}));
    let objects = |ranges| (web(ranges), pods_slice("web", &servers), pods_slice("broken", &servers));
    let (service, slice, broken_slice) = objects(json!(["127.0.20.0/24", "10.0.0.0/8"]));
    let world = World::start(nginx, [&service as _, &slice as _, &broken as _, &broken_slice as _]).await?;
    let server = at(ports[0]);

    assert_eq!(tcp_ask_from(local(20, 1), server).await?, "a");
    assert_eq!(udp_ask_from((local(20, 2), 0).into(), server, "in", ANSWER).await?, "a");
    fails_with(tcp_ask_from(local(21, 1), server), CLOSED).await?;
    let silent = &[std::io::ErrorKind::TimedOut];
    fails_with(udp_ask_from((local(21, 1), 0).into(), server, "out", SILENCE), silent).await?;
    // No packet of the other went further.
    assert_eq!((servers[0].connections(), servers[0].datagrams()), (1, 1));

    // Whoever cannot say whom to let in lets nobody in.
    tcp_refused(at(ports[1])).await?;
    let line = world.lbex.wait_log("127.0.21.0/240", SOON).await?;
    assert!(line.contains("default/broken") && line.contains("not served"), "{line}");
    assert_eq!(world.lbex.metric("lbex_rejections", &[("reason", "InvalidSourceRange")]).await?, Some(1.0));

    // Without ranges everyone may.
    let (service, slice, _) = objects(json!([]));
    world.put([&service as _, &slice as _])?;
    eventually("all are let in", SOON, || tcp_ask_from(local(21, 1), server)).await?;
    tcp_reaches(server, &["a"]).await
}

on_each_nginx!(source_ranges);

//! Two Services that want one port: the older has it, the other is told and waits.

use anyhow::Result;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::Service;
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::SOON;
use serde_json::json;

use crate::support::{World, at, pods, pods_slice, servers, tcp_reaches, udp_reaches};

fn made_at(service: Service, time: &str) -> Service {
    service.merge(json!({"metadata": {"creationTimestamp": time}}))
}

async fn the_older_has_it(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(2)?);
    let (slice_a, slice_b) = (pods_slice("a", [&servers[0]]), pods_slice("b", [&servers[1]]));
    let a = made_at(pods("a", port), "2024-02-01T00:00:00Z");
    let b = made_at(pods("b", port), "2024-01-01T00:00:00Z");
    let mut world = World::start(nginx, [&a as _, &slice_a as _]).await?;
    tcp_reaches(at(port), &["a"]).await?;

    // An older one takes it over, and both are told.
    world.put([&a as _, &slice_a as _, &b as _, &slice_b as _])?;
    tcp_reaches(at(port), &["b"]).await?;
    udp_reaches(at(port), &["b"]).await?;
    let lost = world.lbex.wait_log(&format!("TCP port {port} belongs to default/b"), SOON).await?;
    assert!(lost.contains("default/a") && lost.contains("not served"), "{lost}");
    let won = world.lbex.wait_log(&format!("TCP port {port} is claimed by default/a"), SOON).await?;
    assert!(won.contains("default/b"), "{won}");
    assert_eq!(world.lbex.metric("lbex_rejections", &[("reason", "PortTaken")]).await?, Some(2.0));

    // After a restart too.
    world.lbex.terminate().await?;
    let mark = world.lbex.log_mark();
    world.lbex.start_again()?;
    world.lbex.wait_healthy().await?;
    world.lbex.wait_log_since(mark, "belongs to default/b", SOON).await?;
    tcp_reaches(at(port), &["b"]).await?;

    // What the holder gives up goes to the next: UDP alone, then all.
    let tcp_only = made_at(pods("b", port).annotate("loadbalancer-port.lbex/udp", json!(null)), "2024-01-01T00:00:00Z");
    world.put([&a as _, &slice_a as _, &tcp_only as _, &slice_b as _])?;
    udp_reaches(at(port), &["a"]).await?;
    tcp_reaches(at(port), &["b"]).await?;
    world.put([&a as _, &slice_a as _])?;
    tcp_reaches(at(port), &["a"]).await?;
    world.wait_applied().await?;
    assert_eq!(world.lbex.metric("lbex_rejections", &[("reason", "PortTaken")]).await?, None);
    Ok(())
}

/// Ports of LBEX's own, and ports that this instance may not give away.
async fn reserved_and_not_allowed(nginx: Nginx) -> Result<()> {
    let (port, outside, servers) = (free_port()?, free_port()?, servers(1)?);
    let world = World::start_with(
        nginx,
        &[&format!("--allowed-ports=1024-{},{}-65535", outside - 1, outside + 1)],
        [&pods("web", port) as _, &pods_slice("web", &servers) as _],
    )
    .await?;
    tcp_reaches(at(port), &["a"]).await?;
    let health = world.lbex.health_address().port();
    let own = pods("own", health);
    world.put([&pods("web", port) as _, &pods_slice("web", &servers) as _, &own as _, &pods("out", outside) as _])?;
    let line = world.lbex.wait_log(&format!("TCP port {health} is LBEX's own"), SOON).await?;
    assert!(line.contains("default/own"), "{line}");
    let line = world.lbex.wait_log("--allowed-ports", SOON).await?;
    assert!(line.contains("default/out") && line.contains(&outside.to_string()), "{line}");
    assert_eq!(world.lbex.get("/").await?.status, 200);
    tcp_reaches(at(port), &["a"]).await
}

on_each_nginx!(the_older_has_it, reserved_and_not_allowed);

//! LBEX ends and comes back; NGINX serves on, unless it is told to end too.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbex_test_harness::backends::{Conversation, tcp_ask};
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::Signal;

use crate::support::{World, alone, at, pods, pods_slice, servers, tcp_reaches, tcp_refused, udp_reaches};

/// Waits until the restarted LBEX has looked at everything and changed nothing.
async fn adopted(lbex: &Lbex) -> Result<()> {
    lbex.wait_healthy().await?;
    eventually("the running NGINX is adopted", SOON, || async {
        let ready = lbex.get("/readyz").await?;
        ensure!(ready.status == 200, "{} {:?}", ready.status, ready.body);
        let unchanged = lbex.metric("lbex_apply_duration_seconds_count", &[("action", "unchanged")]).await?;
        ensure!(unchanged == Some(1.0), "applied without a change: {unchanged:?} times");
        Ok(())
    })
    .await
}

/// SIGTERM, SIGINT, SIGKILL: each time the same workers serve on, and the next LBEX takes them over as they are.
///
/// In a network namespace of its own: another LBEX that starts meanwhile would take the port where NGINX asks for endpoints.
async fn restarts_without_a_trace(nginx: Nginx) -> Result<()> {
    alone(|| restarts(nginx)).await
}

async fn restarts(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(2)?);
    let (web, slice) = (pods("web", ports[0]), pods_slice("web", &servers));
    let mut world = World::start(nginx, [&web as _, &slice as _]).await?;
    let mut connection = Conversation::open(at(ports[0])).await?;
    let before = world.nginx_pids();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL] {
        if signal == Signal::SIGTERM {
            let ended = world.lbex.terminate().await?;
            assert!(ended.status.success() && ended.took < Duration::from_secs(10), "{ended:?}");
        } else {
            world.lbex.signal(signal)?;
            let status = world.lbex.wait_exit(SOON).await?;
            assert_eq!(status.success(), signal == Signal::SIGINT, "{signal}: {status}");
        }
        tcp_reaches(at(ports[0]), &["a", "b"]).await?;
        udp_reaches(at(ports[0]), &["a", "b"]).await?;
        assert!(world.lbex.get("/").await.is_err(), "something answers for LBEX");
        world.lbex.start_again()?;
        adopted(&world.lbex).await?;
        assert_eq!(world.nginx_pids(), before, "after {signal}");
        connection.say("still here").await?;
    }

    // What changed meanwhile is one reload.
    world.lbex.terminate().await?;
    world.put([&web as _, &slice as _, &pods("new", ports[1]) as _, &pods_slice("new", &servers[..1]) as _])?;
    world.lbex.start_again()?;
    tcp_reaches(at(ports[1]), &["a"]).await?;
    world.wait_applied().await?;
    assert!((world.reloads().await? - 1.0).abs() < 0.5);
    connection.say("still here").await?;
    Ok(())
}

/// `--stop-proxy-on-exit`: no new clients, those that are there finish, then both are gone.
async fn stops_the_proxy(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(1)?, servers(1)?);
    let objects = [&pods("web", ports[0]) as _, &pods_slice("web", &servers) as _];
    let world = World::start_with(nginx, &["--stop-proxy-on-exit=true"], objects).await?;
    let mut connection = Conversation::open(at(ports[0])).await?;
    world.lbex.signal(Signal::SIGTERM)?;
    tcp_refused(at(ports[0])).await?;
    connection.say("not done yet").await?;
    drop(connection);
    assert!(world.lbex.wait_exit(SOON).await?.success());
    assert_eq!(world.lbex.nginx_processes(), []);
    Ok(())
}

/// A client that never ends is waited for as long as `--worker-shutdown-timeout` says.
async fn stops_in_bounded_time(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(1)?, servers(1)?);
    let objects = [&pods("web", ports[0]) as _, &pods_slice("web", &servers) as _];
    let flags = ["--stop-proxy-on-exit", "--worker-shutdown-timeout=1s"];
    let world = World::start_with(nginx, &flags, objects).await?;
    let mut connection = Conversation::open(at(ports[0])).await?;
    let ended = world.lbex.terminate().await?;
    assert!(ended.status.success() && ended.took < Duration::from_secs(10), "{ended:?}");
    connection.closed(SOON).await?;
    assert_eq!(world.lbex.nginx_processes(), []);
    assert!(tcp_ask(at(ports[0])).await.is_err());
    Ok(())
}

on_each_nginx!(restarts_without_a_trace, stops_the_proxy, stops_in_bounded_time);

//! LBEX ends, and NGINX with it where it is told to.

use std::time::Duration;

use anyhow::Result;
use lbex_test_harness::backends::{Conversation, tcp_ask};
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::SOON;
use nix::sys::signal::Signal;

use crate::support::{World, at, pods, pods_slice, servers, tcp_refused};

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

on_each_nginx!(stops_the_proxy, stops_in_bounded_time);

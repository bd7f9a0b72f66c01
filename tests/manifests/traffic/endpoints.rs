//! Which endpoints count: ready, not ready, terminating; of slices, and of the older API.

use anyhow::Result;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::{endpoint, endpoints, slice};
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::SOON;
use serde_json::json;

use crate::support::{World, at, pods, pods_slice, servers, tcp_reaches, udp_reaches};

/// Ready ones only; while all are terminating, those that still serve.
async fn conditions(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(4)?);
    let web = pods("web", port);
    let address = |n: usize| endpoint(servers[n].address().ip());
    let ports = || slice("web-1", "web").tcp("tcp", servers[0].port()).udp("udp", servers[0].port());
    let some_ready = ports()
        .endpoint(address(0))
        .endpoint(address(1).not_ready())
        .endpoint(address(2).terminating())
        .endpoint(address(3).conditions(json!({})));
    let world = World::start(nginx, [&web as _, &some_ready as _]).await?;
    tcp_reaches(at(port), &["a", "d"]).await?;
    udp_reaches(at(port), &["a", "d"]).await?;

    let ended = json!({"ready": false, "serving": false, "terminating": true});
    let none_ready = ports()
        .endpoint(address(0).terminating())
        .endpoint(address(1).not_ready())
        .endpoint(address(2).terminating())
        .endpoint(address(3).conditions(ended));
    world.put([&web as _, &none_ready as _])?;
    tcp_reaches(at(port), &["a", "c"]).await?;
    world.lbex.wait_log("all endpoints are terminating", SOON).await?;
    Ok(())
}

/// The older Endpoints API, where a Service has no slices.
async fn endpoints_api(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(3)?);
    let text: Vec<String> = servers.iter().map(|server| server.address().ip().to_string()).collect();
    let number = servers[0].port();
    let ports = json!([
        {"name": "tcp", "port": number, "protocol": "TCP"},
        {"name": "udp", "port": number, "protocol": "UDP"},
    ]);
    let ready = [(text[0].as_str(), "n"), (text[1].as_str(), "")];
    let endpoints = endpoints("web").subset(&ready, &[(text[2].as_str(), "n")], &ports);
    let world = World::start(nginx, [&pods("web", port) as _, &endpoints as _]).await?;
    tcp_reaches(at(port), &["a", "b"]).await?;
    udp_reaches(at(port), &["a", "b"]).await?;
    // Slices, once there are any, are what counts.
    world.put([&pods("web", port) as _, &endpoints as _, &pods_slice("web", [&servers[2]]) as _])?;
    tcp_reaches(at(port), &["c"]).await
}

on_each_nginx!(conditions, endpoints_api);

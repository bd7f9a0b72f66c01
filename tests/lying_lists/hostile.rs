//! Endpoints and objects that a current API server would refuse.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::backends::{Echo, tcp_ask};
use lbex_test_harness::liar::Liar;
use lbex_test_harness::objects::{service, slice};
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::{SOON, eventually};
use serde_json::json;

use crate::{at, objects, pods, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_of_the_api_reach_neither_this_host_nor_its_neighbours() -> Result<()> {
    let echo = Echo::new("inside").ip(IpAddr::from([127, 0, 31, 1])).start()?;
    let ports = free_ports(3)?;
    let api = Liar::start()?;
    let services = [pods("loopback", ports[0]), pods("metadata", ports[1]), pods("own", ports[2])];
    let slices = [
        slice("loopback", "loopback").tcp("tcp", echo.port()).ready("127.0.31.1", "n"),
        slice("metadata", "metadata").tcp("tcp", 80).ready("169.254.169.254", "n"),
        // Itself: permitted by address, and a loop all the same.
        slice("own", "own").tcp("tcp", ports[2]).ready("127.0.32.1", "n"),
    ];
    api.set("services", objects(&services));
    api.set("endpointslices", objects(&slices));
    let lbex = start(&api, &["--allow-endpoint-cidrs=127.0.32.0/24"]).await?;
    for port in &ports {
        eventually(&format!("clients of {port} are closed"), SOON, || async {
            match tcp_ask(at(*port)).await {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
    }
    for text in ["127.0.31.1 among them", "169.254.169.254 among them", &format!("127.0.32.1:{} among them", ports[2])]
    {
        lbex.wait_log(text, SOON).await?;
    }
    ensure!(echo.connections() == 0, "it was reached");
    let refused = lbex.metric("lbex_rejections", &[("reason", "EndpointNotAllowed")]).await?;
    ensure!(refused == Some(2.0), "{refused:?}");
    Ok(())
}

/// Objects at the sizes that an API server allows, and beyond: others are served, and every line of the log is short.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_every_size_are_carried_or_refused_and_told_briefly() -> Result<()> {
    let echo = Echo::new("small").ip(IpAddr::from([127, 0, 33, 1])).start()?;
    let ports = free_ports(303)?;
    let mut wide = service("wide").ask().lbex("upstream-type", "pod");
    for (n, port) in ports[3..].iter().enumerate() {
        wide = wide.tcp(&format!("p{n}"), *port, 0).listen(&format!("p{n}"), *port);
    }
    let ranges: Vec<_> = (0..5000).map(|n| format!("10.{}.{}.0/24", n / 250, n % 250)).collect();
    let guarded = pods("guarded", ports[0]).spec(json!({"loadBalancerSourceRanges": ranges}));
    let crowd = pods(&"c".repeat(63), ports[1]);
    let long = "x".repeat(200 * 1024);
    let wordy = pods("wordy", ports[2]).lbex("algorithm", &long).lbex("connect-timeout", &long[..1000]);
    let names = (0..400).map(|n| (format!("loadbalancer.lbex/{}{n}", "unknown".repeat(8)), json!("x")));
    let annotations: serde_json::Map<_, _> = names.collect();
    let wordy = wordy.merge(json!({"metadata": {"annotations": annotations}}));
    let nameless = pods("n", 1).merge(json!({"metadata": {"name": "Bad\nName".repeat(5000)}}));
    let many_ranges = pods("ranges", 2).spec(json!({"loadBalancerSourceRanges": [&long]}));

    let api = Liar::start()?;
    let services = [wide, guarded, crowd, wordy, nameless, many_ranges];
    api.set("services", objects(&services));
    let mut slices: Vec<_> = (0..8)
        .map(|n| {
            let empty = slice(&format!("crowd-{n}"), &"c".repeat(63)).tcp("tcp", 80);
            (0..1000).fold(empty, |slice, e| slice.ready(format!("10.{n}.{}.{}", e / 250, e % 250 + 1), "n"))
        })
        .collect();
    slices.push(slice("wordy", "wordy").tcp("tcp", echo.port()).ready("127.0.33.1", "n"));
    api.set("endpointslices", objects(&slices));
    let lbex = start(&api, &["--allow-endpoint-cidrs=127.0.33.0/24"]).await?;

    let wordy = eventually("the wordy one is served", SOON, || tcp_ask(at(ports[2]))).await;
    wordy.with_context(|| lbex.log_tail())?;
    lbex.wait_ready().await?;
    let metric = |name: &'static str| lbex.metric(name, &[]);
    ensure!(metric("lbex_services_served").await? == Some(4.0), "{:?}", metric("lbex_services_served").await?);
    ensure!(metric("lbex_listeners").await? == Some(303.0), "{:?}", metric("lbex_listeners").await?);
    ensure!(metric("lbex_endpoints").await? == Some(8001.0), "{:?}", metric("lbex_endpoints").await?);
    lbex.wait_healthy().await?;
    let log = lbex.log();
    let longest = log.lines().map(str::len).max().unwrap_or_default();
    ensure!(longest < 1500, "a line of {longest} bytes");
    ensure!(log.lines().count() < 200, "{} lines", log.lines().count());
    Ok(())
}

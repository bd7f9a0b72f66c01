//! Health and metrics: what they say, and how to do without.

use anyhow::Result;
use lbex_test_harness::backends::tcp_ask;
use lbex_test_harness::http;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::node;
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::{SOON, eventually};

use crate::support::{Manifests, World, at, lbex_on, pods, pods_slice, servers, tcp_reaches};

/// Name, labels, value.
type Metric<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

#[tokio::test]
async fn health_and_metrics() -> Result<()> {
    let (ports, servers) = (free_ports(3)?, servers(3)?);
    let world = World::start(
        Nginx::Embedded,
        [
            &pods("web", ports[0]) as _,
            &pods_slice("web", &servers) as _,
            &pods("empty", ports[1]) as _,
            &pods("bad", ports[2]).lbex("algorithm", "fastest").lbex("idle-timeout", "long") as _,
            &pods("other-pool", ports[2]).lbex("service-pool", "elsewhere") as _,
            &lbex_test_harness::objects::service("not-asking").tcp("tcp", 80, 0) as _,
            &node("n1") as _,
        ],
    )
    .await?;
    for (path, body) in [("/", "healthy\n"), ("/livez", "live\n"), ("/readyz", "ready\n")] {
        let answer = world.lbex.get(path).await?;
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{path}");
    }
    assert_eq!(world.lbex.get("/metrics").await?.status, 404);
    assert_eq!(http::get(world.lbex.metrics_address(), "/").await?.status, 404);

    let expected: &[Metric<'_>] = &[
        ("lbex_services_asked", &[], 4.0),
        ("lbex_services_served", &[], 3.0),
        ("lbex_listeners", &[("protocol", "tcp")], 3.0),
        ("lbex_listeners", &[("protocol", "udp")], 3.0),
        ("lbex_endpoints", &[], 6.0),
        ("lbex_rejections", &[("reason", "InvalidAnnotation"), ("effect", "adjusted")], 2.0),
        ("lbex_rejections", &[("reason", "OtherPool")], 1.0),
        ("lbex_proxy_healthy", &[], 1.0),
        ("lbex_source_connected", &[], 1.0),
        ("lbex_events_total", &[("kind", "service")], 5.0),
        ("lbex_events_total", &[("kind", "node")], 1.0),
        ("lbex_events_total", &[("kind", "endpoints")], 1.0),
        ("lbex_apply_duration_seconds_count", &[("action", "started")], 1.0),
        ("lbex_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0),
        ("lbex_draining_workers", &[], 0.0),
    ];
    for (name, labels, value) in expected {
        assert_eq!(world.lbex.metric(name, labels).await?, Some(*value), "{name} {labels:?}");
    }
    for name in
        ["lbex_last_sync_timestamp_seconds", "lbex_last_apply_timestamp_seconds", "process_resident_memory_bytes"]
    {
        assert!(world.lbex.metric(name, &[]).await? > Some(1e6), "{name}");
    }
    Ok(())
}

/// Both can be turned off; then nothing listens.
#[tokio::test]
async fn without_health_and_metrics() -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(1)?);
    let manifests = Manifests::new()?;
    manifests.put("all.json", [&pods("web", ports[0]) as _, &pods_slice("web", &servers) as _])?;
    let flags = ["--health-check=false", &format!("--health-port={}", ports[1]), "--metrics-address=off"];
    let lbex = lbex_on(&manifests, Nginx::Embedded).args(flags).start().await?;
    tcp_reaches(at(ports[0]), &["a"]).await?;
    assert!(lbex.get("/").await.is_err() && lbex.metrics().await.is_err());
    assert!(tcp_ask(at(ports[1])).await.is_err());
    Ok(())
}

/// Until there is something to serve, LBEX says what it waits for; an empty folder is something.
#[tokio::test]
async fn an_empty_folder_is_served() -> Result<()> {
    let (port, servers) = (free_ports(1)?[0], servers(1)?);
    let manifests = Manifests::new()?;
    let lbex = lbex_on(&manifests, Nginx::Embedded).start().await?;
    lbex.wait_healthy().await?;
    eventually("it is ready", SOON, || async {
        let answer = lbex.get("/readyz").await?;
        anyhow::ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    })
    .await?;
    manifests.put("first.json", [&pods("web", port) as _, &pods_slice("web", &servers) as _])?;
    tcp_reaches(at(port), &["a"]).await
}

/// Too few files: told in numbers once, not with every Service.
#[tokio::test]
async fn a_shortage_is_told_once() -> Result<()> {
    let (ports, servers) = (free_ports(3)?, servers(1)?);
    let manifests = Manifests::new()?;
    let prlimit = ["/usr/bin/prlimit", "--nofile=2048:2048"];
    let lbex = lbex_on(&manifests, Nginx::Embedded).arg("--reload-interval=100ms").under(prlimit).start().await?;
    for (n, port) in ports.iter().enumerate() {
        let name = format!("s{n}");
        manifests.put(&format!("{name}.json"), [&pods(&name, *port) as _, &pods_slice(&name, &servers) as _])?;
        tcp_reaches(at(*port), &["a"]).await?;
    }
    let log = lbex.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("files per process")).collect();
    // A host that gives LBEX more files than it was started with has no shortage.
    assert!(told.len() <= 1, "{told:?}");
    assert!(
        told.iter().all(|line| line.contains("NGINX may open 2048 files") && line.contains("room for")),
        "{told:?}"
    );
    Ok(())
}

//! The annotations that say where LBEX listens: contract section 4.

use anyhow::Result;
use lbex_test_harness::backends::Echo;
use lbex_test_harness::objects::{Service, service, slice};
use lbex_test_harness::ports::free_port;

use crate::common::{Cluster, ELSEWHERE, tcp_is};

const NAMED: &str = "loadbalancer-port.lbex/http";
const UNNAMED: &str = "loadbalancer-port.lbex/unnamed";
const OLDER: &str = "loadbalancer.lbex/port";

#[tokio::test]
async fn each_spelling_of_a_port_counts() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut services = Vec::new();
    for (name, annotation) in [("named", NAMED), ("unnamed", UNNAMED), ("older", OLDER)] {
        let spelt = |service: Service, port: u16| service.ask().annotate(annotation, port.to_string());
        services.push((name, cluster.serve_any(name, spelt).await?));
    }
    // The more exact spelling wins; the other is told.
    let losing = free_port()?;
    let differ = cluster.serve("differ", |service| service.lbex("port", &losing.to_string())).await?;
    let lbex = cluster.start(&[]).await?;
    for (name, served) in &services {
        tcp_is(served.port, name).await?;
    }
    tcp_is(differ.port, "differ").await?;
    tcp_is(losing, "refused").await?;
    let line = cluster.told(&lbex, "differ", "PortsDiffer").await?;
    assert!(line.contains(NAMED) && line.contains(OLDER) && line.contains(&losing.to_string()), "{line}");
    Ok(())
}

#[tokio::test]
async fn a_value_that_is_no_port_is_not_served_and_told() -> Result<()> {
    let cluster = Cluster::new().await?;
    let values =
        [("zero", "0"), ("big", "65536"), ("word", "http"), ("minus", "-1"), ("hostile", "80; }"), ("none", "")];
    for (name, value) in values {
        cluster.objects.create(&service(name).ask().tcp("http", 80, 0).annotate(NAMED, value)).await?;
    }
    // Its other port is none the worse.
    let (echo, port) = (Echo::new("partly").start()?, free_port()?);
    let partly = service("partly").ask().tcp("http", 80, echo.port()).listen("http", port).tcp("admin", 81, 0);
    cluster.objects.create(&partly.annotate("loadbalancer-port.lbex/admin", "eighty-one")).await?;
    let slice = slice("partly-1", "partly").tcp("http", 80).tcp("admin", 81).ready(ELSEWHERE, cluster.node());
    cluster.objects.create(&slice).await?;

    let lbex = cluster.start(&[]).await?;
    tcp_is(port, "partly").await?;
    for (name, value) in values {
        let line = cluster.told(&lbex, name, "InvalidPort").await?;
        assert!(line.contains("1-65535") && line.contains(NAMED), "{line}");
        assert!(line.contains(&format!("{value:?}")), "{line}");
        assert!(cluster.configuration(&lbex, name).is_err());
    }
    let line = cluster.told(&lbex, "partly", "InvalidPort").await?;
    assert!(line.contains("port \"admin\"") && line.contains("eighty-one"), "{line}");
    Ok(())
}

#[tokio::test]
async fn a_missing_port_annotation_is_told_unless_none_is_required() -> Result<()> {
    let cluster = Cluster::new().await?;
    let (echo, port) = (Echo::new("web").start()?, free_port()?);
    cluster.objects.create(&service("web").ask().tcp("http", port, echo.port())).await?;
    cluster.objects.create(&slice("web-1", "web").tcp("http", 80).ready(ELSEWHERE, cluster.node())).await?;
    // With two ports, the spellings without a name are for neither.
    let two = service("two").ask().tcp("http", 80, 0).tcp("admin", 81, 0).lbex("port", &free_port()?.to_string());
    cluster.objects.create(&two).await?;
    {
        let lbex = cluster.start(&[]).await?;
        let line = cluster.told(&lbex, "web", "PortAnnotationMissing").await?;
        assert!(line.contains(NAMED) && line.contains("--require-port=false"), "{line}");
        tcp_is(port, "refused").await?;
        cluster.told(&lbex, "two", "PortAnnotationMissing").await?;
        cluster.told(&lbex, "two", "AnnotationWithoutEffect").await?;
    }
    for spelling in ["--require-port=false", "--required-port=false"] {
        let _lbex = cluster.start(&[spelling, "--service-name=web"]).await?;
        tcp_is(port, "web").await?;
    }
    Ok(())
}

#[tokio::test]
async fn ports_that_services_may_not_have_are_told() -> Result<()> {
    let cluster = Cluster::new().await?;
    let inside = cluster.serve("inside", |service| service).await?;
    let outside = cluster.serve("outside", |service| service).await?;
    let taken = cluster.serve("taken", |service| service).await?;
    let _holder = std::net::TcpListener::bind(("127.0.0.1", taken.port))?;
    let metrics = free_port()?;
    cluster.objects.create(&service("own").ask().tcp("http", 80, 0).listen("http", metrics)).await?;
    let allowed = format!("--allowed-ports={},{},{metrics}", inside.port, taken.port);
    let lbex = cluster.start(&[&allowed, &format!("--metrics-address=127.0.0.1:{metrics}")]).await?;
    tcp_is(inside.port, "inside").await?;
    tcp_is(outside.port, "refused").await?;
    cluster.told(&lbex, "outside", "PortNotAllowed").await?;
    cluster.told(&lbex, "own", "PortReserved").await?;
    cluster.told(&lbex, "taken", "PortInUse").await.map(drop)
}

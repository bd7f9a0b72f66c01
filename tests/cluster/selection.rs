//! Which Services an instance serves: contract section 3.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::backends::Echo;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::objects::{Objects, service, slice};
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually_is};

use crate::common::{Cluster, ELSEWHERE, at_is, binary, tcp_is};

/// An instance's flags, and the Services that it serves.
type Row = (&'static [&'static str], &'static [&'static str]);

const TABLE: [Row; 6] = [
    (&[], &["absent", "empty"]),
    (&["--strict-affinity"], &["absent", "empty"]),
    (&["--anti-affinity"], &["blue", "green"]),
    (&["--service-pool=blue"], &["absent", "empty", "blue"]),
    (&["--service-pool=blue", "--strict-affinity"], &["blue"]),
    (&["--service-pool=blue", "--anti-affinity"], &["absent", "empty", "green"]),
];

/// Services by their pool annotation.
const POOLS: [(&str, Option<&str>); 5] = [
    ("absent", None),
    ("empty", Some("")),
    ("blue", Some("blue")),
    ("green", Some("green")),
    ("bad", Some("not a pool")),
];

#[tokio::test]
async fn every_row_of_the_table() -> Result<()> {
    let cluster = Cluster::new().await?;
    let mut services = Vec::new();
    for (name, pool) in POOLS {
        let served = cluster.serve(name, |service| match pool {
            Some(pool) => service.lbex("service-pool", pool),
            None => service,
        });
        services.push((name, served.await?));
    }
    // Side by side on one host, each on an address of its own.
    for (number, (flags, serves)) in (1..).zip(TABLE) {
        let address = Ipv4Addr::new(127, 0, 1, number);
        let lbex = cluster.start(&[flags, &[&format!("--listen-address={address}")]].concat()).await?;
        for (name, served) in &services {
            let expected = if serves.contains(name) { name } else { "refused" };
            at_is((address, served.port).into(), expected).await?;
            if expected == "refused" {
                let reason = if *name == "bad" { "InvalidPool" } else { "OtherPool" };
                let line = cluster.told(&lbex, name, reason).await?;
                assert!(line.contains("not served: "), "{line}");
            }
        }
        let served = Some(serves.len().to_string());
        eventually_is("lbex_services_served", SOON, served, || async {
            let count = lbex.metric("lbex_services_served", &[]).await.ok().flatten();
            count.map(|count| count.to_string())
        })
        .await
        .with_context(|| format!("{flags:?}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_service_name_narrows_and_replaces_nothing() -> Result<()> {
    let cluster = Cluster::new().await?;
    let wanted = cluster.serve("wanted", |service| service).await?;
    let other = cluster.serve("other", |service| service).await?;
    let silent = cluster.serve_any("silent", |service, listen| service.listen("http", listen)).await?;
    for name in ["wanted", &format!("{}/wanted", cluster.namespace())] {
        let lbex = cluster.start(&["--service-name", name]).await?;
        tcp_is(wanted.port, "wanted").await?;
        tcp_is(other.port, "refused").await?;
        cluster.told(&lbex, "other", "OtherServiceName").await?;
    }
    // One that does not ask is not served, whoever names it.
    let _lbex = cluster.start(&["--service-name=silent"]).await?;
    tcp_is(silent.port, "refused").await?;
    let _elsewhere = cluster.start(&["--service-name=default/wanted"]).await?;
    tcp_is(wanted.port, "refused").await
}

#[tokio::test]
async fn the_annotation_or_the_load_balancer_class_asks() -> Result<()> {
    let cluster = Cluster::new().await?;
    let annotated = cluster.serve("annotated", |service| service).await?;
    // By the class, the Service port is the port to listen on where no annotation says another.
    let (echo, port) = (Echo::new("classed").start()?, free_port()?);
    cluster.objects.create(&service("classed").tcp("http", port, echo.port()).ask_by_class()).await?;
    cluster.objects.create(&slice("classed-1", "classed").tcp("http", 80).ready(ELSEWHERE, cluster.node())).await?;
    let other = "kubernetes.io/loadbalancer-class";
    let foreign = cluster
        .serve_any("foreign", |service, listen| service.annotate(other, "somebody-else").listen("http", listen))
        .await?;
    let edge = cluster
        .serve_any("edge", |service, listen| {
            let class = serde_json::json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/edge"});
            service.spec(class).listen("http", listen)
        })
        .await?;
    {
        let lbex = cluster.start(&[]).await?;
        tcp_is(annotated.port, "annotated").await?;
        tcp_is(port, "classed").await?;
        tcp_is(foreign.port, "refused").await?;
        tcp_is(edge.port, "refused").await?;
        assert!(!lbex.log().contains("/foreign"), "one that does not ask is none of LBEX's business");
    }
    let _lbex = cluster.start(&["--load-balancer-class=example.com/edge"]).await?;
    tcp_is(annotated.port, "annotated").await?;
    tcp_is(edge.port, "edge").await?;
    tcp_is(port, "refused").await
}

#[tokio::test]
async fn kube_system_counts_as_all_namespaces_do() -> Result<()> {
    let cluster = Cluster::new().await?;
    let system = Objects::new(ApiServer::shared().await?.client().await?, "kube-system");
    let (name, echo, port) = (cluster.name("web"), Echo::new("system").start()?, free_port()?);
    system.create(&slice(&name, &name).tcp("http", 80).ready(ELSEWHERE, cluster.node())).await?;
    system.create(&service(&name).ask().tcp("http", 80, echo.port()).listen("http", port)).await?;
    // Every namespace is watched; the others' Services are left to the tests that they belong to.
    let kubeconfig = cluster.kubeconfig.display().to_string();
    let flags = ["--kubeconfig", &kubeconfig, "--service-name", &name];
    let lbex = Lbex::builder(binary()).args(flags).start().await?;
    lbex.wait_healthy().await?;
    tcp_is(port, "system").await?;
    system.delete("Service", &name).await?;
    tcp_is(port, "refused").await
}

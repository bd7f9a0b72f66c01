//! The annotations of contract section 4 but for ports and pools: each with a valid value, and with one that is not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lbex_test_harness::backends::{Conversation, Echo, tcp_tally};
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::{Service, endpoint, node, service, slice};
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually, eventually_is};
use serde_json::json;

use crate::common::{Cluster, ELSEWHERE, local, tcp_is};

/// A Service on two nodes, whose backends are called `a` and `b`.
struct OnTwo {
    port: u16,
    backends: Vec<Echo>,
}

async fn on_two_nodes(cluster: &Cluster, name: &str, change: impl FnOnce(Service) -> Service) -> Result<OnTwo> {
    let ips = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
    let backends = Echo::on_one_port([("a", ips[0]), ("b", ips[1])])?;
    let port = free_port()?;
    let endpoints = slice(&format!("{name}-1"), name).tcp("http", 80).ready(ELSEWHERE, cluster.node());
    cluster.objects.create(&endpoints.endpoint(endpoint("198.51.100.2").node(&cluster.name("second")))).await?;
    let service = service(name).ask().tcp("http", 80, backends[0].port()).listen("http", port);
    cluster.objects.create(&change(service)).await?;
    Ok(OnTwo { port, backends })
}

async fn is_even(port: u16) -> Result<()> {
    let even = BTreeMap::from([("a".to_owned(), 4), ("b".to_owned(), 4)]);
    let tally = || async { tcp_tally(local(port), 8).await.map_err(|error| error.to_string()) };
    eventually_is("a and b take turns", SOON, Ok(even), tally).await
}

async fn algorithms(nginx: Nginx) -> Result<()> {
    let cluster = Cluster::new().await?;
    cluster.add_node("second", [127, 0, 0, 2]).await?;
    let by = |algorithm: &'static str| move |service: Service| service.lbex("algorithm", algorithm);
    let default = on_two_nodes(&cluster, "default", |service| service).await?;
    let turns = on_two_nodes(&cluster, "turns", by("round_robin")).await?;
    let least = on_two_nodes(&cluster, "least", by("least_conn")).await?;
    let time = |service: Service| service.lbex("algorithm", "least_time").lbex("method", "first_byte inflight");
    let time = on_two_nodes(&cluster, "time", time).await?;
    let wrong = on_two_nodes(&cluster, "wrong", by("fastest")).await?;
    let stray = on_two_nodes(&cluster, "stray", |service| service.lbex("method", "connect")).await?;
    let bad = |service: Service| service.lbex("algorithm", "least_time").lbex("method", "last_bite");
    let bad = on_two_nodes(&cluster, "bad", bad).await?;

    let lbex = cluster.lbex().nginx(nginx).start().await?;
    lbex.wait_healthy().await?;
    for service in [&default, &turns, &time, &wrong, &stray, &bad] {
        is_even(service.port).await?;
    }
    fewest_connections_win(&least).await?;

    // Neither NGINX is as new as `least_time`.
    cluster.told(&lbex, "time", "AlgorithmUnsupported").await?;
    cluster.told(&lbex, "stray", "AnnotationWithoutEffect").await?;
    for (service, value, allowed, used) in [
        ("wrong", "\"fastest\"", "round_robin, least_conn, least_time", "used instead: round_robin"),
        ("bad", "\"last_bite\"", "connect, first_byte, last_byte", "used instead: connect"),
    ] {
        let line = cluster.told(&lbex, service, "InvalidAnnotation").await?;
        assert!([" WARN ", value, allowed, used].iter().all(|part| line.contains(part)), "{line}");
    }
    for name in ["default", "turns", "least", "time"] {
        assert!(!cluster.has_told(&lbex, name, "InvalidAnnotation"));
    }
    Ok(())
}
on_each_nginx!(algorithms);

async fn fewest_connections_win(service: &OnTwo) -> Result<()> {
    let open = || Conversation::open(local(service.port));
    let (one, two) = (open().await?, open().await?);
    ensure!(one.name() != two.name(), "both went to {}", one.name());
    let three = open().await?;
    // One backend has two connections now; the other loses its only one, and gets the next two.
    let (idle, busy) = if three.name() == one.name() { (two, one) } else { (one, two) };
    let name = idle.name().to_owned();
    let backend = service.backends.iter().find(|backend| backend.name() == name);
    drop(idle);
    eventually_is("the connection has ended", SOON, Some(0), || async { backend.map(Echo::open_connections) }).await?;
    let (four, five) = (open().await?, open().await?);
    assert_eq!((four.name(), five.name()), (name.as_str(), name.as_str()));
    drop((three, busy));
    Ok(())
}

/// A Service, its annotations, and the node address that its traffic goes to.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

#[tokio::test]
async fn upstream_type_node_set_and_address_type() -> Result<()> {
    let cluster = Cluster::new().await?;
    let two = cluster.name("two");
    cluster.objects.create(&node(&two).internal("127.0.0.3").external("127.0.0.4")).await?;
    let cases: [Case; 6] = [
        ("inner", &[("node-address-type", "internal")], "internal"),
        ("outer", &[("node-address-type", "external")], "external"),
        ("neither", &[("node-address-type", "public")], "internal"),
        ("type", &[("upstream-type", "pods")], "internal"),
        ("set", &[("node-set", "some")], "internal"),
        ("all-local", &[("node-set", "all")], "internal"),
    ];
    let mut backends = Vec::new();
    let mut ports = Vec::new();
    for (name, annotations, _) in cases {
        let (pair, listen) = (pair()?, free_port()?);
        let mut made = service(name).ask().tcp("http", 80, pair[0].port()).listen("http", listen);
        for (annotation, value) in annotations {
            made = made.lbex(annotation, value);
        }
        if name == "all-local" {
            made = made.spec(json!({"externalTrafficPolicy": "Local"}));
        }
        cluster.objects.create(&made).await?;
        cluster.objects.create(&slice(name, name).tcp("http", 80).ready(ELSEWHERE, &two)).await?;
        backends.push(pair);
        ports.push(listen);
    }
    let ignored = service("ignored").ask().tcp("http", 80, 0).listen("http", free_port()?);
    let ignored = ignored.lbex("upstream-type", "pod").lbex("node-set", "all").lbex("node-address-type", "external");
    cluster.objects.create(&ignored).await?;

    let lbex = cluster.start(&[]).await?;
    for ((_, _, expected), port) in cases.iter().zip(ports) {
        tcp_is(port, expected).await?;
    }
    for (service, value, used) in
        [("neither", "\"public\"", "internal"), ("type", "\"pods\"", "node"), ("set", "\"some\"", "host")]
    {
        let line = cluster.told(&lbex, service, "InvalidAnnotation").await?;
        assert!(line.contains(value) && line.contains(&format!("used instead: {used}")), "{line}");
    }
    cluster.told(&lbex, "all-local", "LocalMeansHost").await?;
    cluster.told(&lbex, "ignored", "AnnotationWithoutEffect").await.map(drop)
}

fn pair() -> Result<Vec<Echo>> {
    Echo::on_one_port([("internal", [127, 0, 0, 3].into()), ("external", [127, 0, 0, 4].into())])
}

#[tokio::test]
async fn timeouts_of_a_service_count_for_it_alone() -> Result<()> {
    let cluster = Cluster::new().await?;
    let brief = cluster.serve("brief", |service| service.lbex("idle-timeout", "700ms")).await?;
    let patient = cluster.serve("patient", |service| service.lbex("connect-timeout", "500ms")).await?;
    let wrong = |service: Service| service.lbex("idle-timeout", "forever").lbex("connect-timeout", "0s");
    let wrong = cluster.serve("wrong", wrong).await?;
    let lbex = cluster.start(&["--tcp-idle-timeout=2h", "--connect-timeout=4s"]).await?;
    for (name, served) in [("brief", &brief), ("patient", &patient), ("wrong", &wrong)] {
        tcp_is(served.port, name).await?;
    }
    let mut stays = Conversation::open(local(patient.port)).await?;
    let since = Instant::now();
    let mut ends = Conversation::open(local(brief.port)).await?;
    ends.closed(SOON).await?;
    ensure!(since.elapsed() >= Duration::from_millis(600), "closed after {:?}", since.elapsed());
    stays.say("still here").await?;
    for (name, connect, idle) in [("brief", "4s", "700ms"), ("patient", "500ms", "2h"), ("wrong", "4s", "2h")] {
        cluster.configured(&lbex, name, &format!("proxy_connect_timeout {connect};")).await?;
        cluster.configured(&lbex, name, &format!("proxy_timeout {idle};")).await?;
    }
    let line = cluster.told(&lbex, "wrong", "InvalidAnnotation").await?;
    assert!(line.contains("500ms, 3s, 5m or 1h"), "{line}");
    let log = lbex.log();
    assert!(log.contains("\"forever\"") && log.contains("\"0s\""), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_mistake_is_told_once_and_so_is_its_end() -> Result<()> {
    let cluster = Cluster::new().await?;
    let hostile = "least_conn;\n} evil { $remote_addr \"'\\";
    let served = cluster.serve("web", |service| service.lbex("algorithm", hostile).lbex("algoritm", "x")).await?;
    let lbex = cluster.start(&[]).await?;
    tcp_is(served.port, "web").await?;
    let line = cluster.told(&lbex, "web", "InvalidAnnotation").await?;
    assert!(line.contains("evil"), "{line}");
    cluster.told(&lbex, "web", "UnknownAnnotation").await?;
    for folder in ["conf", "services"] {
        for entry in std::fs::read_dir(lbex.prefix().join(folder))? {
            let text = std::fs::read_to_string(entry?.path())?;
            assert!(!text.contains("evil"), "{text}");
        }
    }
    let mark = lbex.log_mark();
    cluster.objects.annotate("Service", "web", "loadbalancer.lbex/algorithm", Some("least_conn")).await?;
    let line = cluster.told_since(&lbex, mark, "web", "InvalidAnnotation").await?;
    assert!(line.contains("no longer: "), "{line}");
    cluster.configured(&lbex, "web", "least_conn;").await?;
    cluster.objects.annotate("Service", "web", "loadbalancer.lbex/algoritm", None).await?;
    let line = cluster.told_since(&lbex, mark, "web", "UnknownAnnotation").await?;
    assert!(line.contains("no longer: "), "{line}");
    eventually("no problem is left", SOON, || async {
        let left = lbex.metric("lbex_rejections", &[]).await?;
        ensure!(left.is_none(), "{left:?}");
        Ok(())
    })
    .await
}

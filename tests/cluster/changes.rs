//! Services that come, change and go; who has a port that two want; instances side by side.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lbex_test_harness::backends::{Conversation, Echo};
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::{Service, service, slice};
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_port;
use serde_json::json;

use crate::common::{Cluster, ELSEWHERE, Steady, local, tcp_is, udp_is};

const FAST: &str = "--reload-interval=100ms";
const CLASS: &str = "kubernetes.io/loadbalancer-class";

async fn a_service_comes_changes_and_goes(nginx: Nginx) -> Result<()> {
    let cluster = Cluster::new().await?;
    let bystander = cluster.serve("bystander", |service| service).await?;
    let lbex = cluster.lbex().arg(FAST).nginx(nginx).start().await?;
    lbex.wait_healthy().await?;
    tcp_is(bystander.port, "bystander").await?;
    let mut conversation = Conversation::open(local(bystander.port)).await?;

    let (first, second) = (Echo::new("first").start()?, Echo::new("second").start()?);
    let (one, other) = (free_port()?, free_port()?);
    let web = |node_port: u16, port: u16| {
        let service = service("web").ask().tcp("tcp", 80, node_port).udp("udp", 80, node_port);
        service.listen("tcp", port).listen("udp", port)
    };
    let endpoints = slice("web-1", "web").tcp("tcp", 80).udp("udp", 80).ready(ELSEWHERE, cluster.node());
    cluster.objects.create_all([&web(first.port(), one) as _, &endpoints as _]).await?;
    tcp_is(one, "first").await?;
    udp_is(one, "first").await?;

    cluster.objects.put(&web(second.port(), one)).await?;
    tcp_is(one, "second").await?;
    udp_is(one, "second").await?;

    cluster.objects.put(&web(second.port(), other)).await?;
    tcp_is(other, "second").await?;
    udp_is(other, "second").await?;
    tcp_is(one, "refused").await?;
    udp_is(one, "refused").await?;

    cluster.objects.annotate("Service", "web", CLASS, None).await?;
    tcp_is(other, "refused").await?;
    cluster.objects.annotate("Service", "web", CLASS, Some("loadbalancer-lbex")).await?;
    tcp_is(other, "second").await?;
    cluster.objects.delete("Service", "web").await?;
    tcp_is(other, "refused").await?;
    udp_is(other, "refused").await?;
    // All of this was none of its business.
    conversation.say("still here").await?;
    Ok(())
}
on_each_nginx!(a_service_comes_changes_and_goes);

#[tokio::test]
async fn the_older_service_has_the_port_after_every_restart() -> Result<()> {
    let cluster = Cluster::new().await?;
    let older = cluster.serve("z-older", |service| service).await?;
    // Creation times have whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let own = free_port()?;
    let newer = |service: Service, _| service.ask().listen("http", older.port).udp("more", 81, 0).listen("more", own);
    let _newer = cluster.serve_any("a-newer", newer).await?;
    let mut lbex = cluster.start(&[FAST]).await?;
    let line = cluster.told(&lbex, "a-newer", "PortTaken").await?;
    assert!(line.contains("z-older") && line.contains(&older.port.to_string()), "{line}");
    let line = cluster.told(&lbex, "z-older", "PortContested").await?;
    assert!(line.contains("a-newer"), "{line}");
    tcp_is(older.port, "z-older").await?;
    // What it has alone is served.
    udp_is(own, "silent").await?;

    for _ in 0..2 {
        let nginx = lbex.nginx_pid()?;
        ensure!(lbex.terminate().await?.status.success());
        tcp_is(older.port, "z-older").await?;
        let mark = lbex.log_mark();
        lbex.start_again()?;
        lbex.wait_healthy().await?;
        cluster.told_since(&lbex, mark, "a-newer", "PortTaken").await?;
        tcp_is(older.port, "z-older").await?;
        assert_eq!(lbex.nginx_pid()?, nginx, "NGINX was not taken over");
    }

    // Whoever is next takes over, and both are told; the older one gets it back.
    let mark = lbex.log_mark();
    cluster.objects.annotate("Service", "z-older", CLASS, None).await?;
    tcp_is(older.port, "a-newer").await?;
    let line = cluster.told_since(&lbex, mark, "a-newer", "PortTaken").await?;
    assert!(line.contains("no longer: "), "{line}");
    cluster.objects.annotate("Service", "z-older", CLASS, Some("loadbalancer-lbex")).await?;
    tcp_is(older.port, "z-older").await?;
    cluster.objects.delete("Service", "z-older").await?;
    tcp_is(older.port, "a-newer").await
}

#[tokio::test]
async fn of_two_ports_of_a_service_the_first_has_the_listener() -> Result<()> {
    let cluster = Cluster::new().await?;
    let two = |service: Service, port| {
        // The same number for TCP and UDP is no conflict.
        let service = service.ask().listen("http", port).tcp("again", 81, 0).listen("again", port);
        service.udp("udp", 80, 0).listen("udp", port)
    };
    let served = cluster.serve_any("two", two).await?;
    let lbex = cluster.start(&[]).await?;
    let line = cluster.told(&lbex, "two", "PortTaken").await?;
    assert!(line.contains("port \"again\""), "{line}");
    tcp_is(served.port, "two").await?;
    udp_is(served.port, "silent").await
}

#[tokio::test]
async fn two_instances_serve_two_pools_and_hand_services_over() -> Result<()> {
    let cluster = Cluster::new().await?;
    let pool = |name: &'static str| move |service: Service| service.lbex("service-pool", name);
    let blue = cluster.serve("blue", pool("blue")).await?;
    let green = cluster.serve("green", pool("green")).await?;
    let moving = cluster.serve("moving", pool("blue")).await?;
    let flags = |pool: &'static str| [pool, "--strict-affinity", FAST];
    let one = cluster.start(&flags("--service-pool=blue")).await?;
    let two = cluster.start(&flags("--service-pool=green")).await?;
    let steady = [Steady::start(blue.port, "blue"), Steady::start(green.port, "green")];
    tcp_is(moving.port, "moving").await?;
    assert!(cluster.configuration(&one, "moving").is_ok() && cluster.configuration(&two, "moving").is_err());

    cluster.objects.annotate("Service", "moving", "loadbalancer.lbex/service-pool", Some("green")).await?;
    // The port passes from one process to the other on one host: whoever comes too early tries again.
    cluster.configured(&two, "moving", "listen").await?;
    tcp_is(moving.port, "moving").await?;
    assert!(cluster.configuration(&one, "moving").is_err());
    cluster.told(&one, "moving", "OtherPool").await?;
    for steady in steady {
        steady.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn many_changes_at_once_arrive_whole() -> Result<()> {
    let cluster = Cluster::new().await?;
    let lbex = cluster.start(&[]).await?;
    let steady = cluster.serve("steady", |service| service).await?;
    tcp_is(steady.port, "steady").await?;
    let clients = Steady::start(steady.port, "steady");
    let begin = Instant::now();
    let mut services = Vec::new();
    for number in 0..20 {
        let name = format!("web-{number}");
        services.push((cluster.serve(&name, |service| service).await?, name));
    }
    for (served, name) in &services {
        tcp_is(served.port, name).await?;
    }
    for (number, (_, name)) in services.iter().enumerate() {
        match number % 2 {
            0 => cluster.objects.delete("Service", name).await?,
            _ => cluster.objects.patch("EndpointSlice", &format!("{name}-1"), &json!({"endpoints": []})).await?,
        }
    }
    for (number, (served, _)) in services.iter().enumerate() {
        tcp_is(served.port, if number % 2 == 0 { "refused" } else { "closed" }).await?;
    }
    clients.finish().await?;
    // Far fewer reloads than changes; on a slow machine, one in a second.
    let most = 15.0_f64.max(begin.elapsed().as_secs_f64() + 1.0);
    let reloads = lbex.metric("lbex_apply_duration_seconds_count", &[("action", "reloaded")]).await?.unwrap_or(0.0);
    ensure!(reloads <= most, "{reloads} reloads for 41 changes");
    Ok(())
}

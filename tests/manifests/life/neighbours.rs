//! Several LBEX on one host.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::Service;
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::{free_port, free_ports};
use lbex_test_harness::wait::{SOON, eventually_is, stays};

use crate::capacity::{hold, raise_file_limit};
use crate::support::{Manifests, World, at, lbex_on, pods, pods_slice, servers, tcp_reaches, tcp_refused};

/// Pools: each instance serves its own, from the same manifests, and neither touches the other's NGINX.
async fn side_by_side(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(3)?, servers(3)?);
    let manifests = Manifests::new()?;
    let in_pool = |name, port, pool| pods(name, port).lbex("service-pool", pool);
    let write = |last: &Service| {
        manifests.put(
            "all.json",
            [
                &in_pool("left", ports[0], "left") as _,
                &pods_slice("left", &servers[..1]) as _,
                &in_pool("right", ports[1], "right") as _,
                &pods_slice("right", &servers[1..2]) as _,
                last as _,
                &pods_slice("moves", &servers[2..]) as _,
            ],
        )
    };
    write(&in_pool("moves", ports[2], "left"))?;
    let flags = |pool: &str| [format!("--service-pool={pool}"), "--strict-affinity".to_owned()];
    let left = lbex_on(&manifests, nginx).args(flags("left")).start().await?;
    let right = lbex_on(&manifests, nginx).args(flags("right")).start().await?;
    for (port, name) in ports.iter().zip(["a", "b", "c"]) {
        tcp_reaches(at(*port), &[name]).await?;
    }
    let serve = async |on_left: f64, on_right: f64| {
        eventually_is("each serves its own", SOON, (Some(on_left), Some(on_right)), || async {
            let served = async |lbex: &Lbex| lbex.metric("lbex_services_served", &[]).await.ok().flatten();
            (served(&left).await, served(&right).await)
        })
        .await
    };
    serve(2.0, 1.0).await?;

    // A Service changes pools: the port goes from one NGINX to the other.
    write(&in_pool("moves", ports[2], "right"))?;
    serve(1.0, 2.0).await?;
    tcp_reaches(at(ports[2]), &["c"]).await?;

    // One of them is killed with all it has: the other does not notice.
    let before = right.nginx_pid()?;
    drop(left);
    tcp_refused(at(ports[0])).await?;
    tcp_reaches(at(ports[1]), &["b"]).await?;
    tcp_reaches(at(ports[2]), &["c"]).await?;
    assert_eq!((right.nginx_pid()?, right.get("/").await?.status), (before, 200));
    Ok(())
}

/// Another NGINX of the host with thousands of connections: LBEX's looks at its own stay quick.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_neighbour() -> Result<()> {
    raise_file_limit()?;
    let (ports, servers) = (free_ports(2)?, servers(1)?);
    let objects = |name, port| (pods(name, port), pods_slice(name, &servers));
    let (busy, busy_slice) = objects("busy", ports[0]);
    let neighbour = World::start(Nginx::System, [&busy as _, &busy_slice as _]).await?;
    let _held = hold(at(ports[0]), 3_000).await?;
    let (web, slice) = objects("web", ports[1]);
    let begin = Instant::now();
    let world = World::start(Nginx::Embedded, [&web as _, &slice as _]).await?;
    tcp_reaches(at(ports[1]), &["a"]).await?;
    let took = begin.elapsed();
    stays("both are healthy", Duration::from_secs(3), || async {
        for lbex in [&world.lbex, &neighbour.lbex] {
            let answer = lbex.get("/").await?;
            ensure!(answer.status == 200, "{} {:?}", answer.status, answer.body);
        }
        Ok(())
    })
    .await?;
    assert!(took < Duration::from_secs(20), "started within {took:?}");
    Ok(())
}

/// Two with one prefix: the second ends, and says which process has it.
#[tokio::test]
async fn one_prefix() -> Result<()> {
    let (port, servers) = (free_port()?, servers(1)?);
    let world = World::start(Nginx::Embedded, [&pods("web", port) as _, &pods_slice("web", &servers) as _]).await?;
    let before = world.nginx_pids();
    let second = lbex_on(&world.manifests, Nginx::Embedded).prefix(world.lbex.prefix()).start().await?;
    assert_eq!(second.wait_exit(SOON).await?.code(), Some(2));
    let log = second.log();
    for word in [world.lbex.prefix().display().to_string(), world.lbex.pid().to_string(), "--nginx-prefix".to_owned()] {
        assert!(log.contains(&word), "no {word:?} in: {log}");
    }
    tcp_reaches(at(port), &["a"]).await?;
    assert_eq!(world.lbex.get("/").await?.status, 200);
    assert_eq!(world.nginx_pids(), before);
    Ok(())
}

/// A health or metrics port that is taken: exit code 2, with the holder, and nothing was started.
#[tokio::test]
async fn taken_ports() -> Result<()> {
    let manifests = Manifests::new()?;
    manifests.put("all.json", [&pods("web", free_port()?) as _])?;
    let holder = TcpListener::bind("127.0.0.1:0")?;
    let taken = holder.local_addr()?;
    let flags = [
        ("--health-port", format!("--health-port={}", taken.port())),
        ("--metrics-address", format!("--metrics-address={taken}")),
    ];
    for (name, flag) in flags {
        let lbex = lbex_on(&manifests, Nginx::Embedded).arg(flag).start().await?;
        assert_eq!(lbex.wait_exit(SOON).await?.code(), Some(2));
        let log = lbex.log();
        for word in [&taken.to_string(), &std::process::id().to_string(), name] {
            assert!(log.contains(word), "no {word:?} in: {log}");
        }
        assert_eq!(lbex.nginx_processes(), []);
    }
    Ok(())
}

on_each_nginx!(side_by_side);

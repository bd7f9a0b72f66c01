//! Endpoints that fail, clients that say nothing, datagrams of every size.

use std::time::{Duration, Instant};

use anyhow::Result;
use lbex_test_harness::backends::{Conversation, Echo, tcp_ask, tcp_tally, udp_ask};
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::{EndpointSlice, slice};
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::{free_port, free_ports};

use crate::support::{ANSWER, CLOSED, World, at, fails_with, local, pods, pods_slice, servers, tcp_reaches};

fn with_address(slice: EndpointSlice, address: impl ToString) -> EndpointSlice {
    slice.ready(address, "somewhere")
}

/// While one of two refuses connections, every client gets the other; once it is back it takes part again.
async fn one_of_two_is_dead(nginx: Nginx) -> Result<()> {
    let (port, mut servers) = (free_port()?, servers(2)?);
    let _world = World::start(nginx, [&pods("web", port) as _, &pods_slice("web", &servers) as _]).await?;
    tcp_reaches(at(port), &["a", "b"]).await?;
    let address = servers.pop().map_or(at(0), |server| server.address());
    let all = tcp_tally(at(port), 20).await?;
    assert_eq!(all.get("a"), Some(&20), "{all:?}");
    let _back = Echo::new("b").ip(address.ip()).port(address.port()).start()?;
    tcp_reaches(at(port), &["a", "b"]).await
}

/// The only endpoint is never taken for dead: it serves the first client after it is back.
async fn the_only_one_comes_back(nginx: Nginx) -> Result<()> {
    let (port, server) = (free_port()?, Echo::new("a").ip(local(10, 1)).start()?);
    let _world = World::start(nginx, [&pods("web", port) as _, &pods_slice("web", [&server]) as _]).await?;
    let address = server.address();
    drop(server);
    for _ in 0..5 {
        fails_with(tcp_ask(at(port)), CLOSED).await?;
        assert!(udp_ask(at(port), "?", Duration::from_millis(50)).await.is_err());
    }
    let _back = Echo::new("a").ip(address.ip()).port(address.port()).start()?;
    assert_eq!(tcp_ask(at(port)).await?, "a");
    assert_eq!(udp_ask(at(port), "?", ANSWER).await?, "a");
    Ok(())
}

/// An endpoint that answers nothing costs a client the connect timeout, then it gets another.
async fn connect_timeout(nginx: Nginx) -> Result<()> {
    let (port, server) = (free_port()?, Echo::new("a").ip(local(10, 1)).tcp_only().start()?);
    // With a full backlog, the kernel drops what comes.
    let hole = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    hole.bind(&std::net::SocketAddr::new(local(10, 2), server.port()).into())?;
    hole.listen(0)?;
    let target = std::net::SocketAddr::new(local(10, 2), server.port());
    let _filling = std::net::TcpStream::connect(target)?;
    let web = pods("web", port).lbex("connect-timeout", "300ms");
    let both = with_address(with_address(slice("web-1", "web").tcp("tcp", server.port()), local(10, 1)), local(10, 2));
    let _world = World::start(nginx, [&web as _, &both as _]).await?;
    let mut slowest = Duration::ZERO;
    for _ in 0..6 {
        let begin = Instant::now();
        assert_eq!(tcp_ask(at(port)).await?, "a");
        slowest = slowest.max(begin.elapsed());
    }
    // One of them met the other endpoint first; the default would have cost it 3 s.
    assert!(slowest >= Duration::from_millis(250) && slowest < Duration::from_millis(2500), "{slowest:?}");
    Ok(())
}

/// A connection that is silent for the idle timeout is closed, one that talks is not; a Service's own goes before the flag.
async fn idle_timeout(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(1)?);
    let short = pods("short", ports[0]).lbex("idle-timeout", "1s");
    let objects = [
        &short as _,
        &pods_slice("short", &servers) as _,
        &pods("long", ports[1]) as _,
        &pods_slice("long", &servers) as _,
    ];
    let _world = World::start_with(nginx, &["--tcp-idle-timeout=10m"], objects).await?;
    let mut talking = Conversation::open(at(ports[0])).await?;
    let mut silent = Conversation::open(at(ports[0])).await?;
    let mut long = Conversation::open(at(ports[1])).await?;
    let begin = Instant::now();
    let (closed, said) = tokio::join!(silent.closed(Duration::from_secs(5)), async {
        while begin.elapsed() < Duration::from_secs(2) {
            talking.say("still here").await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        std::io::Result::Ok(())
    });
    closed?;
    said?;
    long.say("still here").await?;
    Ok(())
}

/// Datagrams of one byte and of the largest size come through whole, both ways.
async fn datagram_sizes(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(1)?);
    let _world = World::start(nginx, [&pods("web", port) as _, &pods_slice("web", &servers) as _]).await?;
    // The answer has the name of the server in front.
    for size in [1, 512, 1472, 1473, 9_000, 16_384, 32_768, 65_505] {
        assert_eq!(udp_ask(at(port), &"x".repeat(size), ANSWER).await?, "a", "{size} bytes");
    }
    Ok(())
}

on_each_nginx!(one_of_two_is_dead, the_only_one_comes_back, connect_timeout, idle_timeout, datagram_sizes);

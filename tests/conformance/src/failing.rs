//! Endpoints that fail, clients that say nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use lbex_test_harness::backends::{Conversation, Echo, tcp_ask, tcp_tally, udp_ask};
use lbex_test_harness::manifests::{
    ANSWER, CLOSED, World, at, fails_with, local, pods_slice, servers, tcp_reaches, tcp_refused,
};
use lbex_test_harness::objects::slice;
use lbex_test_harness::ports::{free_port, free_ports};

use crate::common::{is_told, start, web};
use crate::{Feature, Subject};

/// While one of two refuses connections, every client gets the other; once it is back it takes part again.
pub async fn one_of_two_is_dead(subject: &dyn Subject) -> Result<()> {
    let (port, mut servers) = (free_port()?, servers(2)?);
    let world = start(subject, [&web(subject, "web", port) as _, &pods_slice("web", &servers) as _]).await?;
    if let Some(words) = subject.lacks(Feature::Retries) {
        return world.lbex.wait_log(words, ANSWER).await.map(drop);
    }
    tcp_reaches(at(port), &["a", "b"]).await?;
    let address = servers.pop().map_or(at(0), |server| server.address());
    tcp_refused(address).await?;
    let all = tcp_tally(at(port), 20).await?;
    assert_eq!(all.get("a"), Some(&20), "{all:?}");
    let _back = Echo::new("b").ip(address.ip()).port(address.port()).start()?;
    tcp_reaches(at(port), &["a", "b"]).await
}

/// The only endpoint is never taken for dead: it serves the first client after it is back.
pub async fn the_only_one_comes_back(subject: &dyn Subject) -> Result<()> {
    let has_udp = subject.lacks(Feature::Udp).is_none();
    let (port, server) = (free_port()?, Echo::new("a").ip(local(10, 1)).start()?);
    let _world = start(subject, [&web(subject, "web", port) as _, &pods_slice("web", [&server]) as _]).await?;
    let address = server.address();
    drop(server);
    tcp_refused(address).await?;
    let refused = [CLOSED, &[std::io::ErrorKind::ConnectionRefused]].concat();
    for _ in 0..5 {
        fails_with(tcp_ask(at(port)), &refused).await?;
        assert!(!has_udp || udp_ask(at(port), "?", Duration::from_millis(50)).await.is_err());
    }
    let _back = Echo::new("a").ip(address.ip()).port(address.port()).start()?;
    assert_eq!(tcp_ask(at(port)).await?, "a");
    if has_udp {
        assert_eq!(udp_ask(at(port), "?", ANSWER).await?, "a");
    }
    Ok(())
}

/// An endpoint that answers nothing costs a client the connect timeout, then it gets another.
pub async fn connect_timeout(subject: &dyn Subject) -> Result<()> {
    let (port, server) = (free_port()?, Echo::new("a").ip(local(10, 1)).tcp_only().start()?);
    // With a full backlog, the kernel drops what comes.
    let hole = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    let target = SocketAddr::new(local(10, 2), server.port());
    hole.bind(&target.into())?;
    hole.listen(0)?;
    let _filling = std::net::TcpStream::connect(target)?;
    let web = web(subject, "web", port).lbex("connect-timeout", "300ms");
    let both = slice("web-1", "web").tcp("tcp", server.port());
    let both = both.ready(local(10, 1), "somewhere").ready(local(10, 2), "somewhere");
    if let Some(words) = subject.lacks(Feature::Timeouts) {
        return is_told(subject, [&web as _, &both as _], "web", words).await;
    }
    let _world = start(subject, [&web as _, &both as _]).await?;
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
pub async fn idle_timeout(subject: &dyn Subject) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(1)?);
    let short = web(subject, "short", ports[0]).lbex("idle-timeout", "1s");
    let (short_slice, long_slice) = (pods_slice("short", &servers), pods_slice("long", &servers));
    if let Some(words) = subject.lacks(Feature::Timeouts) {
        return is_told(subject, [&short as _, &short_slice as _], "short", words).await;
    }
    let long = web(subject, "long", ports[1]);
    let objects = [&short as _, &short_slice as _, &long as _, &long_slice as _];
    let _world = World::serve(subject.lbex()?.arg("--tcp-idle-timeout=10m"), objects).await?;
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

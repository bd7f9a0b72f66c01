//! No endpoints, and some again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lbex_test_harness::backends::{tcp_ask, udp_ask};
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually};
use tokio::net::UdpSocket;

use super::{Counts, on_nginx};
use crate::support::{
    CLOSED, World, at, error_log, fails_with, pods, pods_slice, servers, tcp_closes, tcp_reaches, udp_reaches,
    udp_silent,
};

/// An NGINX that is not told at once asks again after 11 s.
const BACK: Duration = Duration::from_secs(8);

/// How long an answer over UDP may take until it is asked again.
const QUESTION: Duration = Duration::from_millis(300);

/// A client that waits for a server waits 3 s.
const AT_ONCE: Duration = Duration::from_millis(2500);

/// 0 -> 2 -> 0 -> 2, all pushed. Meanwhile TCP clients are closed at once, UDP clients hear nothing, and the error log does not grow
/// with any of them.
async fn none_and_back(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(2)?);
    let (web, none, some) = (pods("web", port), pods_slice("web", []), pods_slice("web", &servers));
    // A name has the endpoints' port, which slices without endpoints may have too, or not.
    let world = World::start(nginx, [&web as _, &some as _]).await?;
    let before = Counts::of(&world.lbex).await?;
    for _ in 0..3 {
        world.put([&web as _, &none as _])?;
        tcp_closes(at(port)).await?;
        udp_silent(at(port)).await?;
        world.wait_applied().await?;
        let log = error_log(&world.lbex)?;
        let socket = UdpSocket::bind(at(0)).await?;
        socket.connect(at(port)).await?;
        for _ in 0..100 {
            let begin = Instant::now();
            fails_with(tcp_ask(at(port)), CLOSED).await?;
            ensure!(begin.elapsed() < AT_ONCE, "closed after {:?}", begin.elapsed());
            // Where nothing listens, the next send says so.
            socket.send(b"anybody").await?;
        }
        let said = error_log(&world.lbex)?;
        ensure!(said.len() == log.len(), "NGINX says: {}", &said[log.len()..]);

        let begin = Instant::now();
        world.put([&web as _, &some as _])?;
        eventually("TCP is back", SOON, || tcp_ask(at(port))).await?;
        eventually("UDP is back", SOON, || udp_ask(at(port), "back", QUESTION)).await?;
        let took = begin.elapsed();
        ensure!(took < BACK, "back after {took:?}");
        eprintln!("back after {took:?}");
        tcp_reaches(at(port), &["a", "b"]).await?;
        udp_reaches(at(port), &["a", "b"]).await?;
    }
    before.only_pushed(&world.lbex, 6).await
}

on_nginx!(Embedded: none_and_back);

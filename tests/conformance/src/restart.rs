//! LBEX ends and comes back; traffic stays.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbex_test_harness::backends::Conversation;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::manifests::{at, pods_slice, servers, tcp_reaches};
use lbex_test_harness::netns::alone;
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::Signal;

use crate::Subject;
use crate::common::{reaches, start, web};

/// Waits until the restarted LBEX has looked at everything and changed nothing.
async fn adopted(lbex: &Lbex) -> Result<()> {
    lbex.wait_healthy().await?;
    lbex.wait_ready().await?;
    eventually("the running proxy is adopted", SOON, || async {
        // Whoever looks after the proxy may have it applied again.
        let unchanged = lbex.metric("lbex_apply_duration_seconds_count", &[("action", "unchanged")]).await?;
        ensure!(unchanged >= Some(1.0), "applied without a change: {unchanged:?} times");
        Ok(())
    })
    .await
}

/// SIGTERM, SIGINT, SIGKILL: each time the same processes serve on, and the next LBEX takes them over as they are; what changed meanwhile is
/// applied at once.
///
/// In a network namespace of its own: another LBEX that starts meanwhile would take the port where NGINX asks for endpoints.
pub async fn without_a_trace(subject: &dyn Subject) -> Result<()> {
    alone(|| restarts(subject)).await
}

async fn restarts(subject: &dyn Subject) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(2)?);
    let (steady, slice) = (web(subject, "web", ports[0]), pods_slice("web", &servers));
    let mut world = start(subject, [&steady as _, &slice as _]).await?;
    let mut connection = Conversation::open(at(ports[0])).await?;
    let before = subject.serving(&world.lbex);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL] {
        if signal == Signal::SIGTERM {
            let ended = world.lbex.terminate().await?;
            assert!(ended.status.success() && ended.took < Duration::from_secs(10), "{ended:?}");
        } else {
            world.lbex.signal(signal)?;
            let status = world.lbex.wait_exit(SOON).await?;
            assert_eq!(status.success(), signal == Signal::SIGINT, "{signal}: {status}: {}", world.lbex.log_tail());
        }
        reaches(subject, at(ports[0]), &["a", "b"]).await?;
        assert!(world.lbex.get("/").await.is_err(), "something answers for LBEX");
        world.lbex.start_again()?;
        adopted(&world.lbex).await?;
        assert_eq!(subject.serving(&world.lbex), before, "after {signal}");
        connection.say("still here").await?;
    }

    // What changed meanwhile is one change.
    world.lbex.terminate().await?;
    let new = web(subject, "new", ports[1]);
    world.put([&steady as _, &slice as _, &new as _, &pods_slice("new", &servers[..1]) as _])?;
    world.lbex.start_again()?;
    tcp_reaches(at(ports[1]), &["a"]).await?;
    world.wait_applied().await?;
    if subject.ways().listeners_by_reload {
        let reloads = world.reloads().await?;
        assert!((reloads - 1.0).abs() < 0.5, "{reloads} reloads");
    }
    connection.say("still here").await?;
    Ok(())
}

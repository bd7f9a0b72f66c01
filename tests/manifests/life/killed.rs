//! NGINX is killed under LBEX.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{World, at, pods, pods_slice, servers, tcp_reaches, udp_reaches};

/// The contract's two seconds, and much more for a machine that is busy with other tests.
const AGAIN: Duration = Duration::from_secs(15);

pub(super) fn kill_hard(pid: u32) -> Result<()> {
    Ok(kill(Pid::from_raw(pid.try_into()?), Signal::SIGKILL)?)
}

/// The master alone, or master and workers: a new NGINX serves at once.
async fn serves_again(nginx: Nginx) -> Result<()> {
    for workers_too in [false, true] {
        let (port, servers) = (free_port()?, servers(2)?);
        let world = World::start(nginx, [&pods("web", port) as _, &pods_slice("web", &servers) as _]).await?;
        tcp_reaches(at(port), &["a", "b"]).await?;
        let old = world.lbex.nginx_processes();
        let master = world.lbex.nginx_pid()?;
        let mark = world.lbex.log_mark();
        let killed = Instant::now();
        kill_hard(master)?;
        for process in old.iter().filter(|process| workers_too && process.pid != master) {
            kill_hard(process.pid)?;
        }
        eventually("another NGINX runs and is healthy", SOON, || async {
            let new = world.lbex.nginx_pid()?;
            ensure!(new != master, "no new master yet");
            let answer = world.lbex.get("/").await?;
            ensure!(answer.status == 200, "{} {:?}", answer.status, answer.body);
            Ok(())
        })
        .await?;
        tcp_reaches(at(port), &["a", "b"]).await?;
        let took = killed.elapsed();
        assert!(took < AGAIN, "served again after {took:?}");
        udp_reaches(at(port), &["a", "b"]).await?;
        // Nothing of the old one is left.
        let now = world.lbex.nginx_processes();
        assert!(now.iter().all(|process| !old.iter().any(|old| old.pid == process.pid)), "{old:?}, then {now:?}");
        world.lbex.wait_log_since(mark, "the proxy no longer serves what was applied", SOON).await?;
        if workers_too {
            world.lbex.wait_log_since(mark, "the proxy is no longer healthy", SOON).await?;
        }
    }
    Ok(())
}

/// Stopped in its tracks, NGINX answers nobody: then LBEX is not healthy and says why, until it goes on.
async fn is_unhealthy_meanwhile(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(1)?);
    let world = World::start(nginx, [&pods("web", port) as _, &pods_slice("web", &servers) as _]).await?;
    let signal_all = |signal| {
        for process in world.lbex.nginx_processes() {
            // Some may have ended meanwhile.
            let _ = kill(Pid::from_raw(process.pid.cast_signed()), signal);
        }
    };
    signal_all(Signal::SIGSTOP);
    let seen = eventually("LBEX is not healthy", SOON, || async {
        let answer = world.lbex.get("/").await?;
        ensure!(answer.status == 503, "{} {:?}", answer.status, answer.body);
        Ok(answer)
    })
    .await;
    let proxy = world.lbex.metric("lbex_proxy_healthy", &[]).await;
    signal_all(Signal::SIGCONT);
    let body = seen?.body;
    assert!(body.lines().count() == 1 && body.contains("NGINX"), "{body:?}");
    assert_eq!(proxy?, Some(0.0));
    world.lbex.wait_healthy().await?;
    tcp_reaches(at(port), &["a"]).await
}

on_each_nginx!(serves_again, is_unhealthy_meanwhile);

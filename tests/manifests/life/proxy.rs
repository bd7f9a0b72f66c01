//! `lbex proxy` starts NGINX, and LBEX never does: neither ends with the other.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::backends::Conversation;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::nginx::{Nginx, processes_of};
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::process::Process;
use lbex_test_harness::wait::{SOON, eventually, stays};
use nix::sys::signal::Signal;

use crate::support::{
    Manifests, at, binary, lbex_on, pods, pods_slice, servers, serving_pids, tcp_reaches, tcp_refused,
};

/// With a niceness of its own, which NGINX has from who started it.
fn proxy(prefix: &Path, log: &Path) -> Result<Process> {
    let mut command = Command::new("/usr/bin/nice");
    command.args(["-n", "3"]).arg(binary()).args(["proxy", "--manifests=/none", "--nginx-prefix"]).arg(prefix);
    Process::start("lbex proxy", &command, log)
}

fn niceness(pid: u32) -> Result<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("no fields")?;
    Ok(fields.split(' ').nth(16).context("no niceness")?.to_owned())
}

async fn is_up(proxy: &Process, prefix: &Path) -> Result<()> {
    eventually("lbex proxy listens", SOON, || async {
        proxy.check_running()?;
        UnixStream::connect(prefix.join("run/starter.sock"))?;
        Ok::<_, anyhow::Error>(())
    })
    .await
}

/// Whether the NGINX that serves was started by `lbex proxy`.
fn started_by(proxy: &Process, lbex: &Lbex) -> Result<bool> {
    assert_ne!(niceness(proxy.pid())?, niceness(lbex.pid())?);
    Ok(niceness(lbex.nginx_pid()?)? == niceness(proxy.pid())?)
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_belongs_to_lbex_proxy_and_neither_ends_with_the_other() -> Result<()> {
    let (ports, servers) = (free_ports(1)?, servers(1)?);
    let scratch = Scratch::for_nginx("proxy")?;
    let (prefix, log) = (scratch.join("prefix"), scratch.join("proxy.log"));
    let manifests = Manifests::new()?;
    manifests.put("objects.json", [&pods("web", ports[0]) as _, &pods_slice("web", &servers) as _])?;
    let flags = ["--start-nginx=service", "--reload-interval=100ms"];
    let mut lbex = lbex_on(&manifests, Nginx::Embedded).args(flags).prefix(&prefix).start().await?;

    // Nobody is there to start NGINX.
    lbex.wait_log("does not answer on", SOON).await?;
    stays("no NGINX but those that check", Duration::from_millis(300), || async {
        let mut serving = processes_of(&prefix);
        serving.retain(|process| !process.is_check());
        ensure!(serving.is_empty(), "{serving:?}");
        Ok(())
    })
    .await?;
    let one = proxy(&prefix, &log)?;
    lbex.wait_healthy().await?;
    tcp_reaches(at(ports[0]), &["a"]).await?;
    assert!(started_by(&one, &lbex)?);

    // A second one is refused.
    let second = proxy(&prefix, &scratch.join("second.log"))?;
    assert_eq!(second.wait(SOON).await?.code(), Some(2), "{}", second.log_tail());

    // LBEX comes and goes.
    lbex.wait_ready().await?;
    let before = serving_pids(&lbex);
    let mut connection = Conversation::open(at(ports[0])).await?;
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        lbex.signal(signal)?;
        lbex.wait_exit(SOON).await?;
        one.check_running()?;
        lbex.start_again()?;
        lbex.wait_healthy().await?;
    }
    // So does `lbex proxy`, if it is killed; the next one finds NGINX at work.
    one.signal(Signal::SIGKILL)?;
    one.wait(SOON).await?;
    let two = proxy(&prefix, &log)?;
    is_up(&two, &prefix).await?;
    connection.say("still here").await?;
    assert_eq!(serving_pids(&lbex), before);

    // Told to end, it drains NGINX; LBEX waits for the next.
    two.signal(Signal::SIGTERM)?;
    tcp_refused(at(ports[0])).await?;
    connection.say("not done yet").await?;
    drop(connection);
    assert!(two.wait(SOON).await?.success(), "{}", two.log_tail());
    eventually("LBEX is unhealthy", SOON, || async {
        let status = lbex.get("/").await?.status;
        ensure!(status == 503, "{status}");
        Ok(())
    })
    .await?;
    let three = proxy(&prefix, &log)?;
    lbex.wait_healthy().await?;
    tcp_reaches(at(ports[0]), &["a"]).await?;
    assert!(started_by(&three, &lbex)?);
    three.signal(Signal::SIGTERM)?;
    let ended = three.wait(SOON).await.context("lbex proxy ends")?;
    assert!(ended.success(), "{}", three.log_tail());
    Ok(())
}

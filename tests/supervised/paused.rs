//! LBEX is stopped for a while (`kill -STOP`, a debugger, a machine that is suspended): nobody takes it for stuck when it goes on.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbex_test_harness::backends::tcp_ask;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::ports::free_port;
use nix::sys::signal::Signal;

use crate::supervisor::{Supervisor, User};
use crate::support::{LONG, Manifests, alone, at, pods, pods_slice, servers, serving_pids, tcp_reaches};

/// For how many seconds.
fn seconds() -> u64 {
    if std::env::var_os(LONG).is_some() { 60 } else { 2 }
}

/// Traffic goes on meanwhile. Afterwards the supervisor hears at once that LBEX runs, its own watch does not end it, what changed
/// meanwhile arrives, and NGINX is left as it is.
async fn for_a_while(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(2)?);
    let (manifests, supervisor) = (Manifests::new()?, Supervisor::new(User::Same)?);
    let web = pods("web", port);
    let put = |server: usize| manifests.put("all.json", [&web as _, &pods_slice("web", [&servers[server]]) as _]);
    put(0)?;
    let flag = format!("--manifests={}", manifests.path().display());
    let lbex = supervisor.start(|builder| builder.arg(&flag).nginx(nginx)).await?;
    supervisor.hears("READY=1").await?;
    tcp_reaches(at(port), &["a"]).await?;
    let (workers, mark) = (serving_pids(&lbex), lbex.log_mark());

    supervisor.hears("WATCHDOG=1").await?;
    lbex.signal(Signal::SIGSTOP)?;
    put(1)?;
    for second in 0..seconds() {
        ensure!(tcp_ask(at(port)).await? == "a", "after {second} s");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    supervisor.forget_what_was_said();
    lbex.signal(Signal::SIGCONT)?;

    supervisor.hears("WATCHDOG=1").await?;
    tcp_reaches(at(port), &["b"]).await?;
    lbex.wait_healthy().await?;
    ensure!(lbex.get("/livez").await?.status == 200, "it is not live");
    // It goes on beating.
    supervisor.hears("WATCHDOG=1").await?;
    supervisor.hears("WATCHDOG=1").await?;
    ensure!(serving_pids(&lbex) == workers, "{workers:?}, then {:?}", serving_pids(&lbex));
    let log = lbex.log();
    for word in [" ERROR ", "stuck", "no longer"] {
        ensure!(!log[mark..].contains(word), "{}", &log[mark..]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_takes_it_for_stuck_and_what_changed_meanwhile_arrives() -> Result<()> {
    alone(|| for_a_while(Nginx::Embedded)).await
}

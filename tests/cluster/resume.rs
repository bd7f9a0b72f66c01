//! A host that reboots while the API server is down, or that itself balances the API server, comes back.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::backends::Conversation;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::objects::Objects;
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Cluster, answer, local, tcp_is};

/// How long LBEX may take to follow an API server that is back.
const AGAIN: Duration = Duration::from_secs(40);

async fn saved(lbex: &Lbex, service: &str) -> Result<()> {
    let path = lbex.prefix().join("state/last-good.json");
    eventually("the last good state is saved", SOON, || async {
        ensure!(std::fs::read_to_string(&path)?.contains(&format!("/{service}\":")));
        Ok(())
    })
    .await
}

async fn kill_everything(lbex: &Lbex) -> Result<()> {
    lbex.kill().await?;
    for process in lbex.nginx_processes() {
        kill(Pid::from_raw(process.pid.cast_signed()), Signal::SIGKILL)?;
    }
    eventually("NGINX is gone", SOON, || async {
        ensure!(lbex.nginx_processes().is_empty());
        Ok(())
    })
    .await
}

fn nginx_pids(lbex: &Lbex) -> Vec<u32> {
    lbex.nginx_processes().iter().map(|process| process.pid).collect()
}

async fn says(lbex: &Lbex, path: &str, status: u16) -> Result<()> {
    eventually(&format!("{path} says {status}"), SOON, || async {
        let answer = lbex.get(path).await?;
        ensure!(answer.status == status, "{} {:?}", answer.status, answer.body);
        Ok(())
    })
    .await
}

async fn is_connected(lbex: &Lbex, expected: f64) -> Result<()> {
    eventually("lbex_source_connected", AGAIN, || async {
        let connected = lbex.metric("lbex_source_connected", &[]).await?;
        ensure!(connected == Some(expected), "{connected:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_reboot_without_the_api_server() -> Result<()> {
    let mut server = ApiServer::start().await?;
    let cluster = Cluster::on(&server).await?;
    let kept = cluster.serve("kept", |service| service).await?;
    let going = cluster.serve("going", |service| service).await?;
    let mut lbex = cluster.start(&["--reload-interval=100ms"]).await?;
    tcp_is(kept.port, "kept").await?;
    tcp_is(going.port, "going").await?;
    saved(&lbex, "kept").await?;
    saved(&lbex, "going").await?;

    // With nothing saved, the same LBEX would end.
    server.stop();
    let elsewhere = cluster.lbex().start().await?;
    ensure!(elsewhere.wait_exit(SOON).await?.code() == Some(1), "{}", elsewhere.log_tail());

    kill_everything(&lbex).await?;
    let mark = lbex.log_mark();
    lbex.start_again()?;
    tcp_is(kept.port, "kept").await?;
    tcp_is(going.port, "going").await?;
    says(&lbex, "/", 200).await?;
    says(&lbex, "/readyz", 200).await?;
    says(&lbex, "/livez", 200).await?;
    is_connected(&lbex, 0.0).await?;
    let line = lbex.wait_log_since(mark, "the last good state is served meanwhile", SOON).await?;
    ensure!(line.contains("cannot reach the API server"), "{line}");

    // Once more, NGINX running: it is left as it is.
    lbex.terminate().await?;
    let before = nginx_pids(&lbex);
    lbex.start_again()?;
    says(&lbex, "/readyz", 200).await?;
    let mut connection = Conversation::open(local(kept.port)).await?;

    server.start_again().await?;
    is_connected(&lbex, 1.0).await?;
    eventually("the first plan is applied", SOON, || async {
        let unchanged = lbex.metric("lbex_apply_duration_seconds_count", &[("action", "unchanged")]).await?;
        // Whoever looks after the proxy may have it applied again.
        ensure!(unchanged >= Some(1.0), "{unchanged:?}");
        Ok(())
    })
    .await?;
    ensure!(nginx_pids(&lbex) == before, "NGINX was touched: {before:?}, then {:?}", lbex.nginx_processes());

    // The test's own client may hold a connection that ended with the server.
    let objects = Objects::new(server.client().await?, cluster.namespace());
    objects.delete("Service", "going").await?;
    let cluster = Cluster { objects, ..cluster };
    let new = cluster.serve("new", |service| service).await?;
    eventually("the new Service is served", AGAIN, || async {
        let answer = answer(local(new.port)).await;
        ensure!(answer == "new", "{answer}; {}", lbex.log_tail());
        Ok(())
    })
    .await?;
    tcp_is(going.port, "refused").await?;
    connection.say("still here").await?;
    Ok(())
}

/// Credentials that cannot be loaded end LBEX whatever is saved; the proxy serves on. A server that refuses does not.
#[tokio::test]
async fn credentials_count_whatever_is_saved() -> Result<()> {
    let server = ApiServer::shared().await?;
    let cluster = Cluster::new().await?;
    let scratch = lbex_test_harness::Scratch::new("resume")?;
    let kubeconfig = scratch.join("kubeconfig");
    std::fs::copy(server.kubeconfig_admin(), &kubeconfig)?;
    let cluster = Cluster { kubeconfig: kubeconfig.clone(), ..cluster };
    let kept = cluster.serve("kept", |service| service).await?;
    let mut lbex = cluster.start(&[]).await?;
    tcp_is(kept.port, "kept").await?;
    saved(&lbex, "kept").await?;

    lbex.terminate().await?;
    std::fs::copy(server.kubeconfig_with(&serde_json::json!({"token": "nonsense"}))?, &kubeconfig)?;
    let mark = lbex.log_mark();
    lbex.start_again()?;
    let line = lbex.wait_log_since(mark, "the last good state is served meanwhile", SOON).await?;
    ensure!(line.contains("refuses") && line.contains("401"), "{line}");
    says(&lbex, "/readyz", 200).await?;
    // They are put right while LBEX runs.
    std::fs::copy(server.kubeconfig_admin(), &kubeconfig)?;
    is_connected(&lbex, 1.0).await?;

    lbex.terminate().await?;
    std::fs::write(&kubeconfig, "{]")?;
    lbex.start_again()?;
    ensure!(lbex.wait_exit(SOON).await?.code() == Some(1), "{}", lbex.log_tail());
    tcp_is(kept.port, "kept").await
}

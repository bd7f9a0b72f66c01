//! Signals to LBEX, from outside.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use lbex_test_harness::lbex::Lbex;
use nix::sys::signal::Signal;

/// `timeout` and many supervisors signal a process and then its group: LBEX gets two, and has to stop NGINX as it was told.
#[tokio::test]
async fn two_signals_at_once_are_one_wish() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("none.yaml"), "")?;
    let manifests = format!("--manifests={}", folder.path().display());
    let lbex =
        Lbex::builder(Path::new(env!("CARGO_BIN_EXE_lbex"))).args([&manifests, "--stop-proxy-on-exit"]).start().await?;
    lbex.wait_healthy().await?;
    lbex.signal(Signal::SIGTERM)?;
    // It may have ended by then.
    let _ = lbex.signal(Signal::SIGINT);
    // Nothing is to be waited for: far from the 20 s that connections would have.
    let status = lbex.wait_exit(Duration::from_secs(10)).await?;
    ensure!(status.success(), "{status}");
    ensure!(lbex.nginx_processes().is_empty(), "NGINX goes on: {}", lbex.log());
    Ok(())
}

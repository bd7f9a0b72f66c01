//! What no process survives: a plugin that crashes, or ends its process, takes LBEX with it. The supervisor starts LBEX again
//! (`Restart=always` in `packaging/host/lbex.service`), and that has the plugin serve everything.

use std::os::unix::process::ExitStatusExt;

use anyhow::{Result, ensure};
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::wait::SOON;

use super::Lane;
use crate::support::binary;

#[tokio::test]
async fn a_crash_ends_lbex_and_the_next_one_has_everything() -> Result<()> {
    let mut lane = Lane::start(Lbex::builder(binary()), &[]).await?;
    for (fault, by_signal) in [
        ("apply segv", true),
        ("live abort", true),
        ("apply overflow", true),
        ("observe segv", true),
        ("apply exit", false),
    ] {
        lane.does(fault).await?;
        let status = lane.lbex.wait_exit(SOON).await?;
        ensure!(status.signal().is_some() == by_signal, "{fault}: {status}");
        lane.does("").await?;
        // As its supervisor does.
        lane.lbex.start_again()?;
        lane.is_whole().await?;
        lane.goes_on().await?;
    }
    Ok(())
}

//! The conformance suite, run on each backend: a subject, and so a backend, is one small file here.

mod haproxy;
mod kernel;
mod nftables;
mod nginx;
#[cfg(feature = "backend-nginx-plus")]
mod plus;
#[cfg(feature = "backend-nginx-plus")]
mod troubled_api;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::netns::alone;

/// The LBEX under test.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lbex"))
}

/// `lbex plugin check` finds nothing. Alone, since it takes a thousand ports.
async fn passes_the_conformance_kit(library: &Path) -> Result<()> {
    alone(|| async {
        let output = Command::new(binary()).args(["plugin", "check"]).arg(library).output().context("lbex")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && text.contains(" passed\n") && text.contains("passed  servers change live: in "),
            "{text}"
        );
        Ok(())
    })
    .await
}

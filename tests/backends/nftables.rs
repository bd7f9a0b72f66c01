//! `--backend .../liblbex_nftables.so`: the plugin in `plugins/nftables`, each test in a network namespace of its own.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lbex_conformance::{Feature, Subject, Ways, conformance};
use lbex_test_harness::Scratch;
use lbex_test_harness::lbex::{Builder, Lbex};

pub(super) struct Nftables;

/// The library, which cargo puts beside this test.
fn library() -> Result<PathBuf> {
    let test = std::env::current_exe().context("failed to find this test")?;
    let library = test.with_file_name("liblbex_nftables.so");
    ensure!(library.exists(), "{} is not there", library.display());
    Ok(library)
}

impl Subject for Nftables {
    fn lbex(&self) -> Result<Builder> {
        Ok(Lbex::builder(super::binary()).arg(format!("--backend={}", library()?.display())))
    }

    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::LeastConn => Some("least_conn"),
            Feature::LeastTime => Some("least_time"),
            Feature::Retries => Some("no other server is tried"),
            Feature::Timeouts => Some("has no timeouts of its own"),
            Feature::OtherFamily => Some("does not translate between IPv4 and IPv6"),
            Feature::Udp | Feature::ClientIp => None,
        }
    }

    fn ways(&self) -> Ways {
        Ways { listeners_by_reload: false, endpoints_by_reload: false, old_workers_drain: false }
    }

    fn refuses(&self) -> bool {
        true
    }

    fn apart(&self) -> bool {
        true
    }
}

conformance!(nftables, Nftables);

/// `lbex plugin check`: everything that LBEX may ask of a plugin.
#[tokio::test]
async fn it_passes_the_conformance_kit() -> Result<()> {
    super::passes_the_conformance_kit(&library()?).await
}

/// Found by its name in a plugin folder, with what it can do.
#[test]
fn backends_lists_it() -> Result<()> {
    let folder = Scratch::new("plugins")?;
    std::fs::copy(library()?, folder.join("liblbex_nftables.so"))?;
    let plugins = format!("--plugin-dir={}", folder.path().display());
    let output = std::process::Command::new(super::binary()).args(["backends", &plugins]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let can = "tcp, udp, round_robin, client_ip, live endpoints, drains\n";
    ensure!(output.status.success() && text.contains("nftables 0.1.0 (ABI 1.1") && text.contains(can), "{text}");
    Ok(())
}

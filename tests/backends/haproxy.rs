//! `--backend .../liblbex_haproxy.so`: the plugin in `plugins/haproxy`, with the machine's HAProxy.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lbex_conformance::{Feature, Subject, Ways, conformance};
use lbex_test_harness::lbex::{Builder, Lbex};

struct HaProxy;

/// The library, which cargo puts beside this test.
fn library() -> Result<PathBuf> {
    let test = std::env::current_exe().context("failed to find this test")?;
    let library = test.with_file_name("liblbex_haproxy.so");
    ensure!(library.exists(), "{} is not there", library.display());
    Ok(library)
}

impl Subject for HaProxy {
    fn lbex(&self) -> Result<Builder> {
        Ok(Lbex::builder(super::binary()).arg(format!("--backend={}", library()?.display())))
    }

    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::Udp => Some("does not carry UDP"),
            Feature::LeastTime => Some("least_time"),
            _ => None,
        }
    }

    fn ways(&self) -> Ways {
        Ways { listeners_by_reload: true, endpoints_by_reload: false, old_workers_drain: true }
    }

    fn serving(&self, lbex: &Lbex) -> Vec<u32> {
        let number = |text: &str| text.trim().parse().ok();
        let pid = std::fs::read_to_string(lbex.prefix().join("plugins/haproxy/pid")).ok();
        let Some(master) = pid.as_deref().and_then(number) else { return Vec::new() };
        // The workers are its children.
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
        std::iter::once(master).chain(children.split_whitespace().filter_map(number)).collect()
    }
}

conformance!(haproxy, HaProxy);

/// `lbex plugin check`: everything that LBEX may ask of a plugin.
#[test]
fn it_passes_the_conformance_kit() -> Result<()> {
    let output = std::process::Command::new(super::binary()).args(["plugin", "check"]).arg(library()?).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && text.contains(" passed\n") && text.contains("passed  servers change live: in "),
        "{text}"
    );
    Ok(())
}

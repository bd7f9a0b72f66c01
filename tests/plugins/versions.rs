//! Plugins of other versions of the ABI, and libraries that are no plugins.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use lbex::plugin::ABI;
use lbex_core::backend::ProxyBackend;
use lbex_test_harness::Scratch;

use crate::support::{Bench, faulty, run_with};

/// LBEX ends with exit code 2 and says why.
fn refused(defines: &[&str], says: &str) -> Result<()> {
    let folder = Scratch::new("plugin")?;
    let library = faulty(folder.path(), defines)?;
    refused_library(&folder, &library, says)
}

fn refused_library(folder: &Scratch, library: &std::path::Path, says: &str) -> Result<()> {
    let output = run_with(folder.path(), library, &[])?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2), "{}: {error}", output.status);
    ensure!(error.contains(says), "{error}");
    ensure!(error.contains(&library.display().to_string()), "it names the library: {error}");
    Ok(())
}

#[tokio::test]
async fn a_plugin_of_abi_1_0_loads() -> Result<()> {
    let folder = crate::support::root("tests/plugins/abi-1.0");
    crate::frozen::drive(0, &folder).await
}

#[tokio::test]
async fn what_is_behind_the_size_of_an_old_table_is_not_looked_at() -> Result<()> {
    let mut bench = Bench::faulty("table old").await?;
    let delta = bench.change("web", 7);
    bench.backend.apply(&bench.desired, &delta).await?;
    bench.backend.stop(std::time::Duration::ZERO).await?;
    Ok(())
}

#[tokio::test]
async fn a_plugin_of_a_later_minor_version_loads() -> Result<()> {
    let later = |folder: &std::path::Path, _: &[&str]| faulty(folder, &["-DFAULT_MINOR=77"]);
    let bench = Bench::open(later, "").await??;
    ensure!(bench.backend.info().abi == (1, 77), "{}", bench.backend.info());
    Ok(())
}

#[test]
fn another_major_version_is_refused_and_both_are_named() -> Result<()> {
    let says = format!("is built for plugin ABI 2.1, and this LBEX has {}.{}", ABI.0, ABI.1);
    refused(&["-DFAULT_MAJOR=2"], &says)?;
    refused(&["-DFAULT_MAJOR=2"], "Use a newer LBEX")?;
    refused(&["-DFAULT_MAJOR=0"], "Build the plugin anew")
}

#[test]
fn what_is_no_plugin_is_refused() -> Result<()> {
    refused(&["-DFAULT_MAGIC=42"], "it says 0x000000000000002a where plugins say 0x4c424558504c5547")?;
    refused(&["-DFAULT_NO_OPEN"], "it exports no function lbex_plugin_open")?;
    refused(&["-DFAULT_QUERY=NULL"], "cannot be read")?;
    refused(&["-DFAULT_SIZE=24"], "its struct lbex_plugin_info has 24 bytes; at least 56 are needed")?;
    refused(&["-DFAULT_NAME=\"Not/A/Name\""], "its name is \"Not/A/Name\"; allowed: 1 to 64 of a-z, 0-9 and '-'")?;
    refused(&["-DFAULT_CAPABILITIES=\"{}\""], "its capabilities are not a document lbex.capabilities/1")?;
    let folder = Scratch::new("plugin")?;
    let text = folder.join("libtext.so");
    std::fs::write(&text, "not a library")?;
    refused_library(&folder, &text, "failed to load")?;
    refused_library(&folder, &folder.join("libnowhere.so"), "No such file or directory")
}

#[test]
fn a_library_that_others_can_write_to_is_not_loaded() -> Result<()> {
    let folder = Scratch::new("plugin")?;
    let library = faulty(folder.path(), &[])?;
    std::fs::set_permissions(&library, std::fs::Permissions::from_mode(0o777))?;
    refused_library(&folder, &library, "can be written to by others than its owner (mode 0777)")
}

//! The shell scripts of this repository that are run elsewhere.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use lbex_test_harness::programs;

/// A file without an ending, or one of a shell script.
fn is_script(path: &Path) -> bool {
    path.extension().is_none_or(|extension| extension == "sh")
}

#[test]
fn shellcheck_has_nothing_to_say() -> Result<()> {
    let mut command = Command::new(programs::find("shellcheck")?);
    command.args(["--external-sources", "--source-path=SCRIPTDIR/..", "--source-path=SCRIPTDIR"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for folder in
        ["bin", "deploy/helm", "deploy/manifests", "tests/tools", "tests/deploy/standin", "tests/deploy/standin/plugin"]
    {
        for file in std::fs::read_dir(folder)?.flatten().filter(|file| file.path().is_file() && is_script(&file.path()))
        {
            command.arg(file.path());
            count += 1;
        }
    }
    ensure!(count > 8, "only {count} scripts were found");
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

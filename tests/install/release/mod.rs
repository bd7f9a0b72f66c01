//! Releases: what `make release-dry-run` leaves, unpacked and run, also what is for another machine than this; and what `make release` does
//! after that, to stand-ins. `make test-release` makes the dry run and says where its files are (`LBEX_DIST`).

mod artefacts;
mod foreign;
mod github;
mod publish;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;

use crate::support::run;

/// The version that is built.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Machines as Rust and the kernel name them, and as Debian, Go and Docker do.
const MACHINES: [(&str, &str); 2] = [("x86_64", "amd64"), ("aarch64", "arm64")];

/// The folder of the dry run.
fn dist() -> Result<PathBuf> {
    let path: PathBuf = std::env::var_os("LBEX_DIST").context("LBEX_DIST is not set: run `make test-release`")?.into();
    ensure!(path.is_dir(), "{} is no folder: run `make test-release`", path.display());
    Ok(path)
}

/// The folder that a machine's tarball holds, unpacked.
fn unpacked(scratch: &Scratch, architecture: &str) -> Result<PathBuf> {
    let tarball = dist()?.join(format!("linux_{architecture}.tar.gz"));
    run(Command::new("tar").arg("-xzf").arg(tarball).arg("-C").arg(scratch.path()))?;
    Ok(scratch.join(format!("lbex-{VERSION}-linux-{architecture}")))
}

/// A program of a machine as a command of this one.
fn command_for(machine: &str, program: &Path) -> Command {
    if machine == std::env::consts::ARCH {
        return Command::new(program);
    }
    let mut command = Command::new(format!("/usr/bin/qemu-{machine}-static"));
    command.arg(program);
    command
}

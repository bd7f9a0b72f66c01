//! The program `nft`.

use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lbex_plugin_sdk::{Call, Ended, Error, find_program};
use serde_json::Value;

use crate::change::document;

/// Where it is, and which it is.
#[derive(Debug, Clone)]
pub struct Nft {
    path: PathBuf,
    /// Its version, in its words: `nftables v1.0.6 (Lester Gooch #5)`.
    pub version: String,
}

impl Nft {
    /// Finds it.
    pub fn find(program: &Path) -> Result<Self, Error> {
        let path = find(program)?;
        let mut nft = Self { path, version: String::new() };
        let call = Call::with_timeout(Duration::from_secs(5));
        let asked = nft.run(&["--version"], "", &call)?;
        asked.said.lines().next().unwrap_or_default().trim().clone_into(&mut nft.version);
        if !asked.status.success() || !nft.version.starts_with("nftables v") {
            return Err(Error::invalid(format_args!("{} --version does not say that it is nft", nft.path.display())));
        }
        Ok(nft)
    }

    /// Carries out these commands: all of them, or none.
    pub fn apply(&self, commands: &[Value], call: &Call) -> Result<(), Error> {
        self.transaction(&["-j", "-f", "-"], commands, call)
    }

    /// Asks nft and the kernel whether they would carry them out.
    pub fn check(&self, commands: &[Value], call: &Call) -> Result<(), Error> {
        self.transaction(&["-c", "-j", "-f", "-"], commands, call)
    }

    fn transaction(&self, arguments: &[&str], commands: &[Value], call: &Call) -> Result<(), Error> {
        let ended = self.run(arguments, &document(commands), call)?;
        if ended.status.success() { Ok(()) } else { Err(Error::retry(format_args!("nft says: {}", ended.in_short()))) }
    }

    /// Runs it to its end, or until the call is over, which ends it: the kernel then has done all, or nothing.
    fn run(&self, arguments: &[&str], input: &str, call: &Call) -> Result<Ended, Error> {
        let mut asked = tempfile::tempfile()?;
        asked.write_all(input.as_bytes())?;
        asked.rewind()?;
        let mut command = Command::new(&self.path);
        command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        command.stdin(asked);
        call.run(command)
    }
}

fn find(program: &Path) -> Result<PathBuf, Error> {
    find_program(program).ok_or_else(|| {
        Error::invalid(format_args!(
            "no program {} in PATH: install the package nftables (1.0.6 or later), or give its path as nft in the file of --backend-config",
            program.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let error = Nft::find(Path::new("no-such-nft")).unwrap_err().to_string();
        assert!(error.contains("no program no-such-nft in PATH: install the package nftables"), "{error}");
        let error = Nft::find(Path::new("/bin/true")).unwrap_err().to_string();
        assert_eq!(error, "/bin/true --version does not say that it is nft");
    }
}

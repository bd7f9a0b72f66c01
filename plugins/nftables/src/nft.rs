//! The program `nft`.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lbex_plugin_sdk::{Call, Error};
use serde_json::Value;

use crate::change::document;

/// How often a program that runs is looked at.
const STEP: Duration = Duration::from_millis(2);

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
        let (done, said) = nft.run(&["--version"], "", &call)?;
        said.lines().next().unwrap_or_default().trim().clone_into(&mut nft.version);
        if !done || !nft.version.starts_with("nftables v") {
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
        let (done, said) = self.run(arguments, &document(commands), call)?;
        if done { Ok(()) } else { Err(Error::retry(format_args!("nft says: {}", one_line(&said)))) }
    }

    /// Runs it to its end, or until the call is over, which ends it: the kernel then has done all, or nothing. Whether it succeeded, and
    /// what it said.
    fn run(&self, arguments: &[&str], input: &str, call: &Call) -> Result<(bool, String), Error> {
        let mut asked = temporary()?;
        asked.write_all(input.as_bytes())?;
        asked.rewind()?;
        let mut said = temporary()?;
        let mut command = Command::new(&self.path);
        command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        let child = command.stdin(asked).stdout(said.try_clone()?).stderr(said.try_clone()?).spawn();
        let mut child =
            child.map_err(|error| Error::retry(format_args!("failed to run {}: {error}", self.path.display())))?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if !call.sleep(STEP) {
                child.kill()?;
                child.wait()?;
                return Err(Error::retry("nft took too long"));
            }
        };
        let mut text = Vec::new();
        said.rewind()?;
        said.read_to_end(&mut text)?;
        Ok((status.success(), String::from_utf8_lossy(&text).into_owned()))
    }
}

fn temporary() -> Result<File, Error> {
    tempfile::tempfile().map_err(|error| Error::retry(format_args!("failed to make a temporary file: {error}")))
}

/// The beginning of what it said.
fn one_line(said: &str) -> String {
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    if said.is_empty() { "nothing".to_owned() } else { said.chars().take(500).collect() }
}

fn find(program: &Path) -> Result<PathBuf, Error> {
    if program.is_absolute() {
        return Ok(program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    dirs.map(|dir| dir.join(program)).find(|path| path.is_file()).ok_or_else(|| {
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

    #[test]
    fn a_program_that_hangs_is_ended_with_the_call() {
        let nft = Nft { path: "/bin/sleep".into(), version: String::new() };
        let error = nft.run(&["60"], "", &Call::with_timeout(Duration::from_millis(50))).unwrap_err();
        assert_eq!(error.to_string(), "nft took too long");
    }
}

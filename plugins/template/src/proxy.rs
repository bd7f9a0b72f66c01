//! The proxy that the plugin drives. As it stands it is a file, and whoever reads the file is the proxy: put yours in its place.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// See above.
pub struct Proxy {
    config: PathBuf,
}

impl Proxy {
    /// Finds the proxy: its program, its version, what it needs. Starts nothing. An error says what is missing and what to do about it.
    pub fn find(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { config: folder.join("myproxy.conf") })
    }

    /// Has the proxy serve this, and returns when it does: start it, or reload it, and wait until it answers with the new configuration.
    pub fn load(&self, config: &str) -> io::Result<()> {
        let next = self.config.with_extension("next");
        fs::write(&next, config)?;
        fs::rename(next, &self.config)
    }

    /// The configuration that it runs with, as it says itself; `None`: it does not run.
    pub fn running(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(&self.config) {
            Ok(config) => Ok(Some(config)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends it.
    pub fn end(&self) -> io::Result<()> {
        match fs::remove_file(&self.config) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

//! What LBEX is started with.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Lbex;
use crate::Scratch;
use crate::clock::Clock;
use crate::nginx::Nginx;
use crate::ports::free_port;
use crate::process::Process;

/// How an [`Lbex`] is started. Made by [`Lbex::builder`].
#[derive(Debug, Clone)]
pub struct Builder {
    wrapper: Vec<String>,
    binary: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    nginx: Option<Nginx>,
    prefix: Option<PathBuf>,
}

impl Builder {
    pub(super) fn new(binary: &Path) -> Self {
        Self {
            wrapper: Vec::new(),
            binary: binary.to_owned(),
            arguments: Vec::new(),
            variables: Vec::new(),
            nginx: None,
            prefix: None,
        }
    }

    /// Adds a command line argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<str>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds command line arguments.
    #[must_use]
    pub fn args<A: AsRef<str>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has it run by this clock, and whatever it starts.
    #[must_use]
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.variables.extend(clock.variables().map(|(name, value)| (name.to_owned(), value)));
        self
    }

    /// Says which NGINX it runs (`--nginx`).
    #[must_use]
    pub fn nginx(mut self, nginx: Nginx) -> Self {
        self.nginx = Some(nginx);
        self
    }

    /// Uses this prefix directory: for a second LBEX on one prefix, or a prefix that the test prepared. The NGINX of it is
    /// not killed by this LBEX's drop: make the directory in a [`Scratch::for_nginx`], which does that.
    #[must_use]
    pub fn prefix(mut self, prefix: &Path) -> Self {
        self.prefix = Some(prefix.to_owned());
        self
    }

    /// Runs LBEX by another program, which must execute it in place: `["/usr/bin/prlimit", "--nofile=1024"]`,
    /// `["/usr/bin/nsenter", "--net=PATH"]`, `["/usr/bin/setpriv", ...]`. The first is an absolute path.
    #[must_use]
    pub fn under<A: AsRef<str>>(mut self, wrapper: impl IntoIterator<Item = A>) -> Self {
        self.wrapper = wrapper.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// Starts LBEX, and does not wait for anything.
    #[allow(clippy::unused_async)] // so that waiting can move in here without a change to every test
    pub async fn start(self) -> Result<Lbex> {
        let scratch = Scratch::for_nginx("lbex")?;
        let prefix = self.prefix.clone().unwrap_or_else(|| scratch.join("prefix"));
        let (health, metrics) = (free_port()?, free_port()?);
        let command = self.command(&prefix, health, metrics)?;
        let process = Process::start("lbex", &command, &scratch.join("lbex.log"))?;
        Ok(Lbex { process, command, health, metrics, prefix, scratch })
    }

    fn command(&self, prefix: &Path, health: u16, metrics: u16) -> Result<Command> {
        let mut words = self.wrapper.iter();
        let mut command = match words.next() {
            Some(wrapper) => Command::new(wrapper),
            None => Command::new(&self.binary),
        };
        command.args(words);
        if !self.wrapper.is_empty() {
            command.arg(&self.binary);
        }
        command.args(&self.arguments);
        self.set(&mut command, "health-address", "127.0.0.1");
        self.set(&mut command, "health-port", &health.to_string());
        self.set(&mut command, "metrics-address", &format!("127.0.0.1:{metrics}"));
        self.set(&mut command, "nginx-prefix", &prefix.display().to_string());
        if let Some(nginx) = self.nginx {
            self.set(&mut command, "nginx", &nginx.flag()?);
        }
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LBEX_")) {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// Adds a flag, unless the test gave it, as a flag or as a variable.
    fn set(&self, command: &mut Command, flag: &str, value: &str) {
        let variable = format!("LBEX_{}", flag.to_uppercase().replace('-', "_"));
        let name = |argument: &str| argument.trim_start_matches('-').replace('_', "-");
        let is_given = self
            .arguments
            .iter()
            .any(|argument| argument.starts_with('-') && name(argument.split('=').next().unwrap_or_default()) == flag);
        if !is_given && !self.variables.iter().any(|(name, _)| *name == variable) {
            command.arg(format!("--{flag}={value}"));
        }
    }
}

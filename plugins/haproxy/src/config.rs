//! The file of `--backend-config`: JSON, every member optional.

use std::path::PathBuf;
use std::time::Duration;

use lbex_plugin_sdk::Error;
use serde::Deserialize;

/// Settings, with their defaults.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The program: an absolute path, or a name that is looked for in `PATH` and the sbin folders. Default `haproxy`.
    pub haproxy: PathBuf,
    /// The folder of HAProxy's configuration, sockets and pid file: absolute. Created where it is missing. Default: the plugin's folder,
    /// `PREFIX/plugins/haproxy`.
    pub run_dir: Option<PathBuf>,
    /// How long connections of a server that was taken out may go on, seconds; after that they are closed. Default: for ever.
    pub drain_timeout_seconds: Option<u64>,
    /// Connections of clients at one time. Limits of the system may allow fewer. Default 100,000.
    pub max_connections: u32,
    /// HAProxy's threads, 1 to 64. Default: one for each CPU.
    pub threads: Option<u8>,
    /// How often a connection that a server did not take is tried again, elsewhere if there is another server: 0 to 100. Default 1.
    pub retries: u8,
    /// The user that HAProxy's workers run as, where LBEX is root. Default: `haproxy`, else `nobody`.
    pub user: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            haproxy: "haproxy".into(),
            run_dir: None,
            drain_timeout_seconds: None,
            max_connections: 100_000,
            threads: None,
            retries: 1,
            user: None,
        }
    }
}

impl Config {
    /// Reads the file's text; `None` and an empty file are the defaults.
    pub fn read(text: Option<&str>) -> Result<Self, Error> {
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(Self::default()) };
        let config: Self = serde_json::from_str(text)
            .map_err(|error| Error::invalid(format_args!("the settings of the haproxy backend: {error}")))?;
        let wrong = |member: &str, value: &dyn std::fmt::Display, allowed: &str| {
            Err(Error::invalid(format_args!(
                "the settings of the haproxy backend: {member} is {value}, allowed is {allowed}"
            )))
        };
        if let Some(dir) = config.run_dir.as_deref().filter(|dir| !dir.is_absolute()) {
            return wrong("run_dir", &dir.display(), "an absolute path");
        }
        if let Some(threads) = config.threads.filter(|threads| !(1..=64).contains(threads)) {
            return wrong("threads", &threads, "1 to 64");
        }
        if config.retries > 100 {
            return wrong("retries", &config.retries, "0 to 100");
        }
        if !(1..=10_000_000).contains(&config.max_connections) {
            return wrong("max_connections", &config.max_connections, "1 to 10000000");
        }
        Ok(config)
    }

    /// `drain_timeout_seconds`.
    pub fn drain_timeout(&self) -> Option<Duration> {
        self.drain_timeout_seconds.map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_has_its_default() {
        assert_eq!(Config::read(None).unwrap(), Config::default());
        assert_eq!(Config::read(Some(" \n")).unwrap(), Config::default());
        let config = Config::read(Some(r#"{"drain_timeout_seconds": 30, "threads": 2}"#)).unwrap();
        assert_eq!(
            (config.drain_timeout(), config.threads, config.retries),
            (Some(Duration::from_secs(30)), Some(2), 1)
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("{", "EOF"),
            (r#"{"drain_timeout": 3}"#, "unknown field `drain_timeout`"),
            (r#"{"threads": 0}"#, "threads is 0, allowed is 1 to 64"),
            (r#"{"retries": 101}"#, "retries is 101"),
            (r#"{"max_connections": 0}"#, "max_connections is 0"),
            (r#"{"run_dir": "here"}"#, "run_dir is here, allowed is an absolute path"),
        ] {
            let error = Config::read(Some(text)).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}

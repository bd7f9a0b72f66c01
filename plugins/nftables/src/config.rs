//! The file of `--backend-config`: JSON, every member optional.

use std::path::PathBuf;

use lbex_plugin_sdk::Error;
use serde::Deserialize;

/// Settings, with their defaults.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The program: an absolute path, or a name that is looked for in `PATH` and the sbin folders. Default `nft`.
    pub nft: PathBuf,
    /// The table, of the family `inet`: each LBEX of a host needs its own. Default `lbex`.
    pub table: String,
    /// Whether servers elsewhere see the client's address, not this host's. Their answers then have to come back through this host. Default
    /// false.
    pub keep_client_address: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { nft: "nft".into(), table: "lbex".to_owned(), keep_client_address: false }
    }
}

impl Config {
    /// Reads the file's text; `None` and an empty file are the defaults.
    pub fn read(text: Option<&str>) -> Result<Self, Error> {
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(Self::default()) };
        let config: Self = serde_json::from_str(text)
            .map_err(|error| Error::invalid(format_args!("the settings of the nftables backend: {error}")))?;
        if !is_name(&config.table) {
            return Err(Error::invalid(format_args!(
                "the settings of the nftables backend: table is {:?}, allowed is a letter and up to 30 more of letters, digits, - and _",
                config.table
            )));
        }
        Ok(config)
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= 31
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_has_its_default() {
        assert_eq!(Config::read(None).unwrap(), Config::default());
        assert_eq!(Config::read(Some(" \n")).unwrap(), Config::default());
        let config = Config::read(Some(r#"{"table": "lbex-2", "keep_client_address": true}"#)).unwrap();
        assert_eq!((config.table.as_str(), config.keep_client_address), ("lbex-2", true));
        assert_eq!(config.nft, Config::default().nft);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("{", "EOF"),
            (r#"{"masquerade": true}"#, "unknown field `masquerade`"),
            (r#"{"table": ""}"#, "table is \"\", allowed is a letter"),
            (r#"{"table": "a b"}"#, "table is \"a b\""),
            (r#"{"table": "1"}"#, "table is \"1\""),
        ] {
            let error = Config::read(Some(text)).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}

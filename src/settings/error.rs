//! What can be wrong with settings. Every message names the setting, the value, where it came from and what is allowed.

use std::fmt;
use std::path::PathBuf;

use lbex_core::names::Quoted;

use super::raw::{Origin, RawValue};
use super::setting::Setting;

/// One thing that is wrong with the settings. LBEX does not start with any (exit code 2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// A value is not one of those allowed.
    #[error("--{}: {} {} is not valid{}; allowed: {}", setting.name, Quoted(&value.text), value.origin, Aside(reason), setting.allowed)]
    Invalid {
        /// The setting.
        setting: &'static Setting,
        /// What was given.
        value: RawValue,
        /// What is wrong with it, where that is more than 'not one of those allowed'; else empty.
        reason: String,
    },
    /// `--backend` names one that this binary does not have, or nobody has named one and there is none to take.
    #[error("--backend: {}; allowed: {allowed}", NoBackend(value.as_ref(), reason))]
    NoBackend {
        /// What was given.
        value: Option<RawValue>,
        /// Why there is none, where that is more than 'not one of those allowed'; else empty.
        reason: &'static str,
        /// What the binary has, in words.
        allowed: String,
    },
    /// A setting of a part of LBEX that this binary is without.
    #[error("--{}: {} {} is of no use: {}; leave it out", setting.name, Quoted(&value.text), value.origin, setting.part.is_missing())]
    Absent {
        /// The setting.
        setting: &'static Setting,
        /// What was given.
        value: RawValue,
    },
    /// Two settings that exclude each other.
    #[error("--{} ({} {}) and --{} ({} {}) exclude each other: give one of them",
        one.name, Quoted(&one_value.text), one_value.origin, other.name, Quoted(&other_value.text), other_value.origin)]
    Excluded {
        /// One of them.
        one: &'static Setting,
        /// Its value.
        one_value: RawValue,
        /// The other.
        other: &'static Setting,
        /// Its value.
        other_value: RawValue,
    },
    /// Two names of one setting have different values in one place.
    #[error("--{}: {} {} and {} {} are values of one setting: give one of them",
        setting.name, Quoted(&one.text), one.origin, Quoted(&other.text), other.origin)]
    Twice {
        /// The setting.
        setting: &'static Setting,
        /// One value.
        one: RawValue,
        /// The other.
        other: RawValue,
    },
    /// A settings file that cannot be read.
    #[error("settings file {} ({origin}) cannot be used: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Where its name came from.
        origin: Origin,
        /// Why.
        reason: String,
    },
    /// A key of a settings file that is no setting.
    #[error("settings file {}: unknown key {}{}", path.display(), Quoted(key), Nearest(nearest))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What was probably meant.
        nearest: KeyHint,
    },
    /// A value of a settings file that is of another type than it should be.
    #[error("settings file {}: key {key} is {found}; allowed: {wanted}", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What it is, in words.
        found: String,
        /// What it should be, in words.
        wanted: String,
    },
    /// The address that health and metrics would both listen on.
    #[error(
        "--health-port ({health}) and --metrics-address ({metrics}) are one port of one address: change one of them"
    )]
    SharedPort {
        /// The health endpoint's.
        health: std::net::SocketAddr,
        /// The metrics'.
        metrics: std::net::SocketAddr,
    },
    /// No place for LBEX's state can be told.
    #[error(
        "--nginx-prefix: neither XDG_STATE_HOME nor HOME is set to an absolute path, so there is no default; give a folder"
    )]
    NoPrefix,
    /// A variable that is not text.
    #[error("variable {name} is not valid UTF-8: {shown}")]
    NotText {
        /// The variable.
        name: String,
        /// Its value as far as it can be shown.
        shown: String,
    },
}

/// What to say about a key that is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyHint {
    /// Nothing.
    None,
    /// The known key that looks most like it.
    Nearest(&'static str),
    /// It is a flag of the command line only.
    CommandLineOnly,
}

struct Nearest<'a>(&'a KeyHint);

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            KeyHint::None => Ok(()),
            KeyHint::Nearest(name) => write!(f, "; did you mean {name}?"),
            KeyHint::CommandLineOnly => f.write_str(": this one can be given on the command line only"),
        }
    }
}

struct NoBackend<'a>(Option<&'a RawValue>, &'a str);

impl fmt::Display for NoBackend<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{} {} is not valid{}", Quoted(&value.text), value.origin, Aside(self.1)),
            None => f.write_str("not given, and this binary has none that it takes by itself"),
        }
    }
}

struct Aside<'a>(&'a str);

impl fmt::Display for Aside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " ({})", self.0) }
    }
}

/// Everything that is wrong with the settings, so that it can be put right at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SettingErrors(pub Vec<SettingError>);

impl fmt::Display for SettingErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let line = if i > 0 { "\n" } else { "" };
            write!(f, "{line}{error}")?;
        }
        Ok(())
    }
}

impl From<SettingError> for SettingErrors {
    fn from(error: SettingError) -> Self {
        Self(vec![error])
    }
}

//! Values as they were given, each with where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::setting::Setting;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag on the command line.
    CommandLine,
    /// An environment variable.
    Variable(String),
    /// A settings file.
    File {
        /// The file.
        path: PathBuf,
        /// The key, as it is written there.
        key: String,
    },
    /// Nobody gave it: the default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("from the command line"),
            Self::Variable(name) => write!(f, "from variable {name}"),
            Self::File { path, key } => write!(f, "from key {key} of settings file {}", path.display()),
            Self::Default => f.write_str("by default"),
        }
    }
}

/// A value as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawValue {
    /// The text.
    pub text: String,
    /// Where it came from.
    pub origin: Origin,
}

impl RawValue {
    /// A value.
    pub fn new(text: impl Into<String>, origin: Origin) -> Self {
        Self { text: text.into(), origin }
    }
}

/// The values of one layer (the command line, the environment, a file), or of several laid over each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawSettings(BTreeMap<&'static str, Vec<RawValue>>);

impl RawSettings {
    /// Gives `setting` one more value in this layer.
    pub fn add(&mut self, setting: &'static Setting, value: RawValue) {
        self.0.entry(setting.name).or_default().push(value);
    }

    /// The values of `setting`, in the order in which they were given.
    pub fn get(&self, setting: &Setting) -> &[RawValue] {
        self.0.get(setting.name).map_or(&[], Vec::as_slice)
    }

    /// The value of `setting` that counts where one only can: the last. An empty one is none.
    pub fn last(&self, setting: &Setting) -> Option<&RawValue> {
        self.get(setting).last().filter(|v| !(v.text.is_empty() && setting.kind.may_be_empty()))
    }

    /// Lays this layer over `below`: a setting that has a value here has none of those below.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        let mut all = below.0;
        all.extend(self.0);
        Self(all)
    }
}

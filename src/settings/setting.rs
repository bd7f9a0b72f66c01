//! What is known about a setting before anybody gives it a value.

use super::table::SETTINGS;
use crate::registry::Part;

/// What a setting takes: decides how the command line, settings files and completions treat it. Whether a value is valid is
/// decided when settings are lowered (see [`crate::settings`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A boolean: `--flag`, `--flag=false`, `--flag false`.
    Switch,
    /// A boolean, or `auto`.
    AutoSwitch,
    /// One of these words; some settings take other values too (a path, say).
    Choice(&'static [&'static str]),
    /// A name, an address, a URL, a pattern.
    Text,
    /// The path of a file.
    File,
    /// The path of a folder.
    Folder,
    /// A whole number.
    Number,
    /// Port ranges: in a settings file a number, a text or a list of both.
    Ports,
    /// A duration such as `1h30m`.
    Duration,
}

impl Kind {
    /// Whether the flag may stand alone, without a value.
    pub fn may_be_bare(self) -> bool {
        matches!(self, Self::Switch | Self::AutoSwitch)
    }

    /// Whether an empty value on the command line or in a file means 'none' (as for the original's text flags) and not a mistake.
    pub fn may_be_empty(self) -> bool {
        matches!(self, Self::Choice(_) | Self::Text | Self::File | Self::Folder)
    }
}

/// The heading of `--help` that a setting stands under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Options of no group.
    General,
    /// Where the state of the cluster comes from.
    ClusterAccess,
    /// Which Services this instance serves.
    WhichServices,
    /// Where listeners bind.
    Ports,
    /// The proxy and how it is handled.
    Proxy,
    /// NGINX Plus.
    Plus,
    /// What LBEX itself listens on.
    Health,
    /// What is logged, and where.
    Logging,
}

impl Group {
    /// The heading; `None` for the general options.
    pub fn heading(self) -> Option<&'static str> {
        Some(match self {
            Self::General => return None,
            Self::ClusterAccess => "Cluster access",
            Self::WhichServices => "Which Services",
            Self::Ports => "Ports and addresses",
            Self::Proxy => "Proxy",
            Self::Plus => "NGINX Plus",
            Self::Health => "Health and metrics",
            Self::Logging => "Logging",
        })
    }
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The name, as a flag without its dashes and as a key in a settings file.
    pub name: &'static str,
    /// Other names that mean the same.
    pub aliases: &'static [&'static str],
    /// What it takes.
    pub kind: Kind,
    /// Whether it may be given more than once, all values counting. Of other settings the last one counts.
    pub many: bool,
    /// What stands for its value in `--help`.
    pub value_name: &'static str,
    /// Its default as one would write it; `None`: unset.
    pub default: Option<&'static str>,
    /// The default in words, where it is not one value.
    pub default_words: Option<&'static str>,
    /// Its heading in `--help`.
    pub group: Group,
    /// What it does.
    pub help: &'static str,
    /// What its value may be, for error texts.
    pub allowed: &'static str,
    /// What it is of use to.
    pub part: Part,
    /// Whether it is read from the command line only: neither a variable nor a key of a settings file exists.
    pub command_line_only: bool,
}

impl Setting {
    /// Whether `name` (with `-` or `_` between words) is this setting.
    pub fn is_called(&self, name: &str) -> bool {
        std::iter::once(&self.name).chain(self.aliases).any(|own| same_name(own, name))
    }

    /// The environment variables that it is read from; none for those of the command line only.
    pub fn variables(&self) -> impl Iterator<Item = String> {
        let names = std::iter::once(&self.name).chain(self.aliases).filter(|_| !self.command_line_only);
        names.map(|name| format!("LBEX_{}", name.to_ascii_uppercase().replace('-', "_")))
    }
}

fn same_name(a: &str, b: &str) -> bool {
    let dashed = |c: u8| if c == b'_' { b'-' } else { c };
    a.bytes().map(dashed).eq(b.bytes().map(dashed))
}

/// The setting called `name`, with `-` or `_` between words.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.is_called(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_dashes_and_underscores_and_mean_one_setting() {
        for setting in SETTINGS {
            for name in std::iter::once(&setting.name).chain(setting.aliases) {
                for spelt in [name.replace('-', "_"), name.replace('_', "-")] {
                    assert_eq!(find(&spelt), Some(setting), "{spelt}");
                    assert_eq!(SETTINGS.iter().filter(|s| s.is_called(&spelt)).count(), 1, "{spelt}");
                }
            }
        }
        assert_eq!(find("required_port").unwrap().name, "require-port");
        assert!(find("Health-Port").is_none() && find("").is_none() && find("health").is_none());
    }

    #[test]
    fn every_setting_says_what_it_does_and_takes() {
        for setting in SETTINGS {
            assert!(!setting.help.is_empty() && !setting.help.ends_with('.'), "{}", setting.name);
            assert!(!setting.value_name.is_empty(), "{}", setting.name);
            assert!(!setting.allowed.is_empty(), "{}", setting.name);
        }
    }
}

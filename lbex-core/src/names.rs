//! Validated names. Text from the cluster becomes one of these at the border or goes no further (design invariant 9).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is not a name of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not {wanted}", Quoted(.text))]
pub struct NameError {
    text: String,
    wanted: &'static str,
}

impl NameError {
    fn new(text: &str, wanted: &'static str) -> Self {
        // Kept short: the text may be hundreds of kilobytes, and Quoted shows no more than this.
        Self { text: text.chars().take(Quoted::LIMIT + 1).collect(), wanted }
    }
}

/// Shows untrusted text in quotes, escaped and cut after [`Quoted::LIMIT`] characters, so that it can neither break
/// a log line nor fill a disk.
pub struct Quoted<'a>(pub &'a str);

impl Quoted<'_> {
    /// Characters shown at the most, with those that escaping adds.
    pub const LIMIT: usize = 80;
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        let mut room = Self::LIMIT;
        for c in self.0.chars() {
            let escaped = c.escape_debug();
            let Some(left) = room.checked_sub(escaped.len()) else {
                return write!(f, "\"... ({} bytes)", self.0.len());
            };
            write!(f, "{escaped}")?;
            room = left;
        }
        f.write_str("\"")
    }
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    matches!(bytes.len(), 1..=63)
        && inner(bytes[0])
        && inner(bytes[bytes.len() - 1])
        && bytes.iter().all(|&b| inner(b) || b == b'-')
}

/// A DNS label (RFC 1123): 1-63 of `[a-z0-9-]`, beginning and ending with a letter or digit. What Kubernetes allows as
/// the name of a namespace or a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Label(Arc<str>);

impl Label {
    /// Validates `text`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if is_label(text) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::new(
                text,
                "a DNS label (1-63 of a-z, 0-9 and '-', beginning and ending with a letter or digit)",
            ))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Label {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(&text)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which Service: namespace and name. Written `namespace/name`. Ordered by namespace, then name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ServiceKey {
    /// The namespace.
    pub namespace: Label,
    /// The name.
    pub name: Label,
}

impl ServiceKey {
    /// Validates both parts as DNS labels.
    pub fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
        Ok(Self { namespace: Label::new(namespace)?, name: Label::new(name)? })
    }
}

impl TryFrom<String> for ServiceKey {
    type Error = NameError;

    /// Reads `namespace/name`.
    fn try_from(text: String) -> Result<Self, NameError> {
        let (namespace, name) =
            text.split_once('/').ok_or_else(|| NameError::new(&text, "a Service (namespace/name)"))?;
        Self::new(namespace, name)
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Serialize for ServiceKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A DNS name that may be written into a proxy's configuration: labels of `[A-Za-z0-9_-]` joined by dots, at most 253
/// characters, and not an IP address (an `ExternalName` that looks like one would be used as one).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct DnsName(Arc<str>);

impl DnsName {
    /// Validates `text`; a trailing dot is dropped, letters are lowered.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let label = |l: &str| {
            matches!(l.len(), 1..=63)
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let numeric_end = name.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if name.len() <= 253 && !numeric_end && name.split('.').all(label) {
            Ok(Self(name.to_ascii_lowercase().into()))
        } else {
            Err(NameError::new(text, "a DNS name (labels of letters, digits, '-' and '_' joined by dots)"))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DnsName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(&text)
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pool of LBEX instances (contract section 4): 1-63 of `[A-Za-z0-9]`, with `-`, `_` and `.` inside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PoolName(Arc<str>);

impl PoolName {
    /// What a pool name may be, for error texts.
    pub const ALLOWED: &'static str = "1-63 of A-Z, a-z, 0-9, with '-', '_' and '.' inside";

    /// Validates `text`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        let valid = matches!(bytes.len(), 1..=63)
            && bytes[0].is_ascii_alphanumeric()
            && bytes[bytes.len() - 1].is_ascii_alphanumeric()
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b));
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(NameError::new(text, "a pool name (1-63 of A-Z, a-z, 0-9, with '-', '_' and '.' inside)"))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_no_name() {
        for text in ["", "a b", "a;b", "a\nb", "a{b", "$a", "-a", "a-", "A", "é", &"a".repeat(64), "../x"] {
            assert!(Label::new(text).is_err(), "{text:?}");
        }
        for text in ["", "a b", "a;b", "a\n.b", "a..b", "$host", "-a.b", "10.0.0.1", "a.1", &"a.".repeat(150)] {
            assert!(DnsName::new(text).is_err(), "{text:?}");
        }
        for text in ["", "-a", "a-", "a/b", "a b", &"p".repeat(64)] {
            assert!(PoolName::new(text).is_err(), "{text:?}");
        }
        assert_eq!(DnsName::new("Example.COM.").unwrap().as_str(), "example.com");
        assert_eq!(ServiceKey::new("default", "web-1").unwrap().to_string(), "default/web-1");
    }

    #[test]
    fn quoted_is_one_short_line() {
        let shown = Quoted(&"x\n".repeat(100_000)).to_string();
        assert!(!shown.contains('\n') && shown.len() < 300, "{shown}");
        assert!(shown.contains("200000 bytes"));
    }
}

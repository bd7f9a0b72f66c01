//! From bytes to trees: YAML and JSON documents with the position of everything in them.
//!
//! Two steps, because a file may hold anything: first each document becomes a [`Node`] tree, whatever its kind, then the
//! objects that LBEX reads are deserialized from their part of it ([`de`]). So one object that is not valid concerns no other,
//! every problem has a line and a column, and an unquoted annotation value is read exactly as it was written.

pub(super) mod de;
mod json;
mod scalar;
#[cfg(test)]
mod tests;
mod tree;
mod yaml;

use std::fmt;

pub(super) use tree::{Document, Node, Position, Value};

/// How deep mappings and lists may be nested.
const MOST_DEPTH: usize = 100;

/// Why a file does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// Where; line 0: nowhere in particular.
    pub at: Position,
    /// The reason, one short line.
    pub text: String,
}

impl SyntaxError {
    fn new(at: Position, text: impl fmt::Display) -> Self {
        Self { at, text: short_line(&text.to_string()) }
    }
}

/// Reads all documents of a file and hands them over one by one, so that only one is in memory at a time. Documents without
/// content are left out. An error means that the file does not parse as a whole, whatever was handed over before.
///
/// A file is JSON (one value or several) where its name says so, or where it begins with `{` and is JSON; else it is YAML.
pub(super) fn documents(bytes: &[u8], named_json: bool, each: &mut dyn FnMut(Document<'_>)) -> Result<(), SyntaxError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let at = Position::after(std::str::from_utf8(before).unwrap_or_default());
        SyntaxError::new(at, "the file is not UTF-8 text here")
    })?;
    if named_json || (text.trim_start().starts_with('{') && json::check(text).is_ok()) {
        json::read(text, each)
    } else {
        yaml::read(text, each)
    }
}

/// Makes one short line of a text that may hold parts of a file.
fn short_line(text: &str) -> String {
    const MOST: usize = 300;
    let mut line: String = text.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        line.push_str("...");
    }
    line
}

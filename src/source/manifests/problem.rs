//! What is wrong with manifest files, in words for their author.

use std::fmt;
use std::path::PathBuf;

/// What a problem means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemKind {
    /// The file or folder cannot be read. While LBEX runs, it counts as unchanged.
    Unreadable,
    /// The file does not parse. While LBEX runs, it counts as unchanged.
    NotParsed,
    /// One object is not valid and left out.
    InvalidObject,
    /// A second object of the same kind, namespace and name: left out.
    Duplicate,
    /// Something that is probably a mistake, such as a misspelt kind.
    Hint,
}

/// One problem, and where it is. Its text is one short line, whatever the file holds:
/// `web.yaml:12:7: Service default/web: spec.ports[0].port 0 is not valid; ...`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileProblem {
    /// The file or folder.
    pub path: PathBuf,
    /// The line, from 1; 0: the file as a whole.
    pub line: u32,
    /// The column in characters, from 1; 0: the file as a whole.
    pub column: u32,
    /// What it means.
    pub kind: ProblemKind,
    /// The object that it is about (`Service default/web`), where it is about one.
    pub object: Option<String>,
    /// What is wrong, what is allowed and what happens instead.
    pub text: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", ShownPath(&self.path))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        match &self.object {
            Some(object) => write!(f, ": {object}: {}", self.text),
            None => write!(f, ": {}", self.text),
        }
    }
}

/// A path for messages: control characters escaped.
pub(super) struct ShownPath<'a>(pub(super) &'a std::path::Path);

impl fmt::Display for ShownPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string_lossy();
        for c in text.chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

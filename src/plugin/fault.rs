//! What a plugin can do wrong. Each closes its backend; another is opened after a pause.

use std::time::Duration;

use lbex_plugin_abi::tables::{MAX_DOCUMENT, code};
use lbex_plugin_abi::{DocumentError, ReportError};

/// What a plugin did wrong.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Its backend's table is not there.
    #[error("lbex_plugin_open returned {} and no backend", code::OK)]
    NoBackend,
    /// Its backend's table has less than that of ABI 1.0.
    #[error("its backend's table has {size} bytes; at least {least} are needed")]
    SmallTable {
        /// What it says.
        size: u32,
        /// What is needed.
        least: usize,
    },
    /// A function that every backend has is not there.
    #[error("its backend has no function {0}")]
    NoFunction(&'static str),
    /// It points to where nothing can be read.
    #[error("{what} ({length} bytes at {address:#x}) cannot be read: {reason}")]
    Unreadable {
        /// What should be there.
        what: &'static str,
        /// Where.
        address: usize,
        /// How much of it.
        length: usize,
        /// What the system said.
        reason: String,
    },
    /// Its reply is larger than any may be.
    #[error("its reply to {call} is said to have {length} bytes; {MAX_DOCUMENT} are allowed")]
    TooLarge {
        /// The function.
        call: &'static str,
        /// What it says.
        length: usize,
    },
    /// A code that means nothing.
    #[error("{call} returned {code}, which is no code{}", Text(text))]
    UnknownCode {
        /// The function.
        call: &'static str,
        /// The code.
        code: i32,
        /// What it replied.
        text: String,
    },
    /// It panicked.
    #[error("{call} panicked{}", Text(text))]
    Panic {
        /// The function.
        call: &'static str,
        /// What it replied.
        text: String,
    },
    /// Its reply is not the document that it should be.
    #[error("its reply to {call} is {source}")]
    Garbage {
        /// The function.
        call: &'static str,
        /// Why.
        source: DocumentError,
    },
    /// Its report contradicts what it was asked for.
    #[error("its report cannot be believed: {0}")]
    Report(#[from] ReportError),
    /// Its report and its code contradict each other.
    #[error("apply returned {code}, and its report refuses {refused} Service(s)")]
    Contradiction {
        /// The code.
        code: i32,
        /// How many Services.
        refused: usize,
    },
    /// It was given everything, and asks for everything.
    #[error("it asks for the whole desired state, which it was just given")]
    Insatiable,
    /// A call did not return in time, nor soon after it was cancelled.
    #[error("{call} did not return within {limit:?}, nor soon after it was cancelled")]
    Overrun {
        /// The function.
        call: &'static str,
        /// Its time.
        limit: Duration,
    },
    /// Its thread has ended, which is a defect of LBEX.
    #[error("its thread has ended")]
    ThreadEnded,
}

struct Text<'a>(&'a str);

impl std::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

/// How much of a plugin's text is shown, in characters.
const LONGEST_TEXT: usize = 1000;

/// A plugin's text on one line, and not too much of it.
pub(super) fn text(bytes: &[u8]) -> String {
    line(bytes, LONGEST_TEXT)
}

/// The same, with as many characters as `longest`.
pub(super) fn line(bytes: &[u8], longest: usize) -> String {
    let bytes = &bytes[..bytes.len().min(longest * 4)];
    let text = String::from_utf8_lossy(bytes);
    let text: String = text.chars().take(longest).map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.trim().to_owned()
}

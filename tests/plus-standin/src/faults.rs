//! What goes wrong, and when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::Code;

/// What goes wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// It takes this long until anything happens.
    Slow(Duration),
    /// It happens at once, and the answer takes this long.
    SlowAnswer(Duration),
    /// The connection is closed without an answer, and nothing has changed.
    DropBefore,
    /// The connection is closed without an answer, and the state has changed.
    DropAfter,
    /// Status 500 with a page for people; nothing has changed.
    Broken,
    /// Status 200 with a page for people, as from a proxy's login; nothing has changed.
    Html,
    /// It is taken for a call about this upstream, whatever its path says.
    Other(String),
    /// This error of the API, with its status; nothing has changed. For instance [`Code::UpstreamOutOfMemory`].
    Error(Code),
}

/// A fault, and the calls that have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub(crate) fault: Fault,
    method: Option<String>,
    containing: Option<String>,
    skip: usize,
    left: Option<usize>,
}

impl Rule {
    /// The next call, whatever it is, has this fault.
    pub fn new(fault: Fault) -> Self {
        Self { fault, method: None, containing: None, skip: 0, left: Some(1) }
    }

    /// Only calls with this method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Only calls whose path has this in it, for instance `/upstreams/web/`.
    #[must_use]
    pub fn containing(mut self, text: &str) -> Self {
        self.containing = Some(text.to_owned());
        self
    }

    /// Not the first `count` of these calls.
    #[must_use]
    pub fn after(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    /// So many of these calls, instead of one.
    #[must_use]
    pub fn times(mut self, count: usize) -> Self {
        self.left = Some(count);
        self
    }

    /// All of these calls, until the rules are cleared.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.left = None;
        self
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        self.left != Some(0)
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.containing.as_ref().is_none_or(|wanted| path.contains(wanted.as_str()))
    }

    /// Whether a call has this fault; if so, it is used up by one.
    pub(crate) fn takes(&mut self, method: &str, path: &str) -> bool {
        if !self.matches(method, path) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.left = self.left.map(|left| left - 1);
        true
    }
}

//! The calls that came, for assertions.

use std::time::Instant;

use crate::faults::Fault;

/// A call of the API.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// When it came.
    pub at: Instant,
    /// `GET`, `POST`, ...
    pub method: String,
    /// The path as it came, without the query.
    pub path: String,
    /// The body as text.
    pub body: String,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// How many calls were in progress when it came, itself included.
    pub in_progress: usize,
    /// What went wrong with it, as told.
    pub fault: Option<Fault>,
    /// The status of the answer; `None`: not answered, or not yet.
    pub status: Option<u16>,
}

impl Call {
    /// Whether it would change something.
    pub fn writes(&self) -> bool {
        self.method != "GET"
    }

    /// `METHOD PATH`, from the version on: `POST /9/stream/upstreams/web/servers`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path.strip_prefix("/api").unwrap_or(&self.path))
    }
}

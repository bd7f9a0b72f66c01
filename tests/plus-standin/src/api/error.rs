//! What the API says when it refuses.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Where the real API's errors are explained; each error names it.
const HREF: &str = "https://nginx.org/en/docs/http/ngx_http_api_module.html";

/// The API's word for an error, with its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // the API's own words
pub enum Code {
    UpstreamStatic,
    UpstreamConfFormatError,
    UpstreamBadAddress,
    UpstreamBadWeight,
    UpstreamBadMaxConns,
    UpstreamBadMaxFails,
    UpstreamBadFailTimeout,
    UpstreamBadSlowStart,
    UpstreamBadServerId,
    UpstreamServerImmutable,
    UpstreamOutOfMemory,
    BodyReadError,
    UnknownVersion,
    PathNotFound,
    UpstreamNotFound,
    UpstreamServerNotFound,
    MethodNotAllowed,
    MethodDisabled,
    EntryExists,
    JsonError,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::UpstreamStatic,
        Self::UpstreamConfFormatError,
        Self::UpstreamBadAddress,
        Self::UpstreamBadWeight,
        Self::UpstreamBadMaxConns,
        Self::UpstreamBadMaxFails,
        Self::UpstreamBadFailTimeout,
        Self::UpstreamBadSlowStart,
        Self::UpstreamBadServerId,
        Self::UpstreamServerImmutable,
        Self::UpstreamOutOfMemory,
        Self::BodyReadError,
        Self::UnknownVersion,
        Self::PathNotFound,
        Self::UpstreamNotFound,
        Self::UpstreamServerNotFound,
        Self::MethodNotAllowed,
        Self::MethodDisabled,
        Self::EntryExists,
        Self::JsonError,
    ];

    /// The HTTP status that it comes with.
    pub fn status(self) -> u16 {
        match self {
            Self::UnknownVersion | Self::PathNotFound | Self::UpstreamNotFound | Self::UpstreamServerNotFound => 404,
            Self::MethodNotAllowed | Self::MethodDisabled => 405,
            Self::EntryExists => 409,
            Self::JsonError => 415,
            _ => 400,
        }
    }

    /// An error of this kind with these words.
    pub fn because(self, text: impl Into<String>) -> ApiError {
        ApiError { code: self, text: text.into() }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An error as the API tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Which.
    pub code: Code,
    /// In words.
    pub text: String,
}

impl ApiError {
    /// The document that the API answers with.
    pub fn json(&self, request_id: &str) -> Value {
        let error = json!({"status": self.code.status(), "text": self.text, "code": self.code.to_string()});
        json!({"error": error, "request_id": request_id, "href": HREF})
    }
}

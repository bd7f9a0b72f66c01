//! What can go wrong with a call, by what helps.

use std::fmt;

use lbex_core::names::Quoted;

/// Why a call had no success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {problem}")]
pub struct ApiError {
    /// Which call: `POST http://10.0.0.1:8080/api/9/stream/upstreams/NAME/servers`.
    pub call: String,
    /// What went wrong.
    pub problem: Problem,
}

/// What went wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No answer: refused, lost, too slow. Trying again may help.
    #[error("{0}")]
    NoAnswer(String),
    /// A status from 500 on, or one that asks to come later (408, 429).
    #[error("the answer is {status}{}", Aside(text))]
    Server {
        /// The HTTP status.
        status: u16,
        /// What the API said, if it was the API.
        text: String,
    },
    /// The answer is not the API's: HTML, another program's JSON, too long.
    #[error("the answer is not that of the API of NGINX Plus ({0}); is the URL that of its `api` location?")]
    NotTheApi(String),
    /// 401 or 403.
    #[error("the credentials are not taken (status {status}); they are read again when their files change")]
    Unauthorized {
        /// The HTTP status.
        status: u16,
    },
    /// The API speaks no version that LBEX does.
    #[error("the API has the versions {theirs}, and LBEX speaks {ours}", theirs = Versions(.0), ours = Versions(super::VERSIONS))]
    NoCommonVersion(Vec<u32>),
    /// The location of the API lacks `write=on`.
    #[error("the API takes no changes: its location needs `api write=on;`")]
    MethodDisabled,
    /// There is no such upstream.
    #[error("there is no such upstream")]
    UpstreamNotFound,
    /// There is no such server: somebody else removed it.
    #[error("there is no such server")]
    ServerNotFound,
    /// The memory of the upstream is full.
    #[error("the upstream's zone has no room for another server: it has to be larger")]
    UpstreamOutOfMemory,
    /// The upstream has no zone.
    #[error("the servers of the upstream cannot be changed: it needs a `zone`, and `state` in place of `server`")]
    UpstreamStatic,
    /// Anything else that the API refuses. Trying again unchanged cannot help.
    #[error("refused with {status} {}{}", Quoted(code), Aside(text))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The API's word for it.
        code: String,
        /// What the API said.
        text: String,
    },
}

/// What follows from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The whole instance: it is tried again with growing pauses, and nothing else is asked of it meanwhile.
    Instance,
    /// What LBEX knows of the upstream is old: it is read again.
    Outdated,
    /// This one upstream, as it is now.
    Upstream,
}

impl ApiError {
    /// What follows.
    pub fn scope(&self) -> Scope {
        match self.problem {
            Problem::NoAnswer(_)
            | Problem::Server { .. }
            | Problem::NotTheApi(_)
            | Problem::Unauthorized { .. }
            | Problem::NoCommonVersion(_)
            | Problem::MethodDisabled
            // Another NGINX than the one that was asked for its versions, or one without the stream module.
            | Problem::Refused { status: 404 | 405, .. } => Scope::Instance,
            Problem::ServerNotFound => Scope::Outdated,
            Problem::UpstreamNotFound
            | Problem::UpstreamOutOfMemory
            | Problem::UpstreamStatic
            | Problem::Refused { .. } => Scope::Upstream,
        }
    }

    /// A stable CamelCase word for it.
    pub fn code(&self) -> &'static str {
        match self.problem {
            Problem::NoAnswer(_) => "NoAnswer",
            Problem::Server { .. } => "ServerError",
            Problem::NotTheApi(_) => "NotTheApi",
            Problem::Unauthorized { .. } => "Unauthorized",
            Problem::NoCommonVersion(_) => "NoCommonVersion",
            Problem::MethodDisabled => "MethodDisabled",
            Problem::ServerNotFound => "ServerNotFound",
            Problem::UpstreamNotFound => "UpstreamNotFound",
            Problem::UpstreamOutOfMemory => "UpstreamOutOfMemory",
            Problem::UpstreamStatic => "UpstreamStatic",
            Problem::Refused { .. } => "ApiRefused",
        }
    }
}

impl Problem {
    /// Reads an answer that is not a success.
    pub(super) fn of_answer(status: u16, body: &[u8]) -> Self {
        let detail = serde_json::from_slice::<super::ErrorBody>(body).ok().map(|body| body.error);
        let text = detail.as_ref().map(|detail| short(&detail.text)).unwrap_or_default();
        match (status, detail) {
            (500.. | 408 | 429, _) => Self::Server { status, text },
            (401 | 403, _) => Self::Unauthorized { status },
            (_, None) => Self::NotTheApi(format!("status {status}, {}", beginning(body))),
            (_, Some(detail)) => match detail.code.as_str() {
                "MethodDisabled" => Self::MethodDisabled,
                "UpstreamNotFound" => Self::UpstreamNotFound,
                "UpstreamServerNotFound" => Self::ServerNotFound,
                "UpstreamOutOfMemory" => Self::UpstreamOutOfMemory,
                "UpstreamStatic" => Self::UpstreamStatic,
                _ => Self::Refused { status, code: short(&detail.code), text },
            },
        }
    }
}

/// How an answer begins, for people.
pub(super) fn beginning(body: &[u8]) -> String {
    const SHOWN: usize = 40;
    match body {
        [] => "empty".to_owned(),
        body => {
            let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]);
            format!("it begins with {}", Quoted(&text))
        }
    }
}

/// Text of a stranger, fit for a log line.
fn short(text: &str) -> String {
    const LONGEST: usize = 200;
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

struct Aside<'a>(&'a str);

impl fmt::Display for Aside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " ({})", self.0) }
    }
}

struct Versions<'a>(&'a [u32]);

impl fmt::Display for Versions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("none"),
            all => f.write_str(&all.iter().take(32).map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, code: &str) -> Problem {
        let body = format!(r#"{{"error":{{"status":{status},"text":"because","code":"{code}"}},"request_id":"1"}}"#);
        Problem::of_answer(status, body.as_bytes())
    }

    #[test]
    fn every_error_of_the_api_has_its_kind() {
        for code in [
            "UpstreamConfFormatError",
            "UpstreamBadAddress",
            "UpstreamBadWeight",
            "UpstreamBadMaxConns",
            "UpstreamBadMaxFails",
            "UpstreamBadFailTimeout",
            "UpstreamBadSlowStart",
            "UpstreamBadServerId",
            "UpstreamServerImmutable",
            "BodyReadError",
        ] {
            let text = "because".to_owned();
            assert_eq!(of(400, code), Problem::Refused { status: 400, code: code.to_owned(), text });
        }
        assert_eq!(of(400, "UpstreamStatic"), Problem::UpstreamStatic);
        assert_eq!(of(400, "UpstreamOutOfMemory"), Problem::UpstreamOutOfMemory);
        assert_eq!(of(404, "UpstreamNotFound"), Problem::UpstreamNotFound);
        assert_eq!(of(404, "UpstreamServerNotFound"), Problem::ServerNotFound);
        assert_eq!(of(405, "MethodDisabled"), Problem::MethodDisabled);
        assert!(matches!(of(404, "PathNotFound"), Problem::Refused { .. }));
        assert!(matches!(of(409, "EntryExists"), Problem::Refused { .. }));
        assert!(matches!(of(415, "JsonError"), Problem::Refused { .. }));
        assert_eq!(of(500, "x"), Problem::Server { status: 500, text: "because".to_owned() });
        assert_eq!(of(403, "x"), Problem::Unauthorized { status: 403 });
    }

    #[test]
    fn html_is_not_the_api() {
        let html = "<html>\n<head><title>404 Not Found</title></head></html>";
        let problem = Problem::of_answer(404, html.as_bytes()).to_string();
        assert!(problem.contains("is the URL that of its `api` location?"), "{problem}");
        assert!(!problem.contains('\n') && problem.len() < 200, "{problem}");
        assert!(matches!(Problem::of_answer(502, html.as_bytes()), Problem::Server { status: 502, .. }));
    }
}

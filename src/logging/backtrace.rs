//! `--log_backtrace_at`: a stack trace with what one line of the source logs.

use std::backtrace::Backtrace;
use std::fmt;

use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// A line of a source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    file: String,
    line: u32,
}

impl Location {
    /// Parses `FILE:LINE`, FILE being the name of a file or the end of its path; the error is what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (file, line) = text.rsplit_once(':').ok_or_else(|| "it has no line".to_owned())?;
        let line = line.parse().map_err(|_| format!("'{line}' is no line"))?;
        if file.is_empty() { Err("it has no file".to_owned()) } else { Ok(Self { file: file.to_owned(), line }) }
    }

    fn is_of(&self, metadata: &Metadata<'_>) -> bool {
        let file = metadata.file().unwrap_or_default();
        let before = file.strip_suffix(self.file.as_str());
        metadata.line() == Some(self.line) && before.is_some_and(|b| b.is_empty() || b.ends_with('/'))
    }
}

/// Lines of another format, with a stack trace where one is asked for: after the line in text, as the field `backtrace` in JSON.
pub(super) struct WithBacktrace<F> {
    inner: F,
    json: bool,
    at: Option<Location>,
}

impl<F> WithBacktrace<F> {
    pub(super) fn text(inner: F, at: Option<Location>) -> Self {
        Self { inner, json: false, at }
    }

    pub(super) fn json(inner: F, at: Option<Location>) -> Self {
        Self { inner, json: true, at }
    }
}

impl<S, N, F> FormatEvent<S, N> for WithBacktrace<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if !self.at.as_ref().is_some_and(|at| at.is_of(event.metadata())) {
            return self.inner.format_event(context, writer, event);
        }
        let backtrace = Backtrace::force_capture().to_string();
        if !self.json {
            self.inner.format_event(context, writer.by_ref(), event)?;
            return writeln!(writer, "{}", backtrace.trim_end());
        }
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        let object = line.trim_end().strip_suffix('}').ok_or(fmt::Error)?;
        writeln!(writer, "{object},\"backtrace\":{}}}", serde_json::Value::from(backtrace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        assert_eq!(Location::parse("engine.rs:12"), Ok(Location { file: "engine.rs".to_owned(), line: 12 }));
        for text in ["engine.rs", "engine.rs:", "engine.rs:x", ":12", "engine.rs:-1"] {
            assert!(Location::parse(text).is_err(), "{text}");
        }
    }
}

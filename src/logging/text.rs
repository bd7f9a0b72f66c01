//! Log lines as text: `2026-01-02T03:04:05.678901Z  INFO lbex::engine: message field=value`.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// One line for each event. Control characters in messages and values are escaped, so that nobody's text can make a line of
/// its own or talk to the terminal.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextLines {
    pub(super) colour: bool,
}

impl<S, N> FormatEvent<S, N> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (dim, plain) = if self.colour { (DIM, PLAIN) } else { ("", "") };
        writer.write_str(dim)?;
        SystemTime.format_time(&mut writer)?;
        write!(
            writer,
            "{plain} {} {dim}{}:{plain} ",
            Label(*event.metadata().level(), self.colour),
            event.metadata().target()
        )?;
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map_or("", |f| f.fields.as_str());
            write!(writer, "{dim}{}{{{}}}:{plain} ", span.name(), OneLine(fields))?;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        // The message first, wherever it was written.
        let between = if fields.message.is_empty() || fields.others.is_empty() { "" } else { " " };
        writeln!(writer, "{}{between}{dim}{}{plain}", fields.message, fields.others)
    }
}

struct Label(Level, bool);

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (colour, word) = match self.0 {
            Level::ERROR => ("\x1b[31m", "ERROR"),
            Level::WARN => ("\x1b[33m", " WARN"),
            Level::INFO => ("\x1b[32m", " INFO"),
            Level::DEBUG => ("\x1b[34m", "DEBUG"),
            Level::TRACE => ("\x1b[35m", "TRACE"),
        };
        if self.1 { write!(f, "{colour}{word}{PLAIN}") } else { f.write_str(word) }
    }
}

/// Text with its control characters escaped.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ['\u{2028}', '\u{2029}'].contains(&c) {
                write!(f, "{}", c.escape_debug())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl Fields {
    fn add(&mut self, name: &str, text: &str) {
        if name == "message" {
            self.message = OneLine(text).to_string();
            return;
        }
        // Fields of lines that came through the crate `log`; the target says the same.
        if name.starts_with("log.") {
            return;
        }
        let between = if self.others.is_empty() { "" } else { " " };
        let name = name.strip_prefix("r#").unwrap_or(name);
        self.others.extend([between, name, "=", &OneLine(text).to_string()]);
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let plain = field.name() == "message" || (!value.is_empty() && !value.contains([' ', '"', '=']));
        if plain { self.add(field.name(), value) } else { self.add(field.name(), &format!("{value:?}")) }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        self.record_str(field, &text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), &format!("{value:?}"));
    }
}

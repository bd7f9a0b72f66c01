//! What the plugin says through `tracing` goes to LBEX's log.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::host::{Host, Level};

/// Events become lines; spans are ignored.
struct ToHost(Host);

/// Unless the plugin has a subscriber of its own.
pub(crate) fn install(host: Host) {
    if tracing::subscriber::set_global_default(ToHost(host)).is_err() {
        host.log(Level::Debug, "the plugin has a tracing subscriber of its own");
    }
}

impl Subscriber for ToHost {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What is below is of no use to anybody but a library's author, and there may be thousands of lines in a second.
        *metadata.level() <= tracing::Level::DEBUG && metadata.is_event()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        };
        let mut line = Line::default();
        event.record(&mut line);
        self.0.log(level, &format!("{}{}", line.message, line.fields));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
        // A value whose own Debug fails: the rest of the line is worth having.
        if written.is_err() {
            self.fields.push_str(" ?");
        }
    }
}

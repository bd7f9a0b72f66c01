//! Lowering of the logging flags.

use super::lower::Reader;
use super::values::{path, switch, word};
use super::variables::Environment;
use crate::logging::{Destination, Format, Location, LogSettings, Severity, VModule};

/// The logging flags, with glog's meaning.
pub(super) fn logging(reader: &mut Reader<'_>, environment: &Environment) -> LogSettings {
    let no_colour = environment.get("NO_COLOR").is_some() || environment.get("TERM").is_some_and(|t| t == "dumb");
    LogSettings {
        format: reader.one("log-format", word(&[("text", Format::Text), ("json", Format::Json)])),
        verbosity: reader.one("v", |text| text.parse().map_err(|_| String::new())),
        vmodule: reader.maybe("vmodule", VModule::parse).unwrap_or_default(),
        backtrace_at: reader.maybe("log_backtrace_at", Location::parse),
        destination: destination(reader),
        colour: !no_colour,
    }
}

fn destination(reader: &mut Reader<'_>) -> Destination {
    let only_stderr = reader.maybe("logtostderr", switch).unwrap_or(false);
    let also_stderr = reader.one("alsologtostderr", switch);
    let threshold = reader.one("stderrthreshold", severity);
    match reader.maybe("log_dir", path) {
        None => Destination::Stderr,
        Some(_) if only_stderr => {
            reader.warn("--log_dir is not used: --logtostderr sends the log to standard error only");
            Destination::Stderr
        }
        Some(folder) => {
            let stderr = if also_stderr { Severity::Everything } else { threshold };
            Destination::Folder { folder, stderr }
        }
    }
}

/// glog's severities, by name or number. As INFO is the lowest, everything is at least as severe as it.
fn severity(text: &str) -> Result<Severity, String> {
    let words = [
        ("INFO", Severity::Everything),
        ("WARNING", Severity::Warning),
        ("ERROR", Severity::Error),
        ("FATAL", Severity::Fatal),
        ("0", Severity::Everything),
        ("1", Severity::Warning),
        ("2", Severity::Error),
        ("3", Severity::Fatal),
    ];
    word(&words)(&text.to_ascii_uppercase())
}

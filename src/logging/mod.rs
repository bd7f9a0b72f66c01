//! Log lines: glog's flags on top of `tracing` (contract section 2).
//!
//! Lines go to standard error, or with `--log_dir` to a file of the day, `lbex.YYYY-MM-DD.log` (UTC). glog writes one file for
//! each severity and start; here one file holds all severities of a day, and the newest [`KEPT_FILES`] are kept.

mod backtrace;
mod text;
mod verbosity;

#[cfg(test)]
mod tests;

use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};

use tracing::{Metadata, Subscriber};
use tracing_appender::rolling::{InitError, RollingFileAppender, Rotation};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::{Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

pub use self::backtrace::Location;
use self::backtrace::WithBacktrace;
use self::text::TextLines;
pub use self::verbosity::VModule;
use self::verbosity::Verbosity;

/// How many log files are kept in `--log_dir`, one being that of today.
pub const KEPT_FILES: usize = 14;

/// The logging flags, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// `--log-format`. Default text.
    pub format: Format,
    /// `-v`. Default 0.
    pub verbosity: i32,
    /// `--vmodule`: exceptions from [`LogSettings::verbosity`].
    pub vmodule: VModule,
    /// `--log_backtrace_at`.
    pub backtrace_at: Option<Location>,
    /// Where lines go.
    pub destination: Destination,
    /// Whether text lines on a terminal may have colours (`NO_COLOR` is unset, `TERM` is not `dumb`). Elsewhere they never have.
    pub colour: bool,
}

impl Default for LogSettings {
    /// Text lines of what an operator wants to know, on standard error.
    fn default() -> Self {
        Self {
            format: Format::Text,
            verbosity: 0,
            vmodule: VModule::default(),
            backtrace_at: None,
            destination: Destination::Stderr,
            colour: true,
        }
    }
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One line of text for each event: time (UTC), level, target, message, fields.
    Text,
    /// One JSON object on one line for each event: `timestamp`, `level`, `target`, `message`, and the event's fields.
    Json,
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To standard error.
    Stderr,
    /// To files in a folder, which is made if it is missing, and the more severe lines to standard error as well.
    Folder {
        /// `--log_dir`, absolute.
        folder: PathBuf,
        /// `--alsologtostderr` and `--stderrthreshold`: what goes to standard error as well.
        stderr: Severity,
    },
}

/// A threshold: lines at least this severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// All lines: glog's INFO, and below it what `-v` adds.
    Everything,
    /// Warnings and errors.
    Warning,
    /// Errors.
    Error,
    /// No line: LBEX ends with a message on standard error when something is fatal, and has no such log lines.
    Fatal,
}

impl Severity {
    fn covers(self, level: tracing::Level) -> bool {
        match self {
            Self::Everything => true,
            Self::Warning => level <= tracing::Level::WARN,
            Self::Error => level == tracing::Level::ERROR,
            Self::Fatal => false,
        }
    }
}

impl<S> Filter<S> for Severity {
    fn enabled(&self, metadata: &Metadata<'_>, _: &tracing_subscriber::layer::Context<'_, S>) -> bool {
        self.covers(*metadata.level())
    }
}

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The folder of `--log_dir` cannot be made.
    #[error("--log_dir: folder {} cannot be made", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder of `--log_dir` cannot be written to.
    #[error("--log_dir: no log file can be written in {}", folder.display())]
    File {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: InitError,
    },
    /// Something in this process has set up logging already.
    #[error("logging is set up already")]
    Twice(#[from] TryInitError),
}

/// Sets up logging for the whole process. To be called once; lines logged before are lost.
pub fn init(settings: &LogSettings) -> Result<(), LoggingError> {
    let colour = settings.colour && stderr().is_terminal();
    Ok(subscriber(settings, stderr, colour)?.try_init()?)
}

/// The subscriber that [`init`] makes the process's, with `to_stderr` in the place of standard error.
fn subscriber<W>(
    settings: &LogSettings,
    to_stderr: W,
    colour: bool,
) -> Result<impl Subscriber + Send + Sync, LoggingError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (file, severity) = match &settings.destination {
        Destination::Stderr => (None, Severity::Everything),
        Destination::Folder { folder, stderr } => (Some(lines(settings, appender(folder)?, false)), *stderr),
    };
    let stderr = lines(settings, to_stderr, colour).with_filter(severity);
    let registry = tracing_subscriber::registry().with(Verbosity::new(settings.verbosity, settings.vmodule.clone()));
    Ok(registry.with(stderr).with(file))
}

fn appender(folder: &Path) -> Result<RollingFileAppender, LoggingError> {
    std::fs::create_dir_all(folder).map_err(|source| LoggingError::Folder { folder: folder.into(), source })?;
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("lbex")
        .filename_suffix("log")
        .max_log_files(KEPT_FILES)
        .build(folder)
        .map_err(|source| LoggingError::File { folder: folder.into(), source })
}

fn lines<S, W>(settings: &LogSettings, writer: W, colour: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let at = settings.backtrace_at.clone();
    // A line that cannot be written (a full disk) is told on standard error.
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(true);
    match settings.format {
        Format::Text => layer.event_format(WithBacktrace::text(TextLines { colour }, at)).with_ansi(colour).boxed(),
        Format::Json => {
            let json = tracing_subscriber::fmt::format().json().flatten_event(true).with_span_list(false);
            layer.fmt_fields(JsonFields::new()).event_format(WithBacktrace::json(json, at)).boxed()
        }
    }
}

//! Log lines as they come out, through the subscriber that the process gets.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tracing::{debug, error, info, trace, warn};

use super::*;

/// Stands in for standard error.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What `log` writes to standard error with these settings.
fn logged_in(settings: &LogSettings, colour: bool, log: impl FnOnce()) -> String {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = subscriber(settings, move || writer.clone(), colour).unwrap();
    tracing::subscriber::with_default(subscriber, log);
    captured.text()
}

fn logged(settings: &LogSettings, log: impl FnOnce()) -> String {
    logged_in(settings, false, log)
}

/// Lines without the time at their beginning, which must be one.
fn without_times(text: &str) -> Vec<&str> {
    let untimed = |line| {
        let (time, rest) = str::split_once(line, "Z ").expect("a time in UTC");
        assert_eq!(time.len(), "2026-01-02T03:04:05.678901".len(), "{line}");
        rest
    };
    text.lines().map(untimed).collect()
}

#[test]
fn a_text_line_has_time_level_target_message_fields() {
    let text = logged(&LogSettings::default(), || {
        let service = "default/web";
        info!(service, port = 80, words = "a b", empty = "", "served");
        let span = tracing::info_span!("apply", generation = 7);
        span.in_scope(|| warn!("refused"));
        error!(error = &std::io::Error::other("away") as &dyn std::error::Error, "failed");
        info!(only = "fields");
    });
    assert_eq!(
        without_times(&text),
        [
            " INFO lbex::logging::tests: served service=default/web port=80 words=\"a b\" empty=\"\"",
            " WARN lbex::logging::tests: apply{generation=7}: refused",
            "ERROR lbex::logging::tests: failed error=away",
            " INFO lbex::logging::tests: only=fields",
        ]
    );
}

#[test]
fn nobodys_text_makes_a_line_of_its_own() {
    for colour in [false, true] {
        let text = logged_in(&LogSettings::default(), colour, || {
            let evil = "x\n2026 ERROR forged\u{1b}[2J\u{202e}";
            info!(service = evil, other = %evil, "message {evil}");
            tracing::info_span!("span", of = %evil).in_scope(|| info!("in a span"));
        });
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains("\u{1b}[2J") && !text.contains('\u{202e}'), "{text:?}");
        assert_eq!(text.contains('\u{1b}'), colour, "{text:?}");
    }
}

#[test]
fn json_lines_are_objects() {
    let settings = LogSettings { format: Format::Json, ..LogSettings::default() };
    let text = logged(&settings, || info!(service = "a\nb", port = 80, "served"));
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&line["level"], &line["message"], &line["service"]),
        (&"INFO".into(), &"served".into(), &"a\nb".into())
    );
    assert_eq!((&line["port"], &line["target"]), (&80.into(), &"lbex::logging::tests".into()));
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
}

fn levels(settings: &LogSettings) -> String {
    let text = logged(settings, || {
        error!("E");
        warn!("W");
        info!("I");
        debug!("D");
        trace!("T");
    });
    text.lines().filter_map(|line| line.chars().last()).collect()
}

#[test]
fn verbosity_is_glogs() {
    let verbosity = |verbosity| levels(&LogSettings { verbosity, ..LogSettings::default() });
    for (v, lines) in [(-1, "EWI"), (0, "EWI"), (1, "EWID"), (3, "EWID"), (4, "EWIDT"), (9, "EWIDT")] {
        assert_eq!(verbosity(v), lines, "-v {v}");
    }
}

#[test]
fn vmodule_goes_before_verbosity_for_its_files() {
    let vmodule = |verbosity, text| {
        levels(&LogSettings { verbosity, vmodule: VModule::parse(text).unwrap(), ..LogSettings::default() })
    };
    assert_eq!(vmodule(0, "tests=4"), "EWIDT");
    assert_eq!(vmodule(0, "t*s=1,tests=4"), "EWID");
    assert_eq!(vmodule(0, "lbex::logging::*=4"), "EWIDT");
    assert_eq!(vmodule(0, "logging/tests=4"), "EWIDT");
    assert_eq!(vmodule(4, "tests=0"), "EWI");
    assert_eq!(vmodule(0, "engine=4"), "EWI");
}

fn files_of(folder: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap()))
        .collect()
}

#[test]
fn with_a_folder_lines_go_there_and_the_severe_ones_to_standard_error_too() {
    for (stderr, severe) in
        [(Severity::Everything, "EWI"), (Severity::Warning, "EW"), (Severity::Error, "E"), (Severity::Fatal, "")]
    {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("made");
        let destination = Destination::Folder { folder: inner.clone(), stderr };
        assert_eq!(levels(&LogSettings { destination, ..LogSettings::default() }), severe, "{stderr:?}");
        let [(name, text)] = files_of(&inner).try_into().unwrap();
        assert!(
            name.strip_suffix(".log").is_some_and(|n| n.starts_with("lbex.20") && n.len() == "lbex.2026-01-02".len()),
            "{name}"
        );
        let lines: String = text.lines().filter_map(|line| line.chars().last()).collect();
        assert_eq!(lines, "EWI");
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let destination = Destination::Folder { folder: file.path().to_owned(), stderr: Severity::Error };
    let settings = LogSettings { destination, ..LogSettings::default() };
    let error = subscriber(&settings, std::io::sink, false).err().expect("no folder").to_string();
    assert_eq!(error, format!("--log_dir: folder {} cannot be made", file.path().display()));
}

#[test]
fn one_line_of_source_gets_a_stack_trace() {
    let logs = |settings: &LogSettings| {
        logged(settings, || {
            info!("before");
            info!("here"); // LINE
        })
    };
    let line = include_str!("tests.rs").lines().position(|l| l.trim_end().ends_with("// LINE")).unwrap() + 1;
    let at = Some(Location::parse(&format!("logging/tests.rs:{line}")).unwrap());
    let text = logs(&LogSettings { backtrace_at: at.clone(), ..LogSettings::default() });
    let (first, rest) = text.split_once("here\n").unwrap();
    assert!(first.lines().count() == 2 && rest.contains("one_line_of_source_gets_a_stack_trace"), "{text}");
    let json = logs(&LogSettings { backtrace_at: at, format: Format::Json, ..LogSettings::default() });
    let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["backtrace"].is_null());
    assert!(lines[1]["backtrace"].as_str().unwrap().contains("one_line_of_source_gets_a_stack_trace"));
}

//! NGINX's error log: what it said since a moment, and a bound on its size.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::prefix::Layout;

/// How much of the log is read at once, in bytes: the newest part counts.
const WINDOW: u64 = 256 * 1024;

/// How many lines are reported.
const MOST_LINES: usize = 20;

/// How grave a line is; only what LBEX acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something that needs attention and stops nothing.
    Alert,
    /// Something failed: a configuration is refused, a socket cannot be made.
    Emerg,
}

/// A line of `[alert]` or `[emerg]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its level.
    pub level: Level,
    /// The process that wrote it; none in what NGINX prints before it has a log.
    pub pid: Option<i32>,
    /// The text, without time, level and process.
    pub text: String,
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl LogLine {
    /// Reads one line of the log (`TIME [emerg] PID#TID: TEXT`) or of standard error (`nginx: [emerg] TEXT`).
    pub fn parse(line: &str) -> Option<Self> {
        let (level, rest) = [("[emerg] ", Level::Emerg), ("[alert] ", Level::Alert)]
            .into_iter()
            .find_map(|(tag, level)| Some((level, line.split_once(tag)?.1)))?;
        let with_pid =
            rest.split_once(": ").and_then(|(head, text)| Some((head.split_once('#')?.0.parse().ok()?, text)));
        Some(match with_pid {
            Some((pid, text)) => Self { level, pid: Some(pid), text: text.to_owned() },
            None => Self { level, pid: None, text: rest.to_owned() },
        })
    }

    /// The lines of level alert and above in a text, the last [`MOST_LINES`], each kept once.
    pub(crate) fn all_in(text: &str) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for line in text.lines().filter_map(Self::parse) {
            if !found.contains(&line) {
                found.push(line);
            }
        }
        found.split_off(found.len().saturating_sub(MOST_LINES))
    }
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPosition {
    inode: Option<u64>,
    offset: u64,
    // How often this LBEX had emptied the log.
    emptied: u64,
}

/// The error log of a prefix. Clones share what they know. Its methods block, shortly.
#[derive(Clone, Debug)]
pub struct ErrorLog {
    path: PathBuf,
    emptied: Arc<AtomicU64>,
}

impl ErrorLog {
    /// The log of this prefix; it need not exist yet.
    pub fn new(layout: &Layout) -> Self {
        Self { path: layout.error_log(), emptied: Arc::default() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log ends now.
    pub fn position(&self) -> LogPosition {
        let emptied = self.emptied.load(Ordering::Acquire);
        match std::fs::metadata(&self.path) {
            Ok(metadata) => LogPosition { inode: Some(metadata.ino()), offset: metadata.len(), emptied },
            Err(_) => LogPosition { inode: None, offset: 0, emptied },
        }
    }

    /// The lines of level alert and above that were added since: of the last 256 KiB, the last 20, each text once.
    /// A log that was replaced or emptied since is read from its beginning.
    pub fn problems_since(&self, since: LogPosition) -> io::Result<Vec<LogLine>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let same = since.inode == Some(metadata.ino())
            && since.offset <= metadata.len()
            && since.emptied == self.emptied.load(Ordering::Acquire);
        let start = if same { since.offset } else { 0 };
        file.seek(SeekFrom::Start(start.max(metadata.len().saturating_sub(WINDOW))))?;
        let mut bytes = Vec::new();
        file.take(WINDOW).read_to_end(&mut bytes)?;
        Ok(LogLine::all_in(&String::from_utf8_lossy(&bytes)))
    }

    /// Keeps the log from filling the disk: one larger than `limit` bytes is copied to `error.log.1` (its last
    /// `limit` bytes) and emptied. Answers whether it was.
    ///
    /// The file is emptied in place instead of renamed. NGINX always appends, so every process that has it open,
    /// also a worker that outlived its master or cannot reach the path as another user, goes on in the emptied
    /// file, and no signal is needed. A line written in the instant between the copy and the emptying is lost.
    pub fn limit_size(&self, limit: u64) -> io::Result<bool> {
        let mut file = match OpenOptions::new().read(true).write(true).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        if length <= limit {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(length - limit))?;
        let older = self.path.with_extension("log.1");
        let copied = File::create(&older).and_then(|mut copy| io::copy(&mut file, &mut copy));
        // Emptied even if there was no room for the copy: a full disk is what this prevents.
        self.emptied.fetch_add(1, Ordering::AcqRel);
        file.set_len(0)?;
        copied.map(|_| true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn log() -> (tempfile::TempDir, ErrorLog) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("logs")).expect("created");
        let log = ErrorLog::new(&Layout::new(folder.path()));
        (folder, log)
    }

    fn append(log: &ErrorLog, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(&log.path).expect("opened");
        file.write_all(text.as_bytes()).expect("written");
    }

    fn texts(log: &ErrorLog, since: LogPosition) -> Vec<String> {
        log.problems_since(since).expect("read").into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_are_read_from_the_log_and_from_standard_error() {
        let line = LogLine::parse(
            "2026/11/23 19:05:15 [emerg] 12#13: bind() to 0.0.0.0:80 failed (98: Address already in use)",
        );
        let line = line.expect("a line");
        assert_eq!((line.level, line.pid), (Level::Emerg, Some(12)));
        assert_eq!(line.text, "bind() to 0.0.0.0:80 failed (98: Address already in use)");
        let line = LogLine::parse("nginx: [emerg] unknown directive \"x\" in /p/conf/nginx.conf:3").expect("a line");
        assert_eq!((line.pid, line.text.as_str()), (None, "unknown directive \"x\" in /p/conf/nginx.conf:3"));
        assert_eq!(LogLine::parse("2026/11/23 19:05:15 [notice] 12#13: signal process started"), None);
    }

    #[test]
    fn only_grave_lines_since_the_position_are_told_each_once() {
        let (_folder, log) = log();
        let before = log.position();
        append(&log, "t [emerg] 1#1: first\n");
        let since = log.position();
        append(&log, "t [notice] 1#1: no\nt [emerg] 1#1: second\nt [emerg] 1#1: second\n");
        assert_eq!(texts(&log, since), ["second"]);
        assert_eq!(texts(&log, before), ["first", "second"]);
    }

    #[test]
    fn a_log_that_was_replaced_or_emptied_is_read_from_its_beginning() {
        let (_folder, log) = log();
        append(&log, "t [emerg] 1#1: an old line that is long enough\n");
        let since = log.position();
        fs::rename(&log.path, log.path.with_extension("old")).expect("renamed");
        append(&log, "t [emerg] 1#1: new\n");
        assert_eq!(texts(&log, since), ["new"]);

        let since = log.position();
        assert!(log.limit_size(4).expect("emptied"));
        append(&log, "t [alert] 1#1: after, and longer than the log was before\n");
        assert_eq!(texts(&log, since), ["after, and longer than the log was before"]);
    }

    #[test]
    fn a_large_log_is_emptied_in_place_and_its_end_kept() {
        let (_folder, log) = log();
        append(&log, "0123456789");
        let writer = OpenOptions::new().append(true).open(&log.path).expect("opened");
        assert!(!log.limit_size(10).expect("small enough"));
        assert!(log.limit_size(4).expect("emptied"));
        assert_eq!(fs::read_to_string(log.path.with_extension("log.1")).expect("kept"), "6789");
        (&writer).write_all(b"next").expect("written");
        assert_eq!(fs::read_to_string(&log.path).expect("read"), "next");
    }
}

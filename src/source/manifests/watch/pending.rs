//! What has happened to the files since they were last read, and when it is time to read them.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind};

use super::hops::Places;
use crate::source::manifests::store::Suspects;

/// Files are read after this long without a further change.
const QUIET: Duration = Duration::from_millis(10);
/// In a burst without such a pause, after this long.
const BURST: Duration = Duration::from_millis(200);
/// A file that somebody writes into is waited for until it is closed, or not written to for this long.
const WRITER_IDLE: Duration = Duration::from_secs(1);
/// But never longer than this: other files have changes too.
const WRITER_PATIENCE: Duration = Duration::from_secs(5);
/// Names kept of changed files; beyond that all are read.
const MOST_NAMES: usize = 4096;

/// Changes that are waiting to be read.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// What matters.
    pub(super) places: Places,
    /// When the first of them came; `None`: nothing is waiting.
    first: Option<Instant>,
    last: Option<Instant>,
    /// Files being written to, with when they last were.
    writers: HashMap<PathBuf, Instant>,
    suspects: Suspects,
    /// Watched folders that were moved or removed, so that their watch is gone or leads elsewhere.
    lost: HashSet<PathBuf>,
}

impl Pending {
    /// Takes an event in. Returns whether it matters.
    pub(super) fn take(&mut self, event: &Event, now: Instant) -> bool {
        if event.need_rescan() {
            self.suspects.all = true;
            self.note(now);
            return true;
        }
        if matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)) {
            return false;
        }
        let paths: Vec<_> = event.paths.iter().filter(|path| self.places.matters(path)).cloned().collect();
        for path in &event.paths {
            let moved = matches!(
                event.kind,
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From | RenameMode::Both))
            );
            if moved && self.places.folders.contains_key(path) {
                self.lost.insert(path.clone());
                self.note(now);
            }
        }
        for path in &paths {
            match event.kind {
                EventKind::Modify(ModifyKind::Data(_)) => {
                    self.writers.insert(path.clone(), now);
                }
                EventKind::Access(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
                    self.writers.remove(path);
                }
                _ => {}
            }
            self.suspect(path);
            self.note(now);
        }
        !paths.is_empty() || !self.lost.is_empty()
    }

    /// Has everything looked at.
    pub(super) fn take_all(&mut self, now: Instant) {
        self.suspects.all = true;
        self.note(now);
    }

    fn note(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    fn suspect(&mut self, path: &Path) {
        if let Some(name) = path.file_name() {
            if self.suspects.names.len() < MOST_NAMES {
                self.suspects.names.insert(name.to_os_string());
            } else {
                self.suspects.all = true;
            }
        }
    }

    /// When the files are to be read; `None`: nothing is waiting.
    pub(super) fn due(&self) -> Option<Instant> {
        let (first, last) = (self.first?, self.last?);
        let quiet = (last + QUIET).min(first + BURST);
        let written = self.writers.values().max().map(|at| (*at + WRITER_IDLE).min(first + WRITER_PATIENCE));
        Some(quiet.max(written.unwrap_or(quiet)))
    }

    /// Takes what is waiting: the files to read, and the folders to watch anew.
    pub(super) fn drain(&mut self) -> (Suspects, HashSet<PathBuf>) {
        self.first = None;
        self.last = None;
        self.writers.clear();
        (std::mem::take(&mut self.suspects), std::mem::take(&mut self.lost))
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange};

    use super::*;

    fn pending(folder: &Path) -> Pending {
        Pending { places: Places::of(std::iter::once(folder), std::iter::empty()), ..Pending::default() }
    }

    fn event(kind: EventKind, path: &Path) -> Event {
        Event::new(kind).add_path(path.to_path_buf())
    }

    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

    #[test]
    fn an_open_file_is_waited_for_but_not_for_ever() {
        let temp = tempfile::tempdir().unwrap();
        let folder = std::fs::canonicalize(temp.path()).unwrap();
        let (mut pending, file, start) = (pending(&folder), folder.join("a.yaml"), Instant::now());
        assert_eq!(pending.due(), None);
        assert!(pending.take(&event(WRITTEN, &file), start));
        assert_eq!(pending.due(), Some(start + WRITER_IDLE));
        let later = start + Duration::from_secs(6);
        pending.take(&event(WRITTEN, &file), later);
        assert_eq!(pending.due(), Some(start + WRITER_PATIENCE));
        pending.take(&event(CLOSED, &file), later);
        assert_eq!(pending.due(), Some(start + BURST));
        assert!(pending.drain().0.names.contains("a.yaml".as_ref() as &std::ffi::OsStr));
        assert_eq!(pending.due(), None);
    }

    #[test]
    fn one_change_is_read_quickly_and_a_burst_before_its_end() {
        let temp = tempfile::tempdir().unwrap();
        let folder = std::fs::canonicalize(temp.path()).unwrap();
        let (mut pending, file, start) = (pending(&folder), folder.join("a.yaml"), Instant::now());
        let created = event(EventKind::Create(CreateKind::File), &file);
        pending.take(&created, start);
        assert_eq!(pending.due(), Some(start + QUIET));
        for n in 1..100 {
            pending.take(&created, start + Duration::from_millis(n * 5));
        }
        assert_eq!(pending.due(), Some(start + BURST));
    }

    #[test]
    fn opening_and_strangers_do_not_matter() {
        let temp = tempfile::tempdir().unwrap();
        let folder = std::fs::canonicalize(temp.path()).unwrap();
        let mut pending = pending(&folder);
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
        assert!(!pending.take(&event(opened, &folder.join("a.yaml")), Instant::now()));
        assert!(!pending.take(&event(WRITTEN, Path::new("/elsewhere/a.yaml")), Instant::now()));
        assert_eq!(pending.due(), None);
    }
}

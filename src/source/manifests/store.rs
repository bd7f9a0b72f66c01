//! What the manifest files held when they could last be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::contents::Contents;
use super::files::{self, Found, ReadError, Stamp};
use super::parse::SyntaxError;
use super::problem::{FileProblem, ProblemKind};

/// A file that is missing is looked for once more after this time before it counts as deleted: editors move the old one away
/// before they put the new one there.
const GONE_AFTER: Duration = Duration::from_millis(50);
const HELD: &str = "it counts as unchanged: what it held goes on being served";
const NOTHING_YET: &str = "nothing of it counts";

/// One path of `--manifests`.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Whether it is (or last was) a single file.
    single: bool,
    /// Why it cannot be read now.
    trouble: Option<FileProblem>,
    /// Whether it could be read before.
    known: bool,
}

/// One file.
#[derive(Debug, Default)]
struct FileState {
    stamp: Option<Stamp>,
    /// The state that the last look saw, whether it was read or not.
    seen: Option<Stamp>,
    digest: Option<(usize, u64)>,
    contents: Option<Contents>,
    /// Why what it holds now does not count.
    trouble: Option<FileProblem>,
}

/// Which files are to be read even where nothing seems to have changed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Suspects {
    /// All of them.
    pub(super) all: bool,
    /// Files of these names.
    pub(super) names: BTreeSet<std::ffi::OsString>,
}

impl Suspects {
    fn include(&self, path: &Path) -> bool {
        self.all || path.file_name().is_some_and(|name| self.names.contains(name))
    }
}

/// The files of all paths, by path number and name: the order in which they count.
#[derive(Debug)]
pub(super) struct Store {
    roots: Vec<Root>,
    files: BTreeMap<(usize, PathBuf), FileState>,
    hasher: RandomState,
    /// A changed file younger than this is left for the next time; zero where the end of writing is known otherwise.
    pub(super) patience: Duration,
}

impl Store {
    pub(super) fn new(paths: &[PathBuf]) -> Self {
        let root = |path: &PathBuf| Root { path: path.clone(), single: false, trouble: None, known: false };
        Self {
            roots: paths.iter().map(root).collect(),
            files: BTreeMap::new(),
            hasher: RandomState::new(),
            patience: Duration::ZERO,
        }
    }

    /// Single files that were deleted while they were followed.
    pub(super) fn deleted(&self) -> Vec<&Path> {
        let gone =
            |(number, root): &(usize, &Root)| root.single && root.known && self.known_of(*number).next().is_none();
        self.roots.iter().enumerate().filter(gone).map(|(_, root)| root.path.as_path()).collect()
    }

    /// The paths given.
    pub(super) fn roots(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().map(|root| root.path.as_path())
    }

    /// The files known, in the order in which they count.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(|(_, path)| path.as_path())
    }

    /// Their contents.
    pub(super) fn contents(&self) -> impl Iterator<Item = (&Path, &Contents)> {
        self.files.iter().filter_map(|((_, path), file)| Some((path.as_path(), file.contents.as_ref()?)))
    }

    /// What cannot be read or parsed now, in order.
    pub(super) fn troubles(&self) -> impl Iterator<Item = &FileProblem> {
        self.roots
            .iter()
            .filter_map(|r| r.trouble.as_ref())
            .chain(self.files.values().filter_map(|f| f.trouble.as_ref()))
    }

    /// Whether anything could be read at all.
    pub(super) fn anything_read(&self) -> bool {
        let all_failed = !self.files.is_empty() && self.files.values().all(|file| file.contents.is_none());
        self.roots.iter().any(|root| root.known) && !all_failed
    }

    /// Reads what has changed. Returns whether anything did.
    pub(super) fn refresh(&mut self, suspects: &Suspects) -> bool {
        let mut changed = false;
        for number in 0..self.roots.len() {
            changed |= self.refresh_root(number, suspects);
        }
        changed
    }

    fn refresh_root(&mut self, number: usize, suspects: &Suspects) -> bool {
        let listed = self.list(number).and_then(|listed| {
            if self.known_of(number).all(|path| listed.contains(path)) {
                return Ok(listed);
            }
            std::thread::sleep(GONE_AFTER);
            self.list(number)
        });
        let root = &mut self.roots[number];
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                let now = if root.known { HELD } else { NOTHING_YET };
                let trouble = whole(&root.path, ProblemKind::Unreadable, format!("it cannot be read: {error}; {now}"));
                return root.trouble.replace(trouble.clone()) != Some(trouble);
            }
        };
        let mut changed = root.trouble.take().is_some() | !std::mem::replace(&mut root.known, true);
        let gone: Vec<_> = self.known_of(number).filter(|path| !listed.contains(*path)).cloned().collect();
        for path in gone {
            changed |= self.files.remove(&(number, path)).is_some();
        }
        for path in listed {
            let file = self.files.entry((number, path.clone())).or_default();
            changed |= file.refresh(&path, suspects.include(&path), self.patience, &self.hasher);
        }
        changed
    }

    fn known_of(&self, number: usize) -> impl Iterator<Item = &PathBuf> {
        self.files.keys().filter(move |(of, _)| *of == number).map(|(_, path)| path)
    }

    /// The files of a path now.
    fn list(&mut self, number: usize) -> std::io::Result<BTreeSet<PathBuf>> {
        let root = &mut self.roots[number];
        Ok(match files::find(&root.path, root.single)? {
            Found::Folder(files) => {
                root.single = false;
                files.into_iter().collect()
            }
            Found::File => {
                root.single = true;
                BTreeSet::from([root.path.clone()])
            }
            Found::Deleted => BTreeSet::new(),
        })
    }
}

impl FileState {
    /// Reads the file if it may have changed. Returns whether what is known of it did.
    fn refresh(&mut self, path: &Path, suspect: bool, patience: Duration, hasher: &RandomState) -> bool {
        if let Ok(metadata) = fs::metadata(path) {
            let same = self.stamp.is_some() && self.stamp == Some(Stamp::of(&metadata));
            let unchanged = self.seen.replace(Stamp::of(&metadata)) == Some(Stamp::of(&metadata));
            // Where the clocks do not tell, it has to stay as it is from one look to the next.
            let waited = files::age(&metadata).map_or(unchanged || patience.is_zero(), |age| age >= patience);
            let being_written = self.digest.is_some() && !waited;
            if (same && !suspect) || being_written {
                return false;
            }
        }
        self.stamp = None;
        let read = match files::read(path) {
            Ok(read) => read,
            Err(error) => return self.hold(path, &error),
        };
        self.stamp = read.stamp;
        let digest = Some((read.bytes.len(), hasher.hash_one(&read.bytes)));
        if self.digest == digest && self.trouble.as_ref().is_none_or(|t| t.kind != ProblemKind::Unreadable) {
            return false;
        }
        self.digest = digest;
        self.take(path, parse(path, &read.bytes));
        true
    }

    fn take(&mut self, path: &Path, parsed: Result<Contents, SyntaxError>) {
        match parsed {
            Ok(contents) => {
                self.contents = Some(contents);
                self.trouble = None;
            }
            Err(error) => {
                let text = format!("it does not parse: {}; {}", error.text, self.meanwhile());
                let at = error.at;
                self.trouble =
                    Some(FileProblem { line: at.line, column: at.column, ..whole(path, ProblemKind::NotParsed, text) });
            }
        }
    }

    fn hold(&mut self, path: &Path, error: &ReadError) -> bool {
        let trouble = whole(path, ProblemKind::Unreadable, format!("{error}; {}", self.meanwhile()));
        self.trouble.replace(trouble.clone()) != Some(trouble)
    }

    fn meanwhile(&self) -> &'static str {
        if self.contents.is_some() { HELD } else { NOTHING_YET }
    }
}

/// A problem of a file or folder as a whole.
pub(super) fn whole(path: &Path, kind: ProblemKind, text: String) -> FileProblem {
    FileProblem { path: path.to_path_buf(), line: 0, column: 0, kind, object: None, text }
}

/// Parses a file. A panic, which would be a defect of the parser, concerns that file alone.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Contents, SyntaxError> {
    let parsed = catch_unwind(AssertUnwindSafe(|| Contents::parse(bytes, files::is_json_name(path))));
    parsed.unwrap_or_else(|_| {
        let text = "LBEX's reader of manifests failed on it, which is a defect of LBEX";
        Err(SyntaxError { at: super::parse::Position::default(), text: text.to_owned() })
    })
}

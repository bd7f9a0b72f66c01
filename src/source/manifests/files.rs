//! Finds and reads manifest files.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The largest file that is read, in bytes.
pub(super) const MOST_BYTES: u64 = 100_000_000;
/// A file changed this recently may change again without its times showing it.
const CLOCK_GRAIN: Duration = Duration::from_millis(50);
/// How often a file that changes while it is read is read again.
const READS: usize = 3;

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// How long ago a file was written to; `None`: later than now, since the clock was set back, or is another host's.
pub(super) fn age(metadata: &Metadata) -> Option<Duration> {
    SystemTime::now().duration_since(metadata.modified().ok()?).ok()
}

/// What a path of `--manifests` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A folder, with its manifest files by name.
    Folder(Vec<PathBuf>),
    /// A single file.
    File,
    /// A single file that was deleted: its folder is still there.
    Deleted,
}

/// Looks at a path. `was_file`: it was a single file before.
pub(super) fn find(path: &Path, was_file: bool) -> io::Result<Found> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if was_file && error.kind() == io::ErrorKind::NotFound && has_folder(path) => {
            return Ok(Found::Deleted);
        }
        Err(error) => return Err(error),
    };
    if !metadata.is_dir() {
        return Ok(Found::File);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let is_folder = || fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir());
        if is_manifest_name(&entry.path()) && !is_folder() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(Found::Folder(files))
}

fn has_folder(path: &Path) -> bool {
    // A link whose target is gone is not a deletion by anybody who meant this path.
    let gone = fs::symlink_metadata(path).is_err();
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    gone && fs::metadata(folder).is_ok_and(|metadata| metadata.is_dir())
}

/// Whether a file of a folder is read: `.yaml`, `.yml` or `.json`, and no dotfile.
fn is_manifest_name(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let known = path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|e| extension == *e));
    known && !hidden
}

/// Whether a file's name says that it is JSON.
pub(super) fn is_json_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is neither a file nor a folder")]
    NoFile,
    #[error("it has more than {MOST_BYTES} bytes, which is the most that is read of one file")]
    TooLarge,
}

/// A file's bytes.
pub(super) struct Bytes {
    pub(super) bytes: Vec<u8>,
    /// Which state of the file they are; `None`: one that its times cannot tell from the next.
    pub(super) stamp: Option<Stamp>,
}

/// Reads a file whole; again, where it changes meanwhile.
pub(super) fn read(path: &Path) -> Result<Bytes, ReadError> {
    let mut attempt = 1;
    loop {
        // Before it is opened: opening a pipe would wait for its writer.
        if !fs::metadata(path)?.is_file() {
            return Err(ReadError::NoFile);
        }
        let mut file = File::open(path)?;
        let before = file.metadata()?;
        let bytes = read_all(&mut file, before.size())?;
        let after = file.metadata()?;
        if Stamp::of(&before) == Stamp::of(&after) || attempt == READS {
            let settled = Stamp::of(&before) == Stamp::of(&after) && age(&after).is_some_and(|age| age > CLOCK_GRAIN);
            return Ok(Bytes { bytes, stamp: settled.then(|| Stamp::of(&after)) });
        }
        attempt += 1;
        std::thread::sleep(CLOCK_GRAIN);
    }
}

/// Reads what may be a pipe, for commands that look at it once.
pub(super) fn read_once(path: &Path) -> Result<Vec<u8>, ReadError> {
    read_all(&mut File::open(path)?, 0)
}

fn read_all(file: &mut File, expected: u64) -> Result<Vec<u8>, ReadError> {
    if expected > MOST_BYTES {
        return Err(ReadError::TooLarge);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0) + 1);
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES { Err(ReadError::TooLarge) } else { Ok(bytes) }
}

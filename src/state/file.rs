//! The file: one JSON object with the format's version, a checksum, and the state. Replaced as a whole, never changed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{Before, SavedState};

/// The format that this LBEX writes, and the newest that it reads.
const FORMAT: u32 = 1;
/// A file that is larger than this many bytes is none of LBEX's: 10,000 Services with 10 endpoints take 5 MB.
const LARGEST: u64 = 1 << 30;
/// How many files that could not be used are kept.
const KEPT: u32 = 3;

/// Where the last good state is kept: `state/last-good.json` below the prefix. All methods block.
#[derive(Debug, Clone)]
pub struct StateFile {
    path: PathBuf,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read at all; it stays where it is.
    #[error("failed to read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A newer LBEX wrote it.
    #[error("it has format {0}, this LBEX reads up to {FORMAT}")]
    Newer(u32),
    /// It is not, or no longer, what LBEX wrote.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    sha256: String,
    #[serde(borrow)]
    state: &'a RawValue,
}

impl StateFile {
    /// That of a prefix.
    pub fn below(prefix: &Path) -> Self {
        Self { path: prefix.join("state/last-good.json") }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and checks it; `None`: there is none.
    pub fn read(&self) -> Result<Option<SavedState>, ReadError> {
        let failed = |source| ReadError::Io { path: self.path.clone(), source };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > LARGEST {
            return Err(ReadError::Damaged(format!("it has more than {LARGEST} bytes")));
        }
        decode(&bytes).map(Some)
    }

    /// Puts a file that cannot be used out of the way and says where; the oldest of those that are there already goes.
    pub fn set_aside(&self) -> io::Result<PathBuf> {
        let aside = |n: u32| self.path.with_file_name(format!("last-good.unusable-{n}.json"));
        for n in (1..KEPT).rev() {
            match fs::rename(aside(n), aside(n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, aside(1))?;
        Ok(aside(1))
    }

    /// Replaces it: written beside it, flushed, renamed, and the folder flushed. A folder that is missing is made.
    pub fn save(&self, state: &SavedState) -> io::Result<Before> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let temporary = self.path.with_extension("new");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        encode(state, file)?.sync_all()?;
        let before = if matches!(fs::exists(&self.path), Ok(false)) { Before::Nothing } else { Before::Something };
        fs::rename(&temporary, &self.path)?;
        File::open(folder)?.sync_all()?;
        Ok(before)
    }
}

/// Writes piece by piece: as one text the state would be the largest thing in LBEX's memory.
fn encode<W: Write>(state: &SavedState, mut out: W) -> io::Result<W> {
    write!(out, "{{\"format\":{FORMAT},\"state\":")?;
    let mut state_out = BufWriter::with_capacity(64 * 1024, Summing { out, sum: Sha256::new() });
    serde_json::to_writer(&mut state_out, state)?;
    let Summing { mut out, sum } = state_out.into_inner().map_err(io::IntoInnerError::into_error)?;
    writeln!(out, ",\"sha256\":\"{:x}\"}}", sum.finalize())?;
    Ok(out)
}

/// Sums up what is written.
struct Summing<W> {
    out: W,
    sum: Sha256,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.sum.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn decode(bytes: &[u8]) -> Result<SavedState, ReadError> {
    let damaged = |error: serde_json::Error| ReadError::Damaged(error.to_string().escape_debug().to_string());
    let Format { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format > FORMAT {
        return Err(ReadError::Newer(format));
    }
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(damaged)?;
    let text = envelope.state.get();
    if format!("{:x}", Sha256::digest(text)) != envelope.sha256 {
        return Err(ReadError::Damaged("its checksum is not that of its contents".to_owned()));
    }
    let state: SavedState = serde_json::from_str(text).map_err(damaged)?;
    state.check().map_err(ReadError::Damaged)?;
    Ok(state)
}

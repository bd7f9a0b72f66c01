//! Puts the embedded NGINX into the prefix, and keeps it sound.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::find::{find_system, inspect};
use super::{BinaryError, Candidate, NginxBinary, Origin};
use crate::embedded::Embedded;
use crate::prefix::Layout;
use crate::process::proc;

impl Candidate {
    /// Makes it ready to run. An embedded NGINX is written to the prefix's `bin/` (again, if what is there is
    /// damaged), tried with `nginx -V`, and older ones that nothing runs are removed; with `--nginx auto`, one
    /// that does not run on this host is replaced by the system's.
    pub async fn install(self, layout: &Layout) -> Result<NginxBinary, BinaryError> {
        let (embedded, or_system) = match self {
            Self::System(binary) => return Ok(binary),
            Self::Embedded { embedded, or_system } => (embedded, or_system),
        };
        let folder = layout.bin_dir();
        let path = proc::blocking(move || write_embedded(&embedded, &folder)).await?;
        match inspect(&path, Origin::Embedded).await {
            Err(error) if or_system && error.does_not_run_here() => {
                tracing::warn!(%error, "the embedded NGINX does not run on this host: using the system's");
                find_system().await
            }
            other => other,
        }
    }
}

/// Writes the file unless the right bytes are there already; answers its path.
fn write_embedded(embedded: &Embedded, folder: &Path) -> Result<PathBuf, BinaryError> {
    let path = folder.join(embedded.file_name());
    match is_sound(&path, embedded) {
        Ok(true) => {}
        Ok(false) => {
            if path.exists() {
                tracing::warn!(path = %path.display(), "the embedded NGINX in the prefix is damaged: written again");
            }
            write_atomically(&path, embedded.bytes)?;
        }
        Err(source) => {
            return Err(BinaryError::Install { verb: "read", path, source });
        }
    }
    remove_others(folder, &path);
    Ok(path)
}

fn is_sound(path: &Path, embedded: &Embedded) -> io::Result<bool> {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !metadata.is_file() || metadata.permissions().mode() & 0o7777 != 0o755 {
        return Ok(false);
    }
    Ok(hex(&Sha256::digest(fs::read(path)?)) == embedded.sha256)
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), BinaryError> {
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o700).open(&temporary)?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(0o755))?;
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(|source| {
        // Nothing may be left of a write that failed; that it cannot be removed either is no news.
        let _ = fs::remove_file(&temporary);
        BinaryError::Install { verb: "write", path: path.to_owned(), source }
    })
}

/// Removes other embedded NGINXes that no process runs. A failure costs disk space and is only logged.
fn remove_others(folder: &Path, keep: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let running = proc::running_executables();
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("nginx-"));
        let superfluous = ours && path != keep && !running.contains(&path);
        if superfluous && let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "failed to remove an older NGINX");
        }
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Embedded {
        let hash = hex(&Sha256::digest(b"nginx"));
        Embedded { bytes: b"nginx", version: "1.28.3", report: "", sha256: Box::leak(hash.into_boxed_str()) }
    }

    #[test]
    fn is_written_once_and_again_when_damaged() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let embedded = example();
        let path = write_embedded(&embedded, folder.path()).expect("written");
        assert_eq!(path.file_name().and_then(|n| n.to_str()), Some(embedded.file_name().as_str()));
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o7777, 0o755);

        let first = path.metadata().expect("there").modified().expect("a time");
        write_embedded(&embedded, folder.path()).expect("kept");
        assert_eq!(path.metadata().expect("there").modified().expect("a time"), first);

        fs::write(&path, b"damaged").expect("damaged");
        write_embedded(&embedded, folder.path()).expect("written again");
        assert_eq!(fs::read(&path).expect("read"), b"nginx");
    }

    #[test]
    fn others_that_nothing_runs_are_removed_and_foreign_files_stay() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (old, foreign) = (folder.path().join("nginx-1.20.0-abc"), folder.path().join("nginx"));
        fs::write(&old, b"old").expect("written");
        fs::write(&foreign, b"launcher").expect("written");
        write_embedded(&example(), folder.path()).expect("written");
        assert!(!old.exists() && foreign.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let error = write_embedded(&example(), Path::new("/proc/nowhere")).expect_err("no such folder").to_string();
        assert!(error.contains("/proc/nowhere/nginx-1.28.3-"), "{error}");
    }
}

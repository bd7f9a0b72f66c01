//! Which files may be loaded: what a library's code does it does as LBEX, which is often root.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, geteuid};

/// Why a file is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum Distrust {
    /// It cannot be looked at.
    #[error("failed to read {}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a folder, or a device.
    #[error("{} is not a file", path.display())]
    NoFile {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else's.
    #[error("{} belongs to user {owner}: a plugin and the folders above it have to belong to root or to the user that runs LBEX ({ours})", path.display())]
    Owner {
        /// The path.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who runs LBEX.
        ours: u32,
    },
    /// Others can write to the file.
    #[error("{} can be written to by others than its owner (mode {mode:04o}): `chmod go-w` it", path.display())]
    Writable {
        /// The path.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Everybody can exchange what is in a folder.
    #[error("{} can be written to by everybody (mode {mode:04o}), who could exchange the plugin below it", path.display())]
    Folder {
        /// The path.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// The path of a library that may be loaded: absolute, without symbolic links. The file belongs to root or to the user that runs LBEX,
/// and nobody else can write to it; nobody else can exchange it either, as far as the folders above it say.
pub(super) fn check(path: &Path) -> Result<PathBuf, Distrust> {
    let path = fs::canonicalize(path).map_err(|source| Distrust::Io { path: path.to_owned(), source })?;
    let file = look(&path)?;
    if !file.is_file() {
        return Err(Distrust::NoFile { path });
    }
    owned(&path, &file)?;
    let mode = file.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(Distrust::Writable { path, mode });
    }
    for folder in path.ancestors().skip(1) {
        let metadata = look(folder)?;
        owned(folder, &metadata)?;
        let mode = metadata.mode() & 0o7777;
        // In a sticky one (`/tmp`) only its owner can exchange a file.
        if mode & 0o002 != 0 && mode & 0o1000 == 0 {
            return Err(Distrust::Folder { path: folder.to_owned(), mode });
        }
    }
    Ok(path)
}

fn look(path: &Path) -> Result<Metadata, Distrust> {
    fs::metadata(path).map_err(|source| Distrust::Io { path: path.to_owned(), source })
}

fn owned(path: &Path, metadata: &Metadata) -> Result<(), Distrust> {
    let (owner, ours) = (Uid::from_raw(metadata.uid()), geteuid());
    if owner.is_root() || owner == ours {
        return Ok(());
    }
    Err(Distrust::Owner { path: path.to_owned(), owner: owner.as_raw(), ours: ours.as_raw() })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_that_others_control_is_not_loaded() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("plugins");
        fs::create_dir(&folder).unwrap();
        let file = folder.join("libx.so");
        let why = || check(&file).unwrap_err().to_string();
        assert!(why().starts_with("failed to read "), "{}", why());
        fs::write(&file, "").unwrap();
        mode(&file, 0o755);
        assert_eq!(check(&file).unwrap(), fs::canonicalize(&file).unwrap());
        for bad in [0o775, 0o757] {
            mode(&file, bad);
            assert!(why().contains("can be written to by others") && why().contains("chmod go-w"), "{}", why());
        }
        mode(&file, 0o644);
        mode(&folder, 0o777);
        assert!(why().contains("can be written to by everybody (mode 0777)"), "{}", why());
        mode(&folder, 0o1777);
        check(&file).unwrap();
        assert!(check(&folder).unwrap_err().to_string().ends_with("is not a file"));
        // What counts is the file that a link leads to, and the folders above that.
        let link = outer.path().join("link.so");
        symlink(&file, &link).unwrap();
        assert_eq!(check(&link).unwrap(), fs::canonicalize(&file).unwrap());
        mode(&folder, 0o777);
        assert!(check(&link).is_err());
        mode(&folder, 0o755);
        if geteuid().is_root() {
            chown(&file, Some(12345), None).unwrap();
            assert!(why().contains("belongs to user 12345"), "{}", why());
        }
    }
}

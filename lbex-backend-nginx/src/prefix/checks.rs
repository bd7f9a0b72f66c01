//! Creates the folders of a prefix, and refuses those that others control.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, geteuid};

use super::{LONGEST_SOCKET_PATH, Layout, PrefixError};

/// Refuses a path that NGINX could not use, before anything is created there.
pub(super) fn path_is_usable(path: &Path) -> Result<(), PrefixError> {
    let root = std::path::absolute(path).map_err(|source| PrefixError::Io {
        verb: "resolve",
        path: path.to_owned(),
        source,
    })?;
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._-+@=,~".contains(b);
    if !root.as_os_str().as_bytes().iter().all(plain) {
        return Err(PrefixError::BadCharacters { path: root });
    }
    let socket = Layout::new(&root).generation_socket();
    let length = socket.as_os_str().len();
    if length > LONGEST_SOCKET_PATH {
        return Err(PrefixError::TooLong { root, socket, length });
    }
    Ok(())
}

/// Creates the prefix where it is missing; answers its path, absolute and without symbolic links.
pub(super) fn create_root(path: &Path) -> Result<PathBuf, PrefixError> {
    let error = |verb| move |source| PrefixError::Io { verb, path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            return Err(PrefixError::NotADirectory { path: path.to_owned() });
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(error("create"))?;
        }
        Err(e) => return Err(error("read")(e)),
    }
    let root = fs::canonicalize(path).map_err(error("resolve"))?;
    // A link may lead to a path that is longer, or has other characters.
    path_is_usable(&root)?;
    Ok(root)
}

pub(super) fn create_folder(path: &Path) -> Result<(), PrefixError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        // A link to a folder would lead out of the prefix: it counts as not being one.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => Err(PrefixError::NotADirectory { path: path.to_owned() }),
            Err(source) => Err(PrefixError::Io { verb: "read", path: path.to_owned(), source }),
        },
        Err(source) => Err(PrefixError::Io { verb: "create", path: path.to_owned(), source }),
    }
}

/// Gives a folder of our own exactly `mode`; accepts one of root's that only its group can write to besides
/// (a volume that a container was given); refuses everything else.
pub(super) fn make_safe(path: &Path, mode: u32) -> Result<(), PrefixError> {
    let metadata =
        fs::metadata(path).map_err(|source| PrefixError::Io { verb: "read", path: path.to_owned(), source })?;
    let (owner, ours) = (Uid::from_raw(metadata.uid()), geteuid());
    let now = metadata.permissions().mode() & 0o7777;
    if owner == ours {
        if now & 0o777 != mode {
            fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|source| PrefixError::Io {
                verb: "set the permissions of",
                path: path.to_owned(),
                source,
            })?;
        }
        return Ok(());
    }
    if !owner.is_root() {
        return Err(PrefixError::ForeignOwner { path: path.to_owned(), owner: owner.as_raw(), ours: ours.as_raw() });
    }
    if now & 0o002 != 0 {
        return Err(PrefixError::WritableByAll { path: path.to_owned(), mode: now });
    }
    Ok(())
}

/// Folders above the prefix through which another user could exchange it. Not refused: people keep such
/// folders, and in a container nobody else is there.
pub(super) fn dangers_above(root: &Path) -> Vec<String> {
    let ours = geteuid();
    let judge = |folder: &Path| {
        let metadata = fs::metadata(folder).ok()?;
        let owner = Uid::from_raw(metadata.uid());
        let mode = metadata.permissions().mode() & 0o7777;
        if !owner.is_root() && owner != ours {
            return Some(format!(
                "{} belongs to user {owner}, who could exchange the prefix {} below it",
                folder.display(),
                root.display()
            ));
        }
        (mode & 0o002 != 0 && mode & 0o1000 == 0).then(|| {
            format!(
                "{} can be written to by every user (mode {mode:04o}), who could exchange the prefix {} below it",
                folder.display(),
                root.display()
            )
        })
    };
    root.ancestors().skip(1).filter_map(judge).collect()
}

//! Why a directory cannot be LBEX's prefix.

use std::io;
use std::path::PathBuf;

use super::{Holder, LONGEST_SOCKET_PATH};

/// The prefix cannot be used. Exit code 2: something on the host, or `--nginx-prefix`, has to change.
#[derive(Debug, thiserror::Error)]
pub enum PrefixError {
    /// A file or folder cannot be created, read or changed.
    #[error("failed to {verb} {}: {source}; the prefix (--nginx-prefix) has to be a directory that LBEX can write to", path.display())]
    Io {
        /// What was being done.
        verb: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else is where a folder should be.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// That path.
        path: PathBuf,
    },
    /// UNIX sockets below it would have paths that are too long.
    #[error(
        "the prefix {} is too long: UNIX sockets have paths of at most {LONGEST_SOCKET_PATH} bytes, and {} would have {length}; \
         choose a shorter --nginx-prefix", root.display(), socket.display()
    )]
    TooLong {
        /// The prefix.
        root: PathBuf,
        /// The socket inside it.
        socket: PathBuf,
        /// The length of the socket's path, in bytes.
        length: usize,
    },
    /// The path has characters that a configuration file of NGINX cannot have.
    #[error("the prefix {} contains a character that cannot stand in NGINX's configuration (allowed: letters, digits, and /._-+@=,~)", path.display())]
    BadCharacters {
        /// The prefix.
        path: PathBuf,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to user {owner}, LBEX runs as user {ours}: its owner could replace what NGINX runs; give it to user {ours}, or choose another --nginx-prefix", path.display())]
    ForeignOwner {
        /// The prefix or a folder in it.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
        /// LBEX's user id.
        ours: u32,
    },
    /// Everybody can write to it, and LBEX may not change that.
    #[error("{} can be written to by every user (mode {mode:04o}) and is not LBEX's own: choose a directory inside it as --nginx-prefix", path.display())]
    WritableByAll {
        /// The prefix or a folder in it.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Another LBEX has it.
    #[error("the prefix {} is in use by {holder}: stop it, or give this LBEX another --nginx-prefix", path.parent().unwrap_or(path).display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Who has it.
        holder: Holder,
    },
}

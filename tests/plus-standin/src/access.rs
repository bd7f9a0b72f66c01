//! Who may ask, and where.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a client has to say to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// `Authorization: Bearer TOKEN`.
    Bearer(String),
    /// `Authorization: Basic ...` with this name and password.
    Basic(String, String),
}

impl Credentials {
    /// Whether this header is right.
    pub(crate) fn are(&self, authorization: Option<&str>) -> bool {
        let expected = match self {
            Self::Bearer(token) => format!("Bearer {token}"),
            Self::Basic(name, password) => format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))),
        };
        authorization == Some(&expected)
    }
}

/// Where a stand-in listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A port of 127.0.0.1; 0 is any, and stays that one.
    Tcp(u16),
    /// A UNIX socket.
    Unix(PathBuf),
}

impl Place {
    /// Removes the path of a UNIX socket, if it is there.
    pub(crate) fn remove(&self) {
        if let Self::Unix(path) = self
            && let Err(error) = std::fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            eprintln!("failed to remove {}: {error}", path.display());
        }
    }

    pub(crate) fn loopback(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }
}

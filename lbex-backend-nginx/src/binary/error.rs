//! Why there is no NGINX to run.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{NginxVersion, OLDEST_VERSION};

/// What to install where nothing is.
pub(super) const INSTALL: &str = "install it (Debian, Ubuntu: `apt-get install nginx libnginx-mod-stream`; Fedora, RHEL: \
     `dnf install nginx nginx-mod-stream`; Alpine: `apk add nginx nginx-mod-stream`) or name another with --nginx";

/// There is no NGINX that LBEX could run. Each is an error of the host or of `--nginx`: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// `--nginx embedded` in a build without it.
    #[error(
        "this build of LBEX carries no NGINX (it was built without the feature embedded-nginx): use --nginx system, or --nginx PATH"
    )]
    NotEmbedded,
    /// No `nginx` anywhere.
    #[error("no executable `nginx` in {}: {INSTALL}", folders(looked_in))]
    NotFound {
        /// The folders of `PATH`, and those where packages put NGINX.
        looked_in: Vec<PathBuf>,
    },
    /// The path of `--nginx PATH` is no program.
    #[error("--nginx {}: {reason}", path.display())]
    NotAProgram {
        /// As given.
        path: PathBuf,
        /// For instance `it is not executable`.
        reason: String,
    },
    /// The program cannot be started.
    #[error("failed to run {}: {source}{}", path.display(), run_hint(source))]
    Run {
        /// The executable.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `nginx -V` did not end.
    #[error("`{} -V` gave no answer within {limit:?}", path.display())]
    TimedOut {
        /// The executable.
        path: PathBuf,
        /// How long LBEX waited.
        limit: Duration,
    },
    /// `nginx -V` printed something else.
    #[error("`{} -V` does not answer as NGINX does: {output:?}", path.display())]
    NotNginx {
        /// The executable.
        path: PathBuf,
        /// The first lines of what it printed.
        output: String,
    },
    /// Older than [`OLDEST_VERSION`].
    #[error("{} is NGINX {version}; LBEX needs {OLDEST_VERSION} or later", path.display())]
    TooOld {
        /// The executable.
        path: PathBuf,
        /// Its version.
        version: NginxVersion,
    },
    /// Built without stream.
    #[error(
        "{} (NGINX {version}) was built without the stream module, which carries TCP and UDP: install a build that has it \
         (nginx.org's packages do; Debian, Ubuntu: `apt-get install nginx libnginx-mod-stream`), or use --nginx embedded",
        path.display()
    )]
    NoStream {
        /// The executable.
        path: PathBuf,
        /// Its version.
        version: NginxVersion,
    },
    /// Stream is a dynamic module that is not installed.
    #[error(
        "{} has the stream module as a separate file, and {} is missing: install it \
         (Debian, Ubuntu: `apt-get install libnginx-mod-stream`; Fedora, RHEL, Alpine: the package nginx-mod-stream), or use --nginx embedded",
        path.display(), module.display()
    )]
    ModuleMissing {
        /// The executable.
        path: PathBuf,
        /// Where the module should be.
        module: PathBuf,
    },
    /// The embedded NGINX could not be written into the prefix.
    #[error("failed to {verb} {}: {source}", path.display())]
    Install {
        /// What was being done.
        verb: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl BinaryError {
    /// Whether the program is there and does not run on this host (another C library, a `noexec` mount).
    pub(super) fn does_not_run_here(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::NotNginx { .. } | Self::TimedOut { .. })
    }
}

fn folders(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn run_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (is the file system mounted noexec?)",
        io::ErrorKind::NotFound => " (the file is there, the loader or C library that it wants is not)",
        _ => "",
    }
}

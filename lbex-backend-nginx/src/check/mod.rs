//! Checks a configuration before it is put in front of a running NGINX (design, invariant 6).

mod isolate;
mod words;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::binary::NginxBinary;
use crate::prefix::Layout;

pub use isolate::{Isolated, Judge, isolate};
pub use words::{Complaint, complaint, complaints};

/// How much of what `nginx -t` prints is read, in bytes. It stops at the first error, so this is plenty.
const MOST_OUTPUT: u64 = 64 * 1024;

/// The check itself failed, so it says nothing about the configuration.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// NGINX cannot be run, or a folder for it cannot be made.
    #[error("failed to {verb} {}: {source}", path.display())]
    Io {
        /// What was being done.
        verb: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It took too long.
    #[error("`nginx -t` did not end within {0:?}")]
    TimedOut(Duration),
}

/// `nginx -t` with a prefix of its own, `check/`, so that it touches nothing of the running NGINX's.
///
/// A configuration is checked as it is, to the byte. Its relative paths (pid file, error log) lead into `check/`; its UNIX
/// socket is absolute: where NGINX runs it is in use, which `-t` takes for fine, and otherwise `-t` makes and removes it. A socket
/// that a killed `-t` leaves is removed at the next start, as one that a killed NGINX leaves.
#[derive(Debug, Clone)]
pub struct Checker {
    binary: NginxBinary,
    folder: PathBuf,
}

impl Checker {
    /// A checker for configurations in this prefix; makes `check/`.
    pub fn new(binary: NginxBinary, layout: &Layout) -> Result<Self, CheckError> {
        let checker = Self { binary, folder: layout.root().join("check") };
        checker.make_folders()?;
        Ok(checker)
    }

    /// Makes `check/`, where it is missing.
    pub fn make_folders(&self) -> Result<(), CheckError> {
        for path in [self.folder.join("run"), self.folder.join("logs")] {
            std::fs::create_dir_all(&path).map_err(|source| CheckError::Io { verb: "create", path, source })?;
        }
        Ok(())
    }

    /// Checks the main file at `path`. `Ok(Err(complaint))`: NGINX refuses it.
    pub async fn check(&self, path: &Path, limit: Duration) -> Result<Result<(), Complaint>, CheckError> {
        let mut command = Command::new(&self.binary.path);
        command.arg("-t").arg("-q").arg("-p").arg(&self.folder).arg("-c").arg(path);
        if self.binary.capabilities.error_log_flag {
            command.args(["-e", "logs/error.log"]);
        }
        command.env_clear().current_dir(&self.folder).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let failed = |source| CheckError::Io { verb: "run", path: self.binary.path.clone(), source };
        let mut child = command.spawn().map_err(failed)?;
        let output = child.stderr.take();
        let finish = async {
            let mut text = Vec::new();
            if let Some(output) = output {
                output.take(MOST_OUTPUT).read_to_end(&mut text).await?;
            }
            child.wait().await.map(|status| (status, String::from_utf8_lossy(&text).into_owned()))
        };
        let (status, text) =
            tokio::time::timeout(limit, finish).await.map_err(|_| CheckError::TimedOut(limit))?.map_err(failed)?;
        self.forget_log();
        Ok(if status.success() { Ok(()) } else { Err(complaint(&text, &status.to_string())) })
    }

    /// What was logged was printed too.
    fn forget_log(&self) {
        let log = self.folder.join("logs/error.log");
        if let Err(error) = std::fs::remove_file(&log)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %log.display(), %error, "failed to remove the log of a check");
        }
    }
}

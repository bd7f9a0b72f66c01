//! Notices files that somebody removed, also while there is nothing to apply: NGINX serves on without them, and could not be started
//! again.

use lbex_core::backend::BackendError;

use super::NginxBackend;
use super::refuse::retry;
use super::state::State;
use crate::files::FileError;
use crate::process::proc;

/// What is said of it.
pub(super) const DAMAGED: &str = "files of Services in the prefix were removed or damaged; they are written again";

impl NginxBackend {
    /// Whether somebody added or removed files since the last `apply`. Not known while there is one.
    pub(super) async fn is_touched(&self) -> bool {
        let Some(left) = self.seen().left else { return false };
        let files = self.files.clone();
        let now = proc::blocking(move || files.stamp()).await;
        // An `apply` that began meanwhile writes files itself.
        now != left && self.seen().left == Some(left)
    }

    /// Looks for Services' files that are not as they were written, where somebody touched any. All are written again then.
    pub(super) async fn mend_files(&self, state: &mut State) {
        let touched = self.is_touched().await;
        self.seen().left = None;
        if !touched {
            return;
        }
        let files = self.files.clone();
        let wanted: Vec<_> = state.wanted.values().map(|want| want.part.clone()).collect();
        if proc::blocking(move || wanted.iter().any(|part| files.is_damaged(&part.file))).await {
            tracing::warn!("{DAMAGED}");
            state.applied = None;
        }
    }

    /// Removes files that are not needed any more, and remembers what is left. An error: some are not there that were written.
    pub(super) async fn leave(&self, state: &mut State) -> Result<(), BackendError> {
        let files = self.files.clone();
        let wanted = state.wanted.values().map(|want| want.part.file.as_str().to_owned()).collect();
        let swept = proc::blocking(move || -> Result<_, FileError> {
            let before = files.stamp();
            match files.sweep(&wanted)? {
                swept if swept.removed == 0 => Ok((before, swept.whole)),
                // Taken before the files are looked at: what somebody removes later makes another.
                _ => Ok((files.stamp(), files.sweep(&wanted)?.whole)),
            }
        });
        match swept.await {
            Ok((stamp, true)) => self.seen().left = Some(stamp),
            Ok((_, false)) => {
                state.applied = None;
                return Err(retry(DAMAGED));
            }
            Err(error) => {
                tracing::warn!(%error, "old configuration files remain");
            }
        }
        Ok(())
    }
}

//! Endpoints for an NGINX that was restarted by somebody else while LBEX has nothing to plan from yet.
//!
//! An NGINX that LBEX adopts knows its endpoints, and those are newer than what was saved; so its questions wait until there is a
//! plan. One that began anew while no LBEX looked, or since, knows none: it is told what was last good.

use std::os::unix::fs::MetadataExt;
use std::sync::PoisonError;

use lbex_core::desired::DesiredState;

use super::NginxBackend;
use crate::process::proc;

impl NginxBackend {
    /// Keeps what was last good until something is applied.
    pub(super) fn keep_in_mind(&self, last_good: &DesiredState) {
        if self.pusher.is_some() {
            *self.in_mind() = Some(last_good.clone());
        }
    }

    pub(super) fn forget_last_good(&self) {
        *self.in_mind() = None;
    }

    fn in_mind(&self) -> std::sync::MutexGuard<'_, Option<DesiredState>> {
        // Whole or not there: a panicking thread leaves nothing half done.
        self.last_good.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a running NGINX that is not the one that LBEX last saw.
    pub(super) async fn tell_a_stranger(&self) {
        let Some(pusher) = &self.pusher else { return };
        if self.in_mind().is_none() {
            return;
        }
        let layout = self.nginx.layout().clone();
        let (now, known) =
            proc::blocking(move || (identity(&layout), std::fs::read_to_string(layout.known_master()).ok())).await;
        if now.is_none() || now == known {
            return;
        }
        if let Some(last_good) = self.in_mind().take() {
            tracing::warn!("NGINX was restarted while LBEX was away: it is told the last good endpoints");
            last_good.services.values().for_each(|config| pusher.set(0, config));
        }
    }

    /// Remembers which NGINX it is that serves.
    pub(super) async fn know_master(&self) {
        let layout = self.nginx.layout().clone();
        let written = proc::blocking(move || {
            let (path, now) = (layout.known_master(), identity(&layout).unwrap_or_default());
            if std::fs::read_to_string(&path).is_ok_and(|known| known == now) {
                Ok(())
            } else {
                std::fs::write(path, now)
            }
        });
        if let Err(error) = written.await {
            tracing::warn!(%error, "failed to write down which NGINX serves; after a restart of LBEX it may get older endpoints for a moment");
        }
    }
}

/// Tells one start of NGINX from another: it writes its pid file when it starts, and not when it reloads.
fn identity(layout: &crate::prefix::Layout) -> Option<String> {
    let path = layout.pid_file();
    let pid = std::fs::read_to_string(&path).ok()?;
    let metadata = std::fs::metadata(&path).ok()?;
    Some(format!("{} {} {}", pid.trim(), metadata.mtime(), metadata.mtime_nsec()))
}

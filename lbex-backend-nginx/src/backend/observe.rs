//! Looks at NGINX without waiting for an `apply` in progress.

use std::sync::PoisonError;
use std::time::Duration;

use lbex_core::backend::Observed;
use tokio::time::timeout;

use super::NginxBackend;
use crate::process::proc;
use crate::render::MainFile;

/// How long each look may take; they are taken at once.
const LIMIT: Duration = Duration::from_millis(800);

/// How large NGINX's error log may grow, in bytes: every client that a Service does not let in makes a line.
const LOG_SIZE: u64 = 32 << 20;

/// What `apply` tells `observe`.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    /// The generation that was last confirmed.
    served: Option<String>,
    /// Those that a call in progress is about to put in place.
    aimed_at: Vec<String>,
}

impl NginxBackend {
    pub(super) fn aim_at(&self, mains: &[&MainFile]) {
        self.seen().aimed_at = mains.iter().map(|main| main.generation.clone()).collect();
    }

    pub(super) fn served(&self, main: &MainFile) {
        *self.seen() = Seen { served: Some(main.generation.clone()), aimed_at: Vec::new() };
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        // Two plain values: whatever a panicking thread left of them is as good as any.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the error log small, as often as somebody looks; no answer waits for it.
    pub(super) fn trim_log(&self) {
        let log = self.nginx.error_log().clone();
        let trimmed = proc::blocking(move || log.limit_size(LOG_SIZE));
        tokio::spawn(async move {
            if let Err(error) = trimmed.await {
                tracing::warn!(%error, "NGINX's error log cannot be kept small");
            }
        });
    }

    /// Asks NGINX what it serves, and looks at its processes. A host that is too busy for one of the two does not make the other
    /// count for nothing.
    pub(super) async fn look_at_nginx(&self) -> Observed {
        let seen = self.seen().clone();
        let (answer, glance) =
            tokio::join!(timeout(LIMIT, self.nginx.serving_generation()), timeout(LIMIT, self.nginx.glance()),);
        // No time to look is no proof that it is gone.
        let runs = glance.as_ref().map_or(true, Option::is_some);
        let master = glance.ok().flatten();
        let serving = match answer {
            Ok(Ok(Some(generation))) => generation,
            Ok(Ok(None)) if runs => return unhealthy("NGINX runs, and nothing answers for it".to_owned()),
            Ok(Ok(None)) => return unhealthy("NGINX does not run".to_owned()),
            Ok(Err(error)) => return unhealthy(error.to_string()),
            Err(_) => return unhealthy(format!("NGINX does not answer within {LIMIT:?}")),
        };
        let ours = serving.len() == 16 && serving.bytes().all(|b| b.is_ascii_hexdigit());
        if !ours {
            return unhealthy("NGINX answers with a configuration that is not LBEX's".to_owned());
        }
        let expected = seen.served.iter().chain(&seen.aimed_at).any(|generation| *generation == serving);
        let detail = match &master {
            Some((pid, _)) => format!("NGINX {} (process {pid}) serves {serving}", self.binary.version),
            None if runs => format!("NGINX {} serves {serving}", self.binary.version),
            None => format!("workers of an NGINX whose master ended serve {serving}"),
        };
        let draining = master.map_or(0, |(_, draining)| u32::try_from(draining).unwrap_or(u32::MAX));
        Observed { healthy: true, detail, in_step: expected && runs, serving: Some(serving), draining, push: None }
    }
}

fn unhealthy(detail: String) -> Observed {
    Observed { healthy: false, detail, in_step: false, serving: None, draining: 0, push: None }
}

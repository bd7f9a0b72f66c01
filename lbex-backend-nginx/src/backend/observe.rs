//! Looks at NGINX without waiting for an `apply` in progress.

use std::sync::PoisonError;
use std::time::Duration;

use lbex_core::backend::Observed;

use super::NginxBackend;
use crate::process::proc;
use crate::render::MainFile;

/// How long all of it may take.
const LIMIT: Duration = Duration::from_millis(800);

/// How large NGINX's error log may grow, in bytes: every client that a Service does not let in makes a line.
const LOG_SIZE: u64 = 32 << 20;

/// What `apply` tells `observe`.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    /// The generation that was last confirmed.
    served: Option<String>,
    /// The one that a call in progress is about to put in place.
    aimed_at: Option<String>,
}

impl NginxBackend {
    pub(super) fn aim_at(&self, main: &MainFile) {
        self.seen().aimed_at = Some(main.generation.clone());
    }

    pub(super) fn served(&self, main: &MainFile) {
        *self.seen() = Seen { served: Some(main.generation.clone()), aimed_at: None };
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        // Two plain values: whatever a panicking thread left of them is as good as any.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn look_at_nginx(&self) -> Observed {
        let log = self.nginx.error_log().clone();
        if let Err(error) = proc::blocking(move || log.limit_size(LOG_SIZE)).await {
            tracing::warn!(%error, "NGINX's error log cannot be kept small");
        }
        let seen = self.seen().clone();
        let both = async { tokio::join!(self.nginx.serving_generation(), self.nginx.glance()) };
        let Ok((answer, master)) = tokio::time::timeout(LIMIT, both).await else {
            return unhealthy(format!("NGINX does not answer within {LIMIT:?}"));
        };
        let serving = match answer {
            Ok(Some(generation)) => generation,
            Ok(None) if master.is_none() => return unhealthy("NGINX does not run".to_owned()),
            Ok(None) => return unhealthy("NGINX runs, and nothing answers for it".to_owned()),
            Err(error) => return unhealthy(error.to_string()),
        };
        let ours = serving.len() == 16 && serving.bytes().all(|b| b.is_ascii_hexdigit());
        if !ours {
            return unhealthy("NGINX answers with a configuration that is not LBEX's".to_owned());
        }
        let expected = [&seen.served, &seen.aimed_at].into_iter().flatten().any(|generation| *generation == serving);
        let detail = match &master {
            Some((pid, _)) => format!("NGINX {} (process {pid}) serves {serving}", self.binary.version),
            None => format!("workers of an NGINX whose master ended serve {serving}"),
        };
        let draining = master.map_or(0, |(_, draining)| u32::try_from(draining).unwrap_or(u32::MAX));
        Observed { healthy: true, detail, in_step: expected && master.is_some(), serving: Some(serving), draining }
    }
}

fn unhealthy(detail: String) -> Observed {
    Observed { healthy: false, detail, in_step: false, serving: None, draining: 0 }
}

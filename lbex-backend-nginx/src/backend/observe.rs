//! Looks at NGINX without waiting for an `apply` in progress.

use std::sync::PoisonError;
use std::time::Duration;

use lbex_core::backend::{BackendError, Observed};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::NginxBackend;
use super::refuse::retry;
use crate::confirm::ConfirmError;
use crate::files::Stamp;
use crate::process::{Glance, proc};
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
    /// The files as the last call left them; `None` while one is in progress, and after one that failed.
    pub(super) left: Option<Stamp>,
}

impl NginxBackend {
    pub(super) fn aim_at(&self, mains: &[&MainFile]) {
        self.seen().aimed_at = mains.iter().map(|main| main.generation.clone()).collect();
    }

    pub(super) fn served(&self, main: &MainFile) {
        *self.seen() = Seen { served: Some(main.generation.clone()), ..Seen::default() };
    }

    pub(super) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        // Plain values: whatever a panicking thread left of them is as good as any.
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
    /// count for nothing. An error: there was no answer, which proves nothing.
    pub(super) async fn look_at_nginx(&self) -> Result<Observed, BackendError> {
        let seen = self.seen().clone();
        let (answer, glance) =
            tokio::join!(timeout(LIMIT, self.nginx.serving_generation()), timeout(LIMIT, self.nginx.glance()),);
        // No time to look is no proof that it is gone.
        let runs = glance.as_ref().map_or(true, Option::is_some);
        let glance = glance.ok().flatten();
        let observed = self.judge(&seen, answer, runs, glance.as_ref());
        match glance.filter(|glance| !glance.stopped.is_empty()) {
            Some(glance) => Ok(with_stopped(observed, &glance.stopped)),
            None => observed,
        }
    }

    fn judge(
        &self,
        seen: &Seen,
        answer: Result<Result<Option<String>, ConfirmError>, Elapsed>,
        runs: bool,
        glance: Option<&Glance>,
    ) -> Result<Observed, BackendError> {
        let serving = match answer {
            Ok(Ok(Some(generation))) => generation,
            Ok(Ok(None)) if runs => return Ok(unhealthy("NGINX runs, and nothing answers for it".to_owned())),
            Ok(Ok(None)) => return Ok(unhealthy("NGINX does not run".to_owned())),
            Ok(Err(error @ ConfirmError::Strange { .. })) => return Ok(unhealthy(error.to_string())),
            Ok(Err(error)) => return Err(retry(error)),
            Err(_) => return Err(retry(format!("NGINX does not answer within {LIMIT:?}"))),
        };
        let ours = serving.len() == 16 && serving.bytes().all(|b| b.is_ascii_hexdigit());
        if !ours {
            return Ok(unhealthy("NGINX answers with a configuration that is not LBEX's".to_owned()));
        }
        let expected = seen.served.iter().chain(&seen.aimed_at).any(|generation| *generation == serving);
        let detail = match glance {
            Some(glance) => format!("NGINX {} (process {}) serves {serving}", self.binary.version, glance.master),
            None if runs => format!("NGINX {} serves {serving}", self.binary.version),
            None => format!("workers of an NGINX whose master ended serve {serving}"),
        };
        let in_step = expected && runs && !self.lacks_api_socket();
        let Some(Glance { draining: workers, .. }) = glance else {
            return Ok(Observed { healthy: true, detail, in_step, serving: Some(serving), ..Observed::default() });
        };
        let draining = u32::try_from(workers.len()).unwrap_or(u32::MAX);
        let draining_connections = self.draining.connections(&self.nginx, workers);
        let serving = Some(serving);
        Ok(Observed { healthy: true, detail, in_step, serving, draining, draining_connections, ..Observed::default() })
    }
}

fn unhealthy(detail: String) -> Observed {
    Observed { detail, ..Observed::default() }
}

/// A stopped worker gets its share of UDP, and of new connections, and does nothing with them. Somebody stopped it and only they
/// can tell why: nothing is applied or started because of it, also where NGINX does not answer, which is no wonder then.
fn with_stopped(observed: Result<Observed, BackendError>, stopped: &[i32]) -> Observed {
    let pids: Vec<String> = stopped.iter().map(ToString::to_string).collect();
    let pids = pids.join(", ");
    let why = format!(
        "worker process(es) {pids} of NGINX are stopped: their share of traffic is lost (kill -CONT wakes them)"
    );
    match observed {
        Ok(observed) => Observed { healthy: false, detail: format!("{why}; {}", observed.detail), ..observed },
        Err(error) => Observed { in_step: true, ..unhealthy(format!("{why}; {error}")) },
    }
}

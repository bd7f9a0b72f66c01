//! Looks at the proxy every second, apart from everything else, so that the health endpoint answers truly while an apply hangs,
//! and has a proxy that died or drifted put right.

use std::sync::Arc;
use std::time::Duration;

use lbex_core::backend::{Observed, ProxyBackend};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::driver::{Nudge, Pause};
use crate::admin::HealthState;
use crate::publish::Metrics;

/// How often.
const EVERY: Duration = Duration::from_secs(1);
/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many looks in a row have to go without an answer to count: one proves only that the host is busy.
const MISSES: u32 = 3;

/// The task; `look_now` makes it look at once. `tell` hears of every look that saw something: whether the proxy serves.
pub(super) fn start(
    backend: Arc<dyn ProxyBackend>,
    health: Arc<HealthState>,
    metrics: Arc<Metrics>,
    nudge: Nudge,
    look_now: Arc<Notify>,
    tell: watch::Sender<Option<bool>>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut steps = Steps::default();
        let mut misses = 0;
        loop {
            tokio::select! {
                biased;
                _ = tick.tick() => {}
                () = look_now.notified() => {}
                () = backend.woken() => {}
            }
            let (healthy, detail, in_step) = match look(backend.as_ref()).await {
                Ok(observed) => {
                    misses = 0;
                    metrics.observed(Some(&observed));
                    metrics.measured(&backend.measures());
                    tell.send_replace(Some(observed.healthy));
                    (observed.healthy, observed.detail, observed.in_step)
                }
                Err(why) => {
                    misses += 1;
                    if misses < MISSES {
                        tracing::info!("a look at the proxy proved nothing ({misses} of {MISSES} in a row): {why}");
                        continue;
                    }
                    metrics.observed(None);
                    (false, format!("{why}, {misses} times in a row"), false)
                }
            };
            health.set_proxy(healthy, detail);
            if steps.seen(in_step, Instant::now()) {
                nudge.again();
            }
        }
    })
}

/// Decides when the driver is to apply again: at once when the proxy falls out of step, and with growing pauses as long as it stays
/// so. An apply that succeeded is no proof that the proxy lived on until the next look.
#[derive(Default)]
struct Steps {
    was_in_step: bool,
    pause: Pause,
    next: Option<Instant>,
}

impl Steps {
    /// What was seen. Whether to apply again now.
    fn seen(&mut self, in_step: bool, now: Instant) -> bool {
        let fell_out = std::mem::replace(&mut self.was_in_step, in_step) && !in_step;
        if in_step {
            *self = Self { was_in_step: true, ..Self::default() };
            return false;
        }
        if fell_out {
            tracing::warn!("the proxy no longer serves what was applied; applying again");
        }
        let again = fell_out || self.next.is_some_and(|at| at <= now);
        if again || self.next.is_none() {
            self.next = Some(self.pause.next());
        }
        again
    }
}

/// A look, for [`PATIENCE`] at the most. The error says why nothing was seen.
pub(super) async fn look(backend: &dyn ProxyBackend) -> Result<Observed, String> {
    match tokio::time::timeout(PATIENCE, backend.observe()).await {
        Ok(Ok(observed)) => Ok(observed),
        Ok(Err(error)) => Err(format!("cannot look at the proxy: {error}")),
        Err(_) => Err(format!("the proxy did not answer within {PATIENCE:?}")),
    }
}

//! Looks at the proxy every second, apart from everything else, so that the health endpoint answers truly while an apply hangs,
//! and has a proxy that died or drifted put right.

use std::sync::Arc;
use std::time::Duration;

use lbex_core::backend::{Observed, ProxyBackend};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::driver::Nudge;
use crate::admin::HealthState;
use crate::publish::Metrics;

/// How often.
const EVERY: Duration = Duration::from_secs(1);
/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The task; `look_now` makes it look at once.
pub(super) fn start(
    backend: Arc<dyn ProxyBackend>,
    health: Arc<HealthState>,
    metrics: Arc<Metrics>,
    nudge: Nudge,
    look_now: Arc<Notify>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut was_in_step = false;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = look_now.notified() => {}
            }
            let observed = look(backend.as_ref()).await;
            metrics.observed(observed.as_ref().ok());
            match observed {
                Ok(Observed { healthy, detail, in_step, .. }) => {
                    health.set_proxy(healthy, detail);
                    // Only what was once in step can have fallen out of it; before that the driver is at work already.
                    if was_in_step && !in_step {
                        tracing::warn!("the proxy no longer serves what was applied; applying again");
                        nudge.again();
                    }
                    was_in_step = in_step;
                }
                Err(why) => health.set_proxy(false, why),
            }
        }
    })
}

async fn look(backend: &dyn ProxyBackend) -> Result<Observed, String> {
    match tokio::time::timeout(PATIENCE, backend.observe()).await {
        Ok(Ok(observed)) => Ok(observed),
        Ok(Err(error)) => Err(format!("cannot look at the proxy: {error}")),
        Err(_) => Err(format!("the proxy did not answer within {PATIENCE:?}")),
    }
}

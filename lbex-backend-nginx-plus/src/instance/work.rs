//! An instance's task.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::Shared;
use super::state::{Cause, Job};
use crate::api::{ApiError, NginxInfo, Upstreams};
use crate::converge::{Attempt, converge};

/// How many upstreams are changed at the same time.
const PARALLEL: usize = 16;

/// How many upstreams that were put right are logged between two looks.
const MOST_LINES: u32 = 5;

/// Something that has ended.
enum Ended {
    Attempt(Arc<str>, u64, Cause, Attempt),
    Look(Instant, Result<(NginxInfo, Upstreams), ApiError>),
}

type Running = FuturesUnordered<BoxFuture<'static, Ended>>;

/// For ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut running = Running::new();
    loop {
        let next = begin(&shared, &mut running);
        tokio::select! {
            biased;
            Some(ended) = running.next() => {
                end(&shared, ended);
                shared.done.send_replace(());
            }
            () = shared.wake.notified() => {}
            () = async { tokio::time::sleep_until(next.unwrap_or_else(Instant::now)).await }, if next.is_some() => {}
        }
    }
}

/// Begins what is due. Answers when something else will be.
fn begin(shared: &Arc<Shared>, running: &mut Running) -> Option<Instant> {
    let mut state = shared.state();
    let now = Instant::now();
    let due = match &state.trouble {
        Some(trouble) if !trouble.probation => trouble.until,
        _ => state.next_look.unwrap_or(now),
    };
    let wanted = shared.pace.idle_looks || !state.groups.is_empty();
    if wanted && !state.looking && due <= now {
        state.looking = true;
        state.next_look = Some(now + shared.pace.look);
        running.push(Box::pin(look(shared.clone(), now)));
    }
    let lost = state.trouble.as_ref().is_some_and(|trouble| !trouble.probation);
    // Before the first look has succeeded nothing is known of it.
    if !lost && state.info.is_some() {
        state.wake(now);
        if state.next_thorough <= now {
            state.next_thorough = now + shared.pace.thorough;
            state.mark_all(Cause::Check);
        }
        while running.len() < PARALLEL {
            let Some(Job { name, version, cause, servers, drains }) = state.take() else { break };
            let shared = shared.clone();
            running.push(Box::pin(async move {
                let attempt = converge(&shared.client, &name, &servers, drains).await;
                Ended::Attempt(name, version, cause, attempt)
            }));
        }
    }
    if state.looking || !wanted {
        // The end of the look, or a target, wakes this up; what has its own time does not have to.
        return if lost { None } else { state.next_timer() };
    }
    let due = match &state.trouble {
        Some(trouble) if !trouble.probation => trouble.until,
        _ => state.next_look.unwrap_or(now),
    };
    Some(state.next_timer().filter(|_| !lost).map_or(due, |timer| timer.min(due)))
}

async fn look(shared: Arc<Shared>, began: Instant) -> Ended {
    let client = &shared.client;
    let seen = match client.nginx().await {
        Ok(info) => client.upstreams().await.map(|upstreams| (info, upstreams)),
        Err(error) => Err(error),
    };
    Ended::Look(began, seen)
}

fn end(shared: &Arc<Shared>, ended: Ended) {
    let mut state = shared.state();
    match ended {
        Ended::Attempt(name, version, cause, attempt) => {
            if let Some(error) = &attempt.error {
                tracing::debug!("{error}");
            }
            if state.attempted(&name, version, cause, attempt) && state.mended <= MOST_LINES {
                let more = if state.mended == MOST_LINES { "; more are not logged" } else { "" };
                tracing::warn!(
                    "{}: upstream {name} had other servers than LBEX gave it: put right{more}",
                    shared.client.url()
                );
            }
        }
        Ended::Look(began, seen) => {
            state.looking = false;
            match seen {
                Ok((info, upstreams)) => state.looked(began, info, &upstreams),
                Err(error) => {
                    // Another NGINX may answer next, with another version of the API.
                    shared.client.negotiate_again();
                    state.failed();
                    state.lose(error, Instant::now());
                }
            }
        }
    }
}

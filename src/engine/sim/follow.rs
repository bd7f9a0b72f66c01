//! The simulated followers of the API server: each lists its kind and watches it from there, as those of `source::kube` do, over
//! connections that fail.

use std::sync::Arc;
use std::time::Duration;

use lbex_core::snapshot::Change;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::broken::Broken;
use super::objects::Part;
use super::state::Sim;
use crate::source::kube::simulated::{Mouth, Said};

/// What happens to a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// It ends, and goes on where it was.
    Off,
    /// It ends with 410 Gone: a new list is needed.
    Gone,
}

/// How the connections of the followers are.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// What happens to the watch next.
    pub(super) cut: Option<Cut>,
    /// Until when requests fail.
    pub(super) fails_until: u64,
    /// How long a list takes in ms.
    pub(super) list_takes: u64,
}

/// Follows a part until the runtime ends.
pub(super) async fn follow(sim: Sim, scope: usize, part: Part, mut mouth: Mouth, changed: Arc<Notify>) {
    let (mut version, mut failures) = (None, 0_u32);
    loop {
        let step = match version {
            None => list(&sim, scope, &part, &mut mouth).await,
            Some(version) => watch(&sim, scope, &part, version, &mouth, &changed).await,
        };
        match step {
            Ok(then) => (version, failures) = (Some(then), 0),
            Err(cut) => {
                failures += 1;
                if cut == Cut::Gone {
                    version = None;
                }
                if failures > 1 {
                    mouth.say(Said::Failing("connection refused".to_owned())).await;
                }
                sleep(Duration::from_millis(200 << failures.min(7)).min(Duration::from_secs(20))).await;
                if version.is_some() && sim.with(|state| !state.is_cut_off(scope)) {
                    mouth.say(Said::Working).await;
                }
            }
        }
    }
}

async fn list(sim: &Sim, scope: usize, part: &Part, mouth: &mut Mouth) -> Result<usize, Cut> {
    let takes = sim.with(|state| state.connection(scope).list_takes + state.dice.u64(1..30));
    let (mut objects, version) = sim.with(|state| (state.cluster.list(part), state.cluster.version()));
    sleep(Duration::from_millis(takes)).await;
    if sim.with(|state| state.is_cut_off(scope)) {
        if !sim.with(|state| state.breaks(Broken::BelievesPartialLists)) {
            sim.note(|| format!("the list of {part:?} fails after its first page"));
            return Err(Cut::Gone);
        }
        objects.truncate(objects.len() / 2);
    }
    sim.note(|| format!("the list of {part:?} has {} object(s)", objects.len()));
    mouth.say(Said::Listed(objects)).await;
    mouth.complete().await;
    // Those that wait for the same are woken in an order that tokio draws: they go on one after the other, in ours.
    sleep(Duration::from_millis(1 + scope as u64)).await;
    Ok(version)
}

async fn watch(
    sim: &Sim,
    scope: usize,
    part: &Part,
    version: usize,
    mouth: &Mouth,
    changed: &Notify,
) -> Result<usize, Cut> {
    loop {
        let cut = sim.with(|state| state.connection(scope).cut.take());
        if let Some(cut) = cut {
            sim.note(|| format!("the watch of {part:?} breaks: {cut:?}"));
            return Err(cut);
        }
        if sim.with(|state| state.is_cut_off(scope)) {
            return Err(Cut::Off);
        }
        let (late, most) = sim.with(|state| (state.dice.u64(0..40), state.dice.usize(1..5)));
        let some = sim.with(|state| {
            let some = state.cluster.since(part, version).take(most);
            some.map(|(version, change)| (version, change.clone())).collect::<Vec<_>>()
        });
        let Some((last, repeated)) = some.last().cloned() else {
            changed.notified().await;
            continue;
        };
        sleep(Duration::from_millis(late)).await;
        let mut changes: Vec<Change> = some.into_iter().map(|(_, change)| change).collect();
        if sim.with(|state| state.dice.u8(0..8) == 0) {
            changes.push(repeated);
        }
        mouth.say(Said::Changes(changes)).await;
        return Ok(last);
    }
}

//! The simulated followers of the API server: each lists its kind and watches it from there, as those of `source::kube` do, over
//! connections that fail.

use std::sync::Arc;
use std::time::Duration;

use lbex_core::snapshot::Change;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::broken::Broken;
use super::objects::Part;
use super::state::{Sim, State};
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

/// What a complete list says that is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// There is nothing.
    Empty,
    /// There are some objects of all.
    Partial,
    /// What was so many changes ago. The watch goes on from there.
    Older(usize),
    /// What there is in another cluster.
    Other,
}

/// For how long, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lying {
    pub(super) until: u64,
    pub(super) lie: Lie,
    /// The watch says nothing until it is over.
    pub(super) silent: bool,
}

/// Follows a part until the runtime ends.
pub(super) async fn follow(sim: Sim, scope: usize, part: Part, mut mouth: Mouth, changed: Arc<Notify>) {
    let (mut version, mut failures) = (None, 0_u32);
    let mut lying = None;
    loop {
        let step = match version {
            None => {
                let listed = list(&sim, scope, &part, &mut mouth).await;
                listed.map(|(version, of)| {
                    lying = of;
                    version
                })
            }
            Some(version) => watch(&sim, scope, &part, (version, lying), &mouth, &changed).await,
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

impl State {
    /// Whether a list that lied would be right now.
    fn is_over(&self, lying: &Lying) -> bool {
        self.now() >= lying.until || self.eye.calm_since.is_some()
    }

    /// What a list has, the identity of the cluster, and the version from which the watch goes on.
    fn listed(&mut self, part: &Part, lying: Option<Lying>) -> (Vec<Change>, &'static str, usize) {
        let now = self.cluster.version();
        match lying.map(|lying| lying.lie) {
            None => (self.cluster.list(part), "known", now),
            Some(Lie::Empty) => (Vec::new(), "known", now),
            Some(Lie::Partial) => {
                let mut objects = self.cluster.list(part);
                objects.retain(|_| self.dice.u8(0..4) == 0);
                (objects, "known", now)
            }
            Some(Lie::Older(by)) => {
                let then = now.saturating_sub(by);
                (self.cluster.list_at(part, then), "known", then)
            }
            Some(Lie::Other) => (self.other.list(part), "other", self.other.version()),
        }
    }
}

async fn list(sim: &Sim, scope: usize, part: &Part, mouth: &mut Mouth) -> Result<(usize, Option<Lying>), Cut> {
    let takes = sim.with(|state| state.connection(scope).list_takes + state.dice.u64(1..30));
    let (mut objects, cluster, version, lying) = sim.with(|state| {
        let lying = state.faults.lies.get(&scope).copied().filter(|lying| !state.is_over(lying));
        let (objects, cluster, version) = state.listed(part, lying);
        let cluster = if state.breaks(Broken::BelievesAnyCluster) { "known" } else { cluster };
        (objects, state.setup.identity.then(|| cluster.into()), version, lying)
    });
    sleep(Duration::from_millis(takes)).await;
    if sim.with(|state| state.is_cut_off(scope)) {
        if !sim.with(|state| state.breaks(Broken::BelievesPartialLists)) {
            sim.note(|| format!("the list of {part:?} fails after its first page"));
            return Err(Cut::Gone);
        }
        objects.truncate(objects.len() / 2);
    }
    sim.with(|state| {
        state.note(|| format!("the list of {part:?} has {} object(s); {lying:?}", objects.len()));
        // Another cluster that is not told from the known one is not one that answers: it is wrong.
        let hidden = state.breaks(Broken::BelievesAnyCluster) && lying.is_some_and(|lying| lying.lie == Lie::Other);
        state.lies(part, lying.is_some() && !hidden);
    });
    mouth.say(Said::Listed(objects, cluster)).await;
    mouth.complete().await;
    // Those that wait for the same are woken in an order that tokio draws: they go on one after the other, in ours.
    sleep(Duration::from_millis(1 + scope as u64)).await;
    Ok((version, lying))
}

async fn watch(
    sim: &Sim,
    scope: usize,
    part: &Part,
    (version, lying): (usize, Option<Lying>),
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
        if lying.is_some_and(|lying| sim.with(|state| state.is_over(&lying))) {
            sim.note(|| format!("the list of {part:?} lied"));
            return Err(Cut::Gone);
        }
        let (late, most) = sim.with(|state| (state.dice.u64(0..40), state.dice.usize(1..5)));
        let silent = lying.is_some_and(|lying| lying.silent || lying.lie == Lie::Other);
        let some = sim.with(|state| {
            let some = state.cluster.since(part, version).take(if silent { 0 } else { most });
            some.map(|(version, change)| (version, change.clone())).collect::<Vec<_>>()
        });
        let Some((last, repeated)) = some.last().cloned() else {
            let over = lying.map(|lying| sim.with(|state| state.instant(lying.until)));
            tokio::select! {
                biased;
                () = changed.notified() => {}
                () = async { sleep_until(over.unwrap_or_else(Instant::now)).await }, if over.is_some() => {}
            }
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

//! What happens to a world, and when: one fault, or several that a seed picks, with changes between them.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use tokio::time::sleep;

use crate::excuses::{Excuses, On};
use crate::faults::{AGAIN, ALL, Entry, Needs};
use crate::services::Life;
use crate::world::World;

/// A fault at a time, from the beginning of the schedule.
pub(crate) struct Planned {
    pub(crate) at: Duration,
    /// How long it lasts until it is healed.
    pub(crate) lasts: Duration,
    pub(crate) entry: &'static Entry,
}

/// A change that a cluster may see at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// These endpoints of a changing Service (by number) are ready, and the first.
    Endpoints(usize, Vec<usize>),
    /// A moving Service (by number) comes, or goes.
    Move(usize),
    /// A changing Service gets another algorithm, which takes a reload.
    Algorithm(usize, bool),
}

/// All that happens.
pub(crate) struct Schedule {
    pub(crate) faults: Vec<Planned>,
    pub(crate) changes: Vec<(Duration, Change)>,
}

impl Schedule {
    /// One fault, with changes before, while and after it lasts.
    pub(crate) fn of(entry: &'static Entry) -> Self {
        // LBEX looks at NGINX every second.
        let fault = Planned { at: ms(300), lasts: ms(2_000), entry };
        let change = |at, number: usize| {
            let all = [Change::Endpoints(number, vec![number % 2 + 1]), Change::Move(number), Change::Move(3 - number)];
            all.into_iter().map(move |change| (ms(at), change))
        };
        let changes = change(100, 0).chain(change(800, 1)).chain([(ms(900), Change::Algorithm(2, true))]);
        Self { faults: vec![fault], changes: changes.chain(change(1_700, 2)).collect() }
    }

    /// What the seed says, in a world that offers this.
    pub(crate) fn random(seed: u64, offered: Needs) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let scripted = |needs| needs == Needs::Scripted && offered == Needs::User;
        let can_be = |entry: &&Entry| [Needs::Any, offered].contains(&entry.needs) || scripted(entry.needs);
        let possible: Vec<_> = ALL.iter().filter(can_be).collect();
        let mut faults: Vec<Planned> = Vec::new();
        for _ in 0..dice.usize(3..=6) {
            let entry = possible[dice.usize(..possible.len())];
            let (at, lasts) = (ms(dice.u64(0..2_500)), ms(dice.u64(50..1_500)));
            let excluded = |planned: &Planned| planned.entry.name == entry.name || go_too_far(planned.entry, entry);
            if !faults.iter().any(excluded) {
                faults.push(Planned { at, lasts, entry });
            }
        }
        faults.sort_by_key(|planned| planned.at);
        let mut changes: Vec<_> =
            (0..dice.usize(10..40)).map(|_| (ms(dice.u64(0..4_000)), change(&mut dice))).collect();
        changes.sort_by_key(|(at, _)| *at);
        Self { faults, changes }
    }

    /// Does all of it, and heals everything.
    pub(crate) async fn run(&self, world: &World) -> Result<()> {
        let kinds = [On::Api, On::Objects, On::Lbex, On::Nginx, On::Prefix];
        let lanes = kinds.into_iter().map(|on| async move {
            for planned in self.faults.iter().filter(|planned| planned.entry.on == on) {
                planned.happen(world).await.with_context(|| format!("{} at {:?}", planned.entry.name, planned.at))?;
            }
            Ok(())
        });
        let faults = try_join_all(lanes);
        let changes = async {
            for (at, change) in &self.changes {
                until(world, *at).await;
                change.make(world).await.with_context(|| format!("{change:?} at {at:?}"))?;
            }
            Ok(())
        };
        tokio::select! {
            done = async { tokio::try_join!(faults, changes) } => done.map(drop),
            ended = world.supervise() => ended,
        }
    }
}

impl Planned {
    async fn happen(&self, world: &World) -> Result<()> {
        until(world, self.at).await;
        let Entry { name, on, excuses, make, .. } = self.entry;
        let mut fault = make();
        let window = world.windows.open(*on, *excuses);
        fault.inject(world).await?;
        sleep(self.lasts).await;
        fault.heal(world).await?;
        if *excuses != Excuses::NOTHING {
            world.served_again().await?;
        }
        let took = world.windows.close(window);
        let hindered = world.windows.hindered(window, &[On::Lbex, On::Prefix]);
        ensure!(
            *on != On::Nginx || hindered || took < AGAIN + self.lasts,
            "{name}: all were served again after {took:?}"
        );
        Ok(())
    }
}

impl Change {
    async fn make(&self, world: &World) -> Result<()> {
        match self {
            Self::Endpoints(number, others) => {
                let ready: Vec<_> = [0].iter().chain(others).copied().collect();
                world.cluster.put(&world.of(Life::Changing)[*number].slice(&ready)).await
            }
            Self::Algorithm(number, other) => {
                let service = world.of(Life::Changing)[*number].service();
                world.cluster.put(&if *other { service.lbex("algorithm", "least_conn") } else { service }).await
            }
            Self::Move(number) => {
                let moving = world.of(Life::Moving)[*number];
                let is_there =
                    world.cluster.objects().iter().any(|object| {
                        object["kind"] == "Service" && object["metadata"]["name"] == moving.name.as_str()
                    });
                if is_there {
                    world.cluster.delete("Service", &moving.name).await?;
                    return world.cluster.delete("EndpointSlice", &format!("{}-1", moving.name)).await;
                }
                world.cluster.put(&moving.service()).await?;
                world.cluster.put(&moving.whole()).await
            }
        }
    }
}

/// An LBEX whose memory of the cluster was deleted while it was away has to believe the first lists that it sees.
fn go_too_far(one: &Entry, other: &Entry) -> bool {
    let forgets = |entry: &Entry| ["prefix_deleted", "last_good_damaged"].contains(&entry.name);
    let lies = |entry: &Entry| entry.needs == Needs::Scripted;
    (forgets(one) && lies(other)) || (lies(one) && forgets(other))
}

fn change(dice: &mut fastrand::Rng) -> Change {
    match dice.u8(..10) {
        0..6 => Change::Endpoints(dice.usize(..4), (1..=2).filter(|_| dice.bool()).collect()),
        6..9 => Change::Move(dice.usize(..4)),
        _ => Change::Algorithm(dice.usize(..4), dice.bool()),
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

async fn until(world: &World, at: Duration) {
    sleep(at.saturating_sub(world.begin.elapsed())).await;
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Planned { at, lasts, entry } in &self.faults {
            writeln!(f, "  {:.3} s: {} for {:.3} s", at.as_secs_f64(), entry.name, lasts.as_secs_f64())?;
        }
        for (at, change) in &self.changes {
            writeln!(f, "  {:.3} s: {change:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

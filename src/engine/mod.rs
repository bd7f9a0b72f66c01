//! The loop. Whoever reads this sees LBEX: changes come in from a source, the planner turns them into what changed of the desired
//! state, the driver hands that to the backend, and what comes of it is published.
//!
//! Before there is anything to plan from, the last good state is served: by the proxy that an earlier LBEX left running, or, where
//! none serves, by one that is started with what was saved. A proxy that runs is never older than what was saved, so it is left
//! alone until there is a plan.

mod driver;
mod feed;
mod removals;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod watchdog;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lbex_core::addresses::HostAddresses;
use lbex_core::backend::ProxyBackend;
use lbex_core::desired::DesiredState;
use lbex_core::planner::{PlanOutcome, Planner};
use lbex_core::snapshot::Change;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::admin::HealthState;
use crate::publish::{Metrics, ProblemLog};
use crate::source::SourceEvent;
use crate::state::LastGood;
use driver::{Driver, Progress};
use feed::Feed;

pub use driver::Pace;
pub use removals::Removals;

/// How often the loop shows that it runs and lets publishers catch up.
const TICK: Duration = Duration::from_secs(1);

/// Everything that the loop works with.
pub struct Engine {
    /// Plans.
    pub planner: Planner,
    /// What of what the source sends is believed at once.
    pub removals: Removals,
    /// What the source sends.
    pub source: mpsc::Receiver<SourceEvent>,
    /// The addresses of this host.
    pub host: watch::Receiver<HostAddresses>,
    /// Makes it so.
    pub backend: Arc<dyn ProxyBackend>,
    /// How often it may reload.
    pub pace: Pace,
    /// What to serve until there is something to plan from, where no proxy serves: what an earlier LBEX saved.
    pub saved: Option<DesiredState>,
    /// Keeps what to save.
    pub last_good: LastGood,
    /// What the health endpoint answers.
    pub health: Arc<HealthState>,
    /// What the metrics endpoint answers.
    pub metrics: Arc<Metrics>,
}

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// As asked: the token was cancelled.
    Stopped,
    /// The source is gone, which it never should be.
    SourceEnded,
    /// A task of LBEX's own is gone; its name.
    TaskEnded(&'static str),
}

impl Engine {
    /// Runs until `stop` is cancelled. An apply in progress is then finished, or abandoned after 8 s; the proxy
    /// goes on serving.
    pub async fn run(self, stop: CancellationToken) -> Ended {
        let Self { mut planner, mut removals, mut source, mut host, backend, pace, saved, last_good, health, metrics } =
            self;
        planner.ingest(Change::Host(host.borrow_and_update().clone()));
        let mut problems = ProblemLog::new(metrics.clone());
        saved.as_ref().inspect(|last_good| backend.remember(last_good));
        let driver = Driver::start(backend.clone(), pace, metrics.clone());
        let look_now = Arc::new(Notify::new());
        let (tell, mut seen) = watch::channel(None);
        let watchdog =
            watchdog::start(backend, health.clone(), metrics.clone(), driver.nudge(), look_now.clone(), tell);
        let mut feed = Feed::new(driver, last_good, saved);
        let mut tick = tokio::time::interval(TICK);
        let mut synced = false;
        health.set_ready(false, "waiting for the first complete list of the cluster's objects");

        let ended = loop {
            tokio::select! {
                // The order is fixed, so that a schedule of the simulation can be replayed; the source, which may never be at rest, is
                // last.
                biased;
                () = stop.cancelled() => break Ended::Stopped,
                Ok(()) = seen.changed(), if feed.may_resume() => {
                    resume(*seen.borrow_and_update(), &mut feed, &health, &metrics);
                }
                progress = feed.driver.progress() => match progress {
                    None => break Ended::TaskEnded("driver"),
                    Some(progress) => {
                        // A push is confirmed by the proxy itself: ten a second must not cost ten looks at everything.
                        let worth_a_look = !matches!(progress, Progress::Pushed(_));
                        publish(progress, &mut problems, &health, &mut feed);
                        if worth_a_look {
                            look_now.notify_one();
                        }
                    }
                },
                _ = tick.tick() => {
                    health.beat();
                    problems.flush();
                    removals.tick(&mut planner);
                    // What was just let through is not planned yet.
                    if !planner.is_dirty() {
                        removals.news(&planner).into_iter().for_each(|news| feed.remember(news));
                    }
                    if watchdog.is_finished() {
                        break Ended::TaskEnded("watchdog");
                    }
                    if feed.keeper_ended() {
                        break Ended::TaskEnded("keeper of the last good state");
                    }
                }
                Ok(()) = host.changed() => planner.ingest(Change::Host(host.borrow_and_update().clone())),
                () = removals.release_asked() => removals.release(&mut planner),
                event = source.recv() => {
                    let Some(event) = event else { break Ended::SourceEnded };
                    synced |= take_in(event, &mut source, (&mut removals, &mut planner), &health);
                }
            }
            // Nothing is applied before every kind has had its first complete list (design invariant 5).
            if synced && removals.may_plan() && (planner.is_dirty() || !feed.has_planned()) {
                let outcome = plan(&mut planner, &metrics);
                problems.planned(&outcome.rejections);
                // No state is saved without what its cluster was.
                removals.news(&planner).into_iter().for_each(|news| feed.remember(news));
                feed.planned(outcome.delta, planner.desired());
                metrics.desired(feed.generation());
            }
        };
        watchdog.abort();
        feed.finish().await;
        ended
    }
}

/// Takes an event in, and whatever else waits already. True: the first complete lists are all there.
fn take_in(
    first: SourceEvent,
    source: &mut mpsc::Receiver<SourceEvent>,
    (removals, planner): (&mut Removals, &mut Planner),
    health: &HealthState,
) -> bool {
    let mut synced = false;
    let mut next = Some(first);
    while let Some(event) = next {
        match event {
            SourceEvent::Changes(changes) => removals.take(changes, planner),
            SourceEvent::Cluster(identity) => removals.cluster(identity),
            SourceEvent::Synced => {
                tracing::info!("the first complete lists are here: {}", counts(planner));
                health.set_waiting_for("the first configuration is being applied");
                removals.complete(planner);
                synced = true;
            }
            SourceEvent::Trouble(trouble) => {
                if !trouble.known {
                    health.set_waiting_for(trouble.to_string());
                }
                tracing::warn!("{trouble}");
            }
            SourceEvent::Recovered(recovered) => tracing::info!("{recovered}"),
        }
        next = source.try_recv().ok();
    }
    synced
}

fn counts(planner: &Planner) -> String {
    let cluster = planner.cluster();
    format!("{} Service(s), {} Node(s)", cluster.services().len(), cluster.nodes().len())
}

fn plan(planner: &mut Planner, metrics: &Metrics) -> PlanOutcome {
    let begin = Instant::now();
    let outcome = planner.plan();
    metrics.planned(begin.elapsed(), planner.asking().len());
    outcome
}

/// There is nothing to plan from yet: a proxy that serves serves the last good state; where none does, one is to be started with it.
fn resume(serves: Option<bool>, feed: &mut Feed, health: &HealthState, metrics: &Metrics) {
    match serves {
        Some(true) => health.set_ready(true, ""),
        Some(false) => {
            tracing::info!("the proxy does not serve: applying the last good state");
            health.set_ready(false, "the last good state is being applied");
            feed.resume();
            metrics.desired(feed.generation());
        }
        None => {}
    }
}

fn publish(progress: Progress, problems: &mut ProblemLog, health: &HealthState, feed: &mut Feed) {
    match progress {
        Progress::Applied(report) => {
            problems.reported(&report.refused);
            feed.applied(report.generation);
            health.set_ready(true, "");
        }
        Progress::Pushed(pushed) => feed.pushed(&pushed),
        Progress::Left => {
            feed.left();
            health.set_ready(true, "");
        }
        Progress::Failed(error) => health.set_waiting_for(format!("nothing could be applied yet: {error}")),
    }
}

//! `lbex [FLAGS]`: the controller.

use std::pin::pin;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::FusedFuture;
use lbex_core::backend::ProxyBackend;
use lbex_core::hold::Hold;
use lbex_core::model::Protocol;
use lbex_core::planner::Planner;
use lbex_core::settings::{PlanSettings, Reserved};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::release;
use super::shutdown::{self, stop_proxy};
use super::supervise::{self, LoopWatch};
use crate::admin::{AdminServers, HealthState, Serving};
use crate::cli::{COMMIT, Failure};
use crate::engine::{Ended, Engine, Pace, Removals};
use crate::host;
use crate::publish::{BuildInfo, Metrics};
use crate::settings::Settings;
use crate::source::{self, Persistence, SourceEvent, SourceHandle};
use crate::state::{self, LastGood, Remembered, SavedState, Scope, StateFile};
use crate::supervisor::{KeptSockets, Notifier};

/// Runs the controller with the backend that the settings name, until SIGTERM or SIGINT. `kept`: what the supervisor has kept of an
/// earlier LBEX. Its own ports are bound first, the backend is
/// opened next (both: exit code 2), then the source is contacted (exit code 1); only then is anything changed. Where the prefix has a
/// last good state, that is served at once, and the source is contacted meanwhile, until it answers.
pub async fn controller(settings: Settings, kept: KeptSockets) -> Result<(), Failure> {
    supervise::end_on_panic();
    let stop = CancellationToken::new();
    shutdown::on_signals(&stop)?;
    let release = release::on_signal()?;
    let admin = AdminServers::bind(&settings.admin).map_err(Failure::usage)?;
    let backend = tokio::select! {
        opened = settings.backend.offer().open(&settings, kept) => opened?,
        () = stop.cancelled() => return Ok(()),
    };
    let capabilities = backend.capabilities();
    tracing::info!("LBEX {} with {}", env!("CARGO_PKG_VERSION"), capabilities.description);

    let metrics = Arc::new(Metrics::new(&BuildInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: COMMIT.unwrap_or("unknown").to_owned(),
        backend: capabilities.description.clone(),
    }));
    let mut planning = PlanSettings { capabilities, ..settings.planning.clone() };
    planning.reserved.extend(reserved(&admin).into_iter().chain(backend.reserved()));
    let health = Arc::new(HealthState::new());
    let serving = admin.serve(health.clone(), metrics.clone(), stop.clone()).map_err(Failure::usage)?;

    let notifier = Notifier::start(health.clone(), stop.clone());
    let parts = (backend.clone(), release, health);
    let ended = async {
        let Some((engine, source)) = begin(&settings, planning, parts, metrics, &stop).await? else {
            return Ok(());
        };
        run(engine, source, &serving, &stop).await?;
        end_proxy(&settings, backend.as_ref()).await?;
        serving.ended().await;
        Ok(())
    };
    let ended = ended.await;
    // Where it failed, nobody has told it to end.
    stop.cancel();
    notifier.ended().await;
    ended
}

async fn end_proxy(settings: &Settings, backend: &dyn ProxyBackend) -> Result<(), Failure> {
    if stop_proxy(settings.stop_proxy_on_exit) {
        return shutdown::end_proxy(settings, backend).await;
    }
    tracing::info!("the proxy goes on serving");
    Ok(())
}

/// Reads the last good state, and contacts the source: at once where there is no such state, so that a failure ends LBEX before
/// anything is changed; while the engine runs where there is one. `None`: LBEX was told to end meanwhile.
async fn begin<'a>(
    settings: &'a Settings,
    planning: PlanSettings,
    (backend, release, health): (Arc<dyn ProxyBackend>, Arc<Notify>, Arc<HealthState>),
    metrics: Arc<Metrics>,
    stop: &CancellationToken,
) -> Result<Option<(Engine, Source<'a>)>, Failure> {
    let (file, scope) = (StateFile::below(&settings.nginx.prefix), Scope::new(settings));
    let saved = read(file.clone(), scope.clone(), planning.clone(), metrics.clone()).await?;
    let (sender, receiver) = mpsc::channel(source::QUEUE);
    let contact = Contact { settings, metrics: metrics.clone(), sender };
    let source = if saved.is_some() {
        Source::ToContact(contact)
    } else {
        tokio::select! {
            started = contact.start(Persistence::Once) => Source::Started(started?),
            () = stop.cancelled() => return Ok(None),
        }
    };
    let (remembered, saved) = saved
        .map(|SavedState { cluster, inventory, desired, .. }| (Remembered { cluster, inventory }, desired))
        .unzip();
    let remembered: Remembered = remembered.unwrap_or_default();
    let cluster = remembered.cluster.as_deref().map(Into::into);
    let hold = Hold::new(settings.mass_removal_hold, cluster, remembered.inventory.clone());
    let engine = Engine {
        planner: Planner::new(super::rules(planning, &settings.selection)),
        removals: Removals::new(hold, release, metrics.clone()),
        source: receiver,
        host: host::follow(),
        backend,
        pace: Pace { reload_interval: settings.reload_interval },
        saved,
        last_good: LastGood::start(file, scope, remembered, metrics.clone()),
        health,
        metrics,
    };
    Ok(Some((engine, source)))
}

/// Until LBEX is told to end (`Ok`), or a part of it that never should has ended.
async fn run(engine: Engine, source: Source<'_>, serving: &Serving, stop: &CancellationToken) -> Result<(), Failure> {
    let _watch = LoopWatch::start(engine.health.clone())?;
    let mut running = pin!(engine.run(stop.clone()).fuse());
    let admin = async {
        serving.ended().await;
        // It ends when told to as well.
        if stop.is_cancelled() { std::future::pending().await } else { gone("the health and metrics server") }
    };
    let failure = tokio::select! {
        ended = &mut running => defect(&ended),
        failure = source.follow() => Some(failure),
        failure = admin => Some(failure),
    };
    let Some(failure) = failure else { return Ok(()) };
    stop.cancel();
    if !running.is_terminated() {
        running.await;
    }
    Err(failure)
}

/// Reads the last good state of the prefix.
async fn read(
    file: StateFile,
    scope: Scope,
    planning: PlanSettings,
    metrics: Arc<Metrics>,
) -> Result<Option<SavedState>, Failure> {
    let read = move || state::load(&file, &scope, &planning, &metrics);
    tokio::task::spawn_blocking(read).await.map_err(Failure::defect)
}

/// The source of objects.
enum Source<'a> {
    Started(SourceHandle),
    ToContact(Contact<'a>),
}

/// What it takes to contact it.
struct Contact<'a> {
    settings: &'a Settings,
    metrics: Arc<Metrics>,
    sender: mpsc::Sender<SourceEvent>,
}

impl Contact<'_> {
    async fn start(self, persistence: Persistence) -> Result<SourceHandle, Failure> {
        source::start(self.settings, persistence, self.metrics, self.sender).await
    }
}

impl Source<'_> {
    /// Contacts it, unless that is done. Returns when it cannot begin, or has ended, which it never should.
    async fn follow(self) -> Failure {
        let started = match self {
            Self::Started(source) => Ok(source),
            Self::ToContact(contact) => contact.start(Persistence::Forever).await,
        };
        match started {
            Ok(mut source) => {
                let ended = source.ended().await;
                tracing::error!("the source of objects has ended: {ended:?}");
                gone("the source")
            }
            Err(failure) => failure,
        }
    }
}

fn defect(ended: &Ended) -> Option<Failure> {
    match ended {
        Ended::Stopped => None,
        Ended::SourceEnded => Some(gone("the source")),
        Ended::TaskEnded(task) => Some(gone(task)),
    }
}

/// A defect. The supervisor starts LBEX again; the proxy serves on.
fn gone(part: &str) -> Failure {
    Failure::defect(anyhow::anyhow!("LBEX ends because a part of it did: {part}; the proxy serves on"))
}

/// The ports that LBEX itself has bound, also where it took any free one.
fn reserved(admin: &AdminServers) -> Vec<Reserved> {
    let reserve = |what| move |address| Reserved { protocol: Protocol::Tcp, address, what };
    let health = admin.health_addresses().into_iter().map(reserve("health"));
    health.chain(admin.metrics_address().map(reserve("metrics"))).collect()
}

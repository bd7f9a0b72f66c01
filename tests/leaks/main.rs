//! An hour of churn in simulated time: the engine with a backend that is simulated, and the push table that the NGINX backend has. Every
//! ten minutes the cluster is brought to the same state, and LBEX must then hold as much as it did before.
//! `LBEX_LEAK_SERVICES` says how many Services there are; `make leaks` has 5,000.

mod cluster;
mod proxy;

use std::alloc::System;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cluster::Cluster;
use fastrand::Rng;
use lbex::admin::HealthState;
use lbex::engine::{Engine, Pace, Removals};
use lbex::publish::{BuildInfo, Metrics, ObjectKind};
use lbex::source::{Recovered, SourceEvent, Trouble};
use lbex::state::{Before, LastGood, Remembered, SavedState, Scope, Store};
use lbex_core::addresses::HostAddresses;
use lbex_core::hold::Hold;
use lbex_core::planner::{Planner, Rules};
use lbex_core::selector::All;
use lbex_core::settings::PlanSettings;
use lbex_core::snapshot::Change;
use proxy::Proxy;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How many Services there are, where nobody says otherwise.
const FEW: usize = 300;
/// How much more may be in use after the hour: lists and maps have room for more, or less.
const SLACK: usize = 64 * 1024;

/// One at a time: the heap is everybody's.
static ALONE: Mutex<()> = Mutex::new(());

/// The disk, of which nothing is read.
struct Disk;

#[async_trait]
impl Store for Disk {
    async fn save(&self, _: SavedState) -> std::io::Result<Before> {
        sleep(Duration::from_millis(30)).await;
        Ok(Before::Something)
    }

    async fn is_gone(&self) -> bool {
        false
    }

    fn place(&self) -> String {
        "the disk".to_owned()
    }
}

/// What is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InUse {
    bytes: usize,
    /// All gauges, and how many time series there are.
    sizes: BTreeMap<String, String>,
}

struct Running {
    events: mpsc::Sender<SourceEvent>,
    metrics: Arc<Metrics>,
    proxy: Arc<Proxy>,
    stop: CancellationToken,
    engine: tokio::task::JoinHandle<lbex::engine::Ended>,
}

impl Running {
    fn start(leaks: bool) -> Self {
        let build = BuildInfo { version: String::new(), commit: String::new(), backend: String::new() };
        let metrics = Arc::new(Metrics::new(&build));
        let proxy = Arc::new(Proxy::new(leaks));
        let (events, source) = mpsc::channel(lbex::source::QUEUE);
        let rules = Rules {
            settings: PlanSettings { require_port: false, ..PlanSettings::default() },
            selector: Box::new(All::default()),
            resolvers: lbex_upstream::standard(),
        };
        let hold = Hold::new(Some(Duration::from_secs(300)), None, None);
        let engine = Engine {
            planner: Planner::new(rules),
            removals: Removals::new(hold, Arc::default(), metrics.clone()),
            source,
            host: watch::channel(HostAddresses::default()).1,
            backend: proxy.clone(),
            pace: Pace { reload_interval: Duration::from_secs(1) },
            saved: None,
            last_good: LastGood::start(Disk, Scope::default(), Remembered::default(), metrics.clone()),
            health: Arc::new(HealthState::new()),
            metrics: metrics.clone(),
        };
        let stop = CancellationToken::new();
        let engine = tokio::spawn(engine.run(stop.clone()));
        Self { events, metrics, proxy, stop, engine }
    }

    async fn send(&self, changes: Vec<Change>) {
        for some in changes.chunks(256) {
            self.events.send(SourceEvent::Changes(some.to_vec())).await.expect("LBEX lives");
        }
    }

    fn in_use(&self) -> InUse {
        let mut sizes = self.proxy.sizes();
        let text = self.metrics.encode().expect("metrics");
        sizes.insert("series".to_owned(), text.lines().count().to_string());
        let gauges: Vec<_> =
            text.lines().filter_map(|line| line.strip_suffix(" gauge")?.strip_prefix("# TYPE ")).collect();
        for line in text.lines().filter(|line| gauges.iter().any(|name| line.starts_with(name))) {
            // Times and the process's own are no sizes.
            if let Some((name, value)) = line.rsplit_once(' ').filter(|(name, _)| {
                !name.contains("_seconds") && !name.contains("process_") && !name.contains("generation")
            }) {
                sizes.insert(name.to_owned(), value.to_owned());
            }
        }
        drop(text);
        let heap = HEAP.stats();
        InUse { bytes: heap.bytes_allocated - heap.bytes_deallocated, sizes }
    }
}

/// A minute of whatever happens in a cluster.
async fn churn(running: &Running, cluster: &mut Cluster, dice: &mut Rng, minute: usize) {
    for second in 0..60 {
        let mut changes = Vec::new();
        (0..6).for_each(|_| changes.push(cluster.endpoints_change(dice)));
        if second % 2 == 0 {
            changes.extend(cluster.one_goes_and_another_comes(dice));
            changes.push(cluster.is_edited(dice));
        }
        if second % 30 == 7 {
            changes.extend(cluster.nodes_change(dice));
        }
        running.send(changes).await;
        if second == 20 && minute % 5 == 2 {
            // A list that lies, and one that does not, before anything is let go.
            running.send(vec![Change::AllServices(Vec::new()), Change::AllNodes(Vec::new())]).await;
        }
        if second == 40 {
            running.send(cluster.lists()).await;
        }
        if second == 45 {
            let (kind, namespace, text) = (ObjectKind::Service, None, format!("trouble {minute}"));
            let trouble = Trouble { kind, namespace: namespace.clone(), text, lasting: Duration::ZERO, known: true };
            running.events.send(SourceEvent::Trouble(trouble)).await.expect("LBEX lives");
            let recovered = Recovered { kind, namespace, after: Duration::from_secs(1) };
            running.events.send(SourceEvent::Recovered(recovered)).await.expect("LBEX lives");
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Six times ten minutes are an hour. What is in use after 10, 20, ... minutes of churn.
async fn measure(services: usize, tens: usize, leaks: bool) -> Vec<InUse> {
    let (mut cluster, mut dice) = (Cluster::new(services), Rng::with_seed(1));
    let running = Running::start(leaks);
    running.send(cluster.lists()).await;
    running.events.send(SourceEvent::Synced).await.expect("LBEX lives");
    let mut all = Vec::with_capacity(tens);
    for ten in 0..tens {
        for minute in 0..10 {
            churn(&running, &mut cluster, &mut dice, 10 * ten + minute).await;
        }
        let back = cluster.back_to_the_first_state();
        running.send(back).await;
        // What is retried is, what is kept for a while is let go.
        sleep(Duration::from_secs(120)).await;
        all.push(running.in_use());
    }
    running.stop.cancel();
    assert_eq!(running.engine.await.expect("no panic"), lbex::engine::Ended::Stopped);
    all
}

fn run(services: usize, tens: usize, leaks: bool) -> Vec<InUse> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let begin = Instant::now();
    let all = runtime.block_on(measure(services, tens, leaks));
    let bytes: Vec<_> = all.iter().map(|in_use| in_use.bytes).collect();
    println!(
        "{services} Services, {tens}0 minutes in {:.1} s; bytes in use every ten minutes: {bytes:?}",
        begin.elapsed().as_secs_f64()
    );
    all
}

/// What has grown between the first measurement and the last, if anything has.
fn growth(all: &[InUse]) -> Option<String> {
    let (first, last) = (all.first()?, all.last()?);
    let sizes = last.sizes.iter().filter(|(name, value)| first.sizes.get(*name) != Some(value));
    let differing: Vec<_> =
        sizes.map(|(name, value)| format!("{name}: {:?}, then {value}", first.sizes.get(name))).collect();
    let most = first.bytes + first.bytes / 100 + SLACK;
    let grown = (last.bytes > most).then(|| format!("{} bytes, then {}", first.bytes, last.bytes));
    let all: Vec<_> = grown.into_iter().chain(differing).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

#[test]
fn nothing_grows_in_an_hour_of_churn() {
    let _alone = ALONE.lock();
    let services = std::env::var("LBEX_LEAK_SERVICES").map_or(FEW, |text| text.parse().expect("a number"));
    let all = run(services, 6, false);
    assert!(all[0].sizes.len() > 10, "{:?}", all[0].sizes);
    assert_eq!(growth(&all), None);
}

#[test]
fn a_leak_of_some_bytes_per_change_is_noticed() {
    let _alone = ALONE.lock();
    let grown = growth(&run(FEW, 2, true)).expect("a leak that is noticed");
    assert!(grown.contains("bytes, then"), "{grown}");
}

//! The loop, with a backend that does as it is told, in virtual time.

use lbex_core::backend::Observed;
use lbex_core::hold::Hold;
use lbex_core::model::{EndpointsApi, Service, ServicePort, ServiceType};
use lbex_core::model::{Node, NodeAddressType, Protocol};
use lbex_core::names::ServiceKey;
use lbex_core::planner::Rules;
use lbex_core::selector::All;
use lbex_core::settings::PlanSettings;
use tokio::task::JoinHandle;

mod removals;
mod resumed;

use super::testing::{Scripted, metrics};
use super::*;
use crate::publish::ObjectKind;
use crate::source::Trouble;
use crate::state::{Remembered, Scope, StateFile};

struct Running {
    _prefix: tempfile::TempDir,
    file: StateFile,
    backend: Arc<Scripted>,
    source: mpsc::Sender<SourceEvent>,
    health: Arc<HealthState>,
    metrics: Arc<Metrics>,
    release: Arc<Notify>,
    host: watch::Sender<HostAddresses>,
    stop: CancellationToken,
    engine: JoinHandle<Ended>,
}

impl Running {
    fn start(backend: Scripted) -> Self {
        Self::resume(backend, None)
    }

    fn resume(backend: Scripted, saved: Option<DesiredState>) -> Self {
        Self::remembering(backend, saved, Hold::new(Some(Duration::from_secs(300)), None, None))
    }

    fn remembering(backend: Scripted, saved: Option<DesiredState>, hold: Hold) -> Self {
        let prefix = tempfile::tempdir().unwrap();
        let file = StateFile::below(prefix.path());
        let backend = Arc::new(backend);
        let metrics = metrics();
        let (source, events) = mpsc::channel(16);
        let health = Arc::new(HealthState::new());
        let stop = CancellationToken::new();
        let rules = Rules {
            settings: PlanSettings { require_port: false, ..PlanSettings::default() },
            selector: Box::new(All::default()),
            resolvers: lbex_upstream::standard(),
        };
        let release = Arc::new(Notify::new());
        let (host, host_addresses) = watch::channel(HostAddresses::default());
        let engine = Engine {
            planner: Planner::new(rules),
            removals: Removals::new(hold, release.clone(), metrics.clone()),
            source: events,
            host: host_addresses,
            backend: backend.clone(),
            pace: Pace { reload_interval: Duration::from_secs(1) },
            saved,
            last_good: LastGood::start(file.clone(), Scope::default(), Remembered::default(), metrics.clone()),
            health: health.clone(),
            metrics: metrics.clone(),
        };
        let engine = tokio::spawn(engine.run(stop.clone()));
        Self { _prefix: prefix, file, backend, source, health, metrics, release, host, stop, engine }
    }

    async fn send(&self, event: SourceEvent) {
        self.source.send(event).await.unwrap();
        // All tasks have done what they can do by then.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    async fn end(self) {
        self.stop.cancel();
        assert_eq!(self.engine.await.unwrap(), Ended::Stopped);
    }
}

fn service(name: &str, port: u16) -> Change {
    let class = ("kubernetes.io/loadbalancer-class".into(), "loadbalancer-lbex".into());
    Change::Service(Box::new(Service {
        key: ServiceKey::new("default", name).unwrap(),
        uid: "".into(),
        created: None,
        kind: ServiceType::NodePort,
        load_balancer_class: None,
        annotations: [class].into(),
        unquoted: Vec::new(),
        cluster_ips: Vec::new(),
        headless: false,
        external_name: None,
        ports: vec![ServicePort { name: "".into(), protocol: Some(Protocol::Tcp), port, node_port: Some(30000) }],
        client_ip_affinity: false,
        local_traffic_only: false,
        source_ranges: Vec::new(),
    }))
}

fn node(ready: bool) -> Change {
    let addresses = vec![(NodeAddressType::Internal, "10.0.0.1".parse().unwrap())];
    Change::Node(Node { name: "n".into(), addresses, ready, leaving: false, excluded: false })
}

#[tokio::test(start_paused = true)]
async fn nothing_is_applied_before_every_first_list_is_complete() {
    let running = Running::start(Scripted::new());
    running.send(SourceEvent::Changes(vec![Change::AllServices(Vec::new()), service("web", 80)])).await;
    running.send(SourceEvent::Changes(vec![Change::AllEndpoints(EndpointsApi::Slices, Vec::new())])).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(running.backend.calls(), [], "nodes are still missing");
    assert!(!running.health.ready().ok);
    running.send(SourceEvent::Changes(vec![Change::AllNodes(Vec::new())])).await;
    running.send(SourceEvent::Synced).await;
    let calls = running.backend.calls();
    assert_eq!((calls.len(), calls[0].changed), (1, 1));
    assert!(running.health.ready().ok);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_proxy_is_started_though_there_is_nothing_to_serve_and_left_alone_when_nothing_that_matters_changes() {
    let running = Running::start(Scripted::new());
    running.send(SourceEvent::Synced).await;
    assert_eq!(running.backend.calls().len(), 1);
    running.send(SourceEvent::Changes(vec![node(true)])).await;
    running.send(SourceEvent::Changes(vec![node(false)])).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(running.backend.calls().len(), 1);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_in_trouble_changes_nothing_and_its_reason_is_told_until_there_is_something_to_serve() {
    let running = Running::start(Scripted::new());
    let text = "connection refused".to_owned();
    let (kind, lasting) = (ObjectKind::Node, Duration::ZERO);
    let trouble = |known| SourceEvent::Trouble(Trouble { kind, namespace: None, text: text.clone(), lasting, known });
    running.send(trouble(false)).await;
    let ready = running.health.ready();
    assert!(!ready.ok && ready.line.contains("connection refused"), "{ready:?}");
    running.send(SourceEvent::Changes(vec![service("web", 80)])).await;
    running.send(SourceEvent::Synced).await;
    running.send(trouble(true)).await;
    assert!(running.health.ready().ok);
    assert_eq!(running.backend.calls().len(), 1);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn looks_without_an_answer_do_not_have_the_last_good_state_applied_over_what_may_be_newer() {
    let backend = Scripted::new();
    backend.silent.store(true, std::sync::atomic::Ordering::Relaxed);
    let running = Running::resume(backend, Some(DesiredState::default()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(running.backend.calls(), []);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_apply_that_hangs_delays_no_answer_about_health() {
    let running = Running::start(Scripted { takes: Duration::from_secs(3600), ..Scripted::new() });
    running.send(SourceEvent::Synced).await;
    let seen = |healthy, detail: &str| Observed { healthy, detail: detail.to_owned(), ..Observed::default() };
    *running.backend.observed.lock().unwrap() = seen(true, "it runs");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(running.health.healthy().ok && running.health.live().ok);
    *running.backend.observed.lock().unwrap() = seen(false, "it died");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(running.health.healthy().line.contains("it died"));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_falls_out_of_step_is_put_right() {
    let running = Running::start(Scripted::new());
    let seen = |in_step| Observed { healthy: in_step, in_step, ..Observed::default() };
    *running.backend.observed.lock().unwrap() = seen(true);
    running.send(SourceEvent::Synced).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(running.backend.calls().len(), 1);
    *running.backend.observed.lock().unwrap() = seen(false);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    *running.backend.observed.lock().unwrap() = seen(true);
    assert_eq!(running.backend.calls().len(), 2);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(running.backend.calls().len(), 2);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_dies_before_it_was_seen_in_step_is_put_right_too() {
    let running = Running::start(Scripted::new());
    let seen = |in_step| Observed { healthy: in_step, in_step, ..Observed::default() };
    *running.backend.observed.lock().unwrap() = seen(false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(running.backend.calls(), [], "an adopted proxy is left alone until it is known what it should serve");
    running.send(SourceEvent::Synced).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let calls = running.backend.calls().len();
    assert!((2..10).contains(&calls), "again, but not all the time: {calls}");

    *running.backend.observed.lock().unwrap() = seen(true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    *running.backend.observed.lock().unwrap() = seen(false);
    let before = running.backend.calls().len();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let calls = running.backend.calls().len() - before;
    assert!((2..6).contains(&calls), "an apply may succeed and the proxy die at once: {calls}");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn looks_without_an_answer_count_when_several_come_in_a_row() {
    let running = Running::start(Scripted::new());
    running.send(SourceEvent::Synced).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let silent = |yes| running.backend.silent.store(yes, std::sync::atomic::Ordering::Relaxed);
    for _ in 0..5 {
        silent(true);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(running.health.healthy().ok, "two prove nothing");
        silent(false);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(running.backend.calls().len(), 1);

    silent(true);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let healthy = running.health.healthy();
    assert!(!healthy.ok && healthy.line.contains("it does not answer, "), "{healthy:?}");
    assert!(running.backend.calls().len() > 1, "a proxy that hangs is put right");
    silent(false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(running.health.healthy().ok);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_definite_answer_counts_at_once() {
    let running = Running::start(Scripted::new());
    running.send(SourceEvent::Synced).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let gone = Observed { detail: "it does not run".to_owned(), ..Observed::default() };
    *running.backend.observed.lock().unwrap() = gone;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(running.health.healthy().line.contains("it does not run"));
    assert_eq!(running.backend.calls().len(), 2);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ends_ends_the_loop() {
    let Running { source, engine, _prefix, .. } = Running::start(Scripted::new());
    drop(source);
    assert_eq!(engine.await.unwrap(), Ended::SourceEnded);
}

/// What planning makes of Services with these names and ports, and one node.
fn planned(services: &[(&str, u16)]) -> DesiredState {
    let settings = PlanSettings { require_port: false, ..PlanSettings::default() };
    let mut planner =
        Planner::new(Rules { settings, selector: Box::new(All::default()), resolvers: lbex_upstream::standard() });
    lists(services).into_iter().for_each(|change| planner.ingest(change));
    planner.plan();
    planner.desired().clone()
}

/// Complete lists of those.
fn lists(services: &[(&str, u16)]) -> Vec<Change> {
    let first = [Change::AllServices(Vec::new()), Change::AllEndpoints(EndpointsApi::Slices, Vec::new())];
    let nodes = Change::AllNodes(Vec::new());
    first
        .into_iter()
        .chain([nodes, node(true)])
        .chain(services.iter().map(|(name, port)| service(name, *port)))
        .collect()
}

fn unhealthy() -> Scripted {
    Scripted { observed: std::sync::Mutex::default(), ..Scripted::new() }
}

fn healthy() -> Observed {
    Observed { healthy: true, in_step: true, ..Observed::default() }
}

#[tokio::test(start_paused = true)]
async fn where_no_proxy_serves_the_last_good_state_is_applied_at_once_and_what_equals_it_is_not_applied_again() {
    let state = planned(&[("web", 80), ("dns", 53)]);
    let running = Running::resume(unhealthy(), Some(state.clone()));
    tokio::time::sleep(Duration::from_millis(10)).await;
    *running.backend.observed.lock().unwrap() = healthy();
    let calls = running.backend.calls();
    assert_eq!((calls.len(), calls[0].from, calls[0].generation, calls[0].changed), (1, 0, 1, 2));
    assert!(running.health.ready().ok, "{:?}", running.health.ready());

    // The source comes after minutes.
    tokio::time::sleep(Duration::from_secs(600)).await;
    running.send(SourceEvent::Changes(lists(&[("web", 80), ("dns", 53)]))).await;
    running.send(SourceEvent::Synced).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(running.backend.calls().len(), 1, "nothing differs");
    running.send(SourceEvent::Changes(vec![service("web", 81)])).await;
    let calls = running.backend.calls();
    assert_eq!((calls.len(), calls[1].from, calls[1].generation, calls[1].changed), (2, 1, 2, 1));
    let (file, _prefix) = (running.file.clone(), running.stop.cancel());
    assert_eq!(running.engine.await.unwrap(), Ended::Stopped);
    let saved = file.read().unwrap().expect("saved").desired;
    assert_eq!(saved.services, planned(&[("web", 81), ("dns", 53)]).services);
}

#[tokio::test(start_paused = true)]
async fn of_the_first_plan_only_what_differs_from_the_last_good_state_is_applied() {
    let running =
        Running::resume(unhealthy(), Some(planned(&[("same", 80), ("too", 79), ("other", 81), ("gone", 82)])));
    tokio::time::sleep(Duration::from_millis(10)).await;
    *running.backend.observed.lock().unwrap() = healthy();
    tokio::time::sleep(Duration::from_secs(5)).await;
    running.send(SourceEvent::Changes(lists(&[("same", 80), ("too", 79), ("other", 90), ("new", 91)]))).await;
    running.send(SourceEvent::Synced).await;
    let calls = running.backend.calls();
    assert_eq!((calls.len(), calls[1].from, calls[1].generation, calls[1].changed), (2, 1, 2, 3));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_serves_is_left_alone_until_there_is_a_plan_or_it_dies() {
    let running = Running::resume(Scripted::new(), Some(planned(&[("web", 80)])));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(running.backend.calls(), [], "it is never older than what was saved");
    assert!(running.health.ready().ok);
    *running.backend.observed.lock().unwrap() = Observed::default();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let calls = running.backend.calls();
    assert_eq!((calls[0].from, calls[0].generation, calls[0].changed), (0, 1, 1));
    running.end().await;

    let running = Running::resume(Scripted::new(), Some(planned(&[("web", 80)])));
    tokio::time::sleep(Duration::from_secs(5)).await;
    running.send(SourceEvent::Changes(lists(&[("web", 80), ("new", 81)]))).await;
    running.send(SourceEvent::Synced).await;
    let calls = running.backend.calls();
    assert_eq!((calls.len(), calls[0].from, calls[0].generation, calls[0].changed), (1, 0, 1, 2));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_last_good_state_that_cannot_be_applied_is_tried_again_and_is_not_ready() {
    let backend = unhealthy();
    let fail = || Err(lbex_core::backend::BackendError::Retry("no".to_owned()));
    *backend.script.lock().unwrap() = vec![fail(), fail()];
    let running = Running::resume(backend, Some(planned(&[("web", 80)])));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(!running.health.ready().ok);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(running.health.ready().ok);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn only_what_was_confirmed_is_saved() {
    let backend = Scripted::new();
    let fail = || Err(lbex_core::backend::BackendError::Permanent("no".to_owned()));
    *backend.script.lock().unwrap() = vec![fail()];
    let running = Running::start(backend);
    running.send(SourceEvent::Changes(lists(&[("web", 80)]))).await;
    running.send(SourceEvent::Synced).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(running.file.read().unwrap().is_none());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(running.file.read().unwrap().unwrap().desired.services, planned(&[("web", 80)]).services);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn servers_that_were_pushed_are_saved_without_an_apply() {
    let running = Running::start(Scripted { live_servers: true, ..Scripted::new() });
    let Change::Service(mut web) = service("web", 80) else { panic!() };
    web.annotations.insert("loadbalancer.lbex/node-set".into(), "all".into());
    let lists = lists(&[]).into_iter().chain([Change::Service(web)]).collect();
    running.send(SourceEvent::Changes(lists)).await;
    running.send(SourceEvent::Synced).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = running.file.read().unwrap().unwrap().desired;
    running.send(SourceEvent::Changes(vec![Change::AllNodes(Vec::new())])).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = running.file.read().unwrap().unwrap().desired;
    assert_eq!(running.backend.calls().len(), 1, "by a push");
    let changes = before.changes_to(&after);
    assert!(changes.len() == 1 && changes.values().all(lbex_core::desired::ServiceChange::servers_only), "{changes:?}");
    running.end().await;
}

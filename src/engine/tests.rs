//! The loop, with a backend that does as it is told, in virtual time.

use lbex_core::backend::Observed;
use lbex_core::model::{EndpointsApi, Service, ServicePort, ServiceType};
use lbex_core::model::{Node, NodeAddressType, Protocol};
use lbex_core::names::ServiceKey;
use lbex_core::planner::Rules;
use lbex_core::selector::All;
use lbex_core::settings::PlanSettings;
use tokio::task::JoinHandle;

mod removals;

use super::testing::{Scripted, metrics};
use super::*;
use crate::publish::ObjectKind;
use crate::source::Trouble;

struct Running {
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
            removals: Removals::new(Some(Duration::from_secs(300)), release.clone(), metrics.clone()),
            source: events,
            host: host_addresses,
            backend: backend.clone(),
            pace: Pace { reload_interval: Duration::from_secs(1) },
            health: health.clone(),
            metrics: metrics.clone(),
        };
        let engine = tokio::spawn(engine.run(stop.clone()));
        Self { backend, source, health, metrics, release, host, stop, engine }
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
async fn a_source_that_ends_ends_the_loop() {
    let Running { source, engine, .. } = Running::start(Scripted::new());
    drop(source);
    assert_eq!(engine.await.unwrap(), Ended::SourceEnded);
}

//! The source against a small HTTP server that plays a scripted API.

mod access;
mod connecting;
mod following;
mod lying;
mod server;
mod tls;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lbex_core::hold::Hold;
use lbex_core::snapshot::{Change, Snapshot};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use self::server::Api;
use super::contact::Contact;
use super::timing::Timing;
use super::{Access, KubeSettings, KubeSource};
use crate::settings::EndpointsApi;
use crate::source::{ObjectKind, Recovered, SourceEvent, SourceHandle, SourceObserver, Trouble};

/// How long anything in a test may take.
const LIMIT: Duration = Duration::from_secs(20);

fn quick() -> Timing {
    Timing {
        watch: Duration::from_secs(3),
        grace: Duration::from_millis(300),
        patience: Duration::from_secs(2),
        most_patience: Duration::from_secs(8),
        settled: Duration::from_millis(300),
        first_wait: Duration::from_millis(20),
        most_wait: Duration::from_millis(100),
        away: Duration::from_secs(10),
        tell_again: Duration::from_millis(300),
        renewal: Duration::from_millis(100),
    }
}

fn settings(api: &Api) -> KubeSettings {
    KubeSettings {
        access: Access::Proxy(api.url().parse().unwrap()),
        namespaces: Vec::new(),
        endpoints_api: EndpointsApi::Auto,
    }
}

fn service(namespace: &str, name: &str, version: u64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "namespace": namespace, "name": name, "resourceVersion": version.to_string(),
            "managedFields": [{"manager": "test", "fieldsV1": {"f:metadata": {}}}],
        },
        "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30080}]},
    })
}

fn node(name: &str, version: u64) -> Value {
    json!({
        "metadata": {"name": name, "resourceVersion": version.to_string()},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.1.0.1"}]},
    })
}

fn slice(name: &str, service: &str, address: &str, version: u64) -> Value {
    json!({
        "metadata": {
            "namespace": "default", "name": name, "resourceVersion": version.to_string(),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "nodeName": "node-1"}],
        "ports": [{"port": 8080}],
    })
}

fn event(what: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": what, "object": object}))
}

fn bookmark(version: u64) -> String {
    event("BOOKMARK", &json!({"metadata": {"resourceVersion": version.to_string()}}))
}

fn gone() -> Value {
    json!({"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old resource version"})
}

/// Counts watches that began anew.
#[derive(Debug, Default)]
struct Counts {
    restarts: AtomicU64,
    events: Mutex<BTreeMap<&'static str, u64>>,
    synced: AtomicU64,
}

impl SourceObserver for Counts {
    fn events(&self, kind: ObjectKind, count: u64) {
        *self.events.lock().unwrap().entry(kind.as_str()).or_default() += count;
    }
    fn watch_restarted(&self, _: ObjectKind) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }
    fn connected(&self, _: bool) {}
    fn synced(&self) {
        self.synced.fetch_add(1, Ordering::Relaxed);
    }
}

/// A source that runs, and what it has told so far.
struct Running {
    events: mpsc::Receiver<SourceEvent>,
    counts: Arc<Counts>,
    /// What stands between a source and the planner, at a standstill of its clock.
    hold: Hold,
    snapshot: Snapshot,
    synced: bool,
    /// How many complete lists of Services came.
    lists: usize,
    /// The most Services that went with one change or list.
    batches: Vec<usize>,
    troubles: Vec<Trouble>,
    recovered: Vec<Recovered>,
    /// The clusters that were told of.
    clusters: Vec<Option<Arc<str>>>,
    /// Every number of Services that the snapshot ever had after `Synced`.
    counted: Vec<usize>,
    _handle: SourceHandle,
}

impl Running {
    async fn start(settings: KubeSettings) -> Self {
        Self::start_with(settings, quick()).await
    }

    async fn start_with(settings: KubeSettings, timing: Timing) -> Self {
        let source = KubeSource::connect_with(settings, timing).await.unwrap();
        let (tx, events) = mpsc::channel(16);
        let counts = Arc::new(Counts::default());
        let observer: Arc<dyn SourceObserver> = counts.clone();
        Self {
            events,
            counts,
            hold: Hold::new(Some(Duration::from_secs(300)), None, None),
            snapshot: Snapshot::default(),
            synced: false,
            lists: 0,
            batches: Vec::new(),
            troubles: Vec::new(),
            recovered: Vec::new(),
            clusters: Vec::new(),
            counted: Vec::new(),
            _handle: source.run(&observer, tx),
        }
    }

    async fn on(api: &Api) -> Self {
        Self::start(settings(api)).await
    }

    /// Takes events in until `enough`.
    async fn until(&mut self, what: &str, enough: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        while !enough(self) {
            assert!(tokio::time::Instant::now() < deadline, "{what}: {:?} {:?}", self.services(), self.troubles);
            // Without an event the script may have gone on.
            let event = tokio::time::timeout(Duration::from_millis(50), self.events.recv()).await;
            if let Ok(event) = event {
                self.take(event.expect("the source goes on"));
            }
        }
    }

    /// Waits for the first complete state.
    async fn synced(mut self) -> Self {
        self.until("synced", |seen| seen.synced).await;
        self
    }

    fn take(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Changes(changes) => {
                assert!(!changes.is_empty());
                self.batches.push(changes.len());
                for change in changes {
                    self.lists += usize::from(matches!(change, Change::AllServices(_)));
                    let verdict = self.hold.judge(&self.snapshot, change, Duration::ZERO);
                    verdict.pass.into_iter().for_each(|change| drop(self.snapshot.apply(change)));
                    if self.synced {
                        self.counted.push(self.snapshot.services().len());
                    }
                }
            }
            SourceEvent::Synced => {
                assert!(!self.synced, "sent once");
                self.synced = true;
            }
            SourceEvent::Cluster(cluster) => {
                self.clusters.push(cluster.clone());
                self.hold.cluster(cluster);
            }
            SourceEvent::Trouble(trouble) => self.troubles.push(trouble),
            SourceEvent::Recovered(recovered) => self.recovered.push(recovered),
        }
    }

    fn services(&self) -> Vec<String> {
        self.snapshot.services().map(|s| s.key.to_string()).collect()
    }
}

//! The metrics of LBEX, in the OpenMetrics text format. README.md lists them all; a test holds the two together.
//!
//! Gauges of what is served follow the deltas that were applied, and gauges of problems the changes that
//! [`super::ProblemLog`] is told of, so that keeping them costs as much as the change is large.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lbex_core::backend::{ApplyReport, BackendError, Instead, Observed, PushStanding, Refusal, ReloadReason};
use lbex_core::desired::{Delta, Servers, ServiceConfig};
use lbex_core::model::{ObjectKind, Protocol};
use lbex_core::rejection::Rejection;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::apis::ApiMetrics;
use super::measures::Measures;
use super::process::ProcessCollector;

/// What this LBEX is, for `lbex_build_info`.
#[derive(Debug, Clone)]
pub struct BuildInfo {
    /// The version.
    pub version: String,
    /// The commit it was built from; `unknown` where the build did not know.
    pub commit: String,
    /// The backend in words ([`lbex_core::backend::Capabilities::description`]).
    pub backend: String,
}

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Counters = Family<Labels<1>, Counter>;
type Gauges<const N: usize> = Family<Labels<N>, Gauge>;
type Timestamp = Gauge<f64, AtomicU64>;
type Durations = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// Every metric of LBEX. Cheap to write from anywhere; written out by [`Metrics::encode`].
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events: Counters,
    watch_restarts: Counters,
    source_connected: Gauge,
    removals_held: Gauges<1>,
    cluster_held: Gauge,
    last_sync: Timestamp,
    plan_duration: Histogram,
    apply_duration: Durations,
    apply_failures: Counters,
    reloads: Counters,
    push_duration: Histogram,
    late_pushes: Counter,
    last_apply: Timestamp,
    desired_generation: Gauge<i64, AtomicI64>,
    applied_generation: Gauge<i64, AtomicI64>,
    services_asked: Gauge,
    services_served: Gauge,
    listeners: Gauges<1>,
    endpoints: Gauge,
    rejections: Gauges<2>,
    refusals: Gauges<1>,
    proxy_healthy: Gauge,
    last_good: Timestamp,
    last_good_failures: Counter,
    draining: Gauge,
    draining_connections: Gauge,
    push_names: Gauges<1>,
    push_messages: Counters,
    suppressed: Counter,
    admin_dropped: Counter,
    apis: ApiMetrics,
    measures: Measures,
    /// Held while several change together, and while they are written.
    together: Mutex<()>,
}

impl Metrics {
    /// What [`Metrics::encode`] writes.
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// All metrics at zero, in a registry of their own.
    pub fn new(build: &BuildInfo) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            events: Family::default(),
            watch_restarts: Family::default(),
            source_connected: Gauge::default(),
            removals_held: Family::default(),
            cluster_held: Gauge::default(),
            last_sync: Gauge::default(),
            plan_duration: plan_buckets(),
            apply_duration: Family::new_with_constructor(apply_buckets),
            apply_failures: Family::default(),
            reloads: Family::default(),
            push_duration: push_buckets(),
            late_pushes: Counter::default(),
            last_apply: Gauge::default(),
            desired_generation: Gauge::default(),
            applied_generation: Gauge::default(),
            services_asked: Gauge::default(),
            services_served: Gauge::default(),
            listeners: Family::default(),
            endpoints: Gauge::default(),
            rejections: Family::default(),
            refusals: Family::default(),
            proxy_healthy: Gauge::default(),
            last_good: Gauge::default(),
            last_good_failures: Counter::default(),
            draining: Gauge::default(),
            draining_connections: Gauge::default(),
            push_names: Family::default(),
            push_messages: Family::default(),
            suppressed: Counter::default(),
            admin_dropped: Counter::default(),
            apis: ApiMetrics::default(),
            measures: Measures::default(),
            together: Mutex::default(),
        };
        metrics.register_source();
        metrics.register_work();
        metrics.register_served();
        metrics.register_rest(build);
        metrics.start_at_zero();
        metrics
    }

    fn register_source(&mut self) {
        let r = &mut self.registry;
        r.register("lbex_events", "Changes of objects that the source reported", self.events.clone());
        let help = "Watches begun anew: after an error, an expired version, a lost connection";
        r.register("lbex_watch_restarts", help, self.watch_restarts.clone());
        let help = "1 while the source (API server or manifests) answers, else 0";
        r.register("lbex_source_connected", help, self.source_connected.clone());
        let help = "Services, Nodes and endpoints that stay although a complete list lacks them, since it lacks most";
        r.register("lbex_removals_held", help, self.removals_held.clone());
        let help = "1 while another cluster answers than the known one, and nothing of it is taken in, else 0";
        r.register("lbex_cluster_held", help, self.cluster_held.clone());
        let help = "When every watch was last known to be in step with the source, since the epoch; 0: never";
        r.register_with_unit("lbex_last_sync_timestamp", help, Unit::Seconds, self.last_sync.clone());
    }

    fn register_work(&mut self) {
        let r = &mut self.registry;
        let help = "Time to work out the desired state after a batch of events";
        r.register_with_unit("lbex_plan_duration", help, Unit::Seconds, self.plan_duration.clone());
        let help = "Time until the data plane confirmed a desired state, by how it was put into effect";
        r.register_with_unit("lbex_apply_duration", help, Unit::Seconds, self.apply_duration.clone());
        let help = "Desired states that the backend could not apply, by whether trying again can help";
        r.register("lbex_apply_failures", help, self.apply_failures.clone());
        r.register("lbex_reloads", "Reloads of the proxy, by why", self.reloads.clone());
        let help = "Time until the data plane had taken a change of servers without a reload; each is a reload avoided";
        r.register_with_unit("lbex_push_duration", help, Unit::Seconds, self.push_duration.clone());
        let help = "Services whose change of servers the data plane did not take in time, so that a reload was needed";
        r.register("lbex_late_pushes", help, self.late_pushes.clone());
        let help = "When a desired state was last confirmed by the data plane, since the epoch; 0: never";
        r.register_with_unit("lbex_last_apply_timestamp", help, Unit::Seconds, self.last_apply.clone());
        let help = "Generation of the desired state that is to be applied";
        r.register("lbex_desired_generation", help, self.desired_generation.clone());
        let help = "Generation of the desired state that the data plane confirmed last";
        r.register("lbex_applied_generation", help, self.applied_generation.clone());
    }

    fn register_served(&mut self) {
        let r = &mut self.registry;
        let help = "Services that ask for LBEX, those of other pools included";
        r.register("lbex_services_asked", help, self.services_asked.clone());
        let help = "Services that are served; those that the backend leaves out, wholly or in part, are not counted";
        r.register("lbex_services_served", help, self.services_served.clone());
        r.register("lbex_listeners", "Listeners in the applied state", self.listeners.clone());
        let help = "Addresses of upstream servers in the applied state, counted once per listener";
        r.register("lbex_endpoints", help, self.endpoints.clone());
        let help = "Problems of Services that planning found and that are there now";
        r.register("lbex_rejections", help, self.rejections.clone());
        let help = "Services' refusals by the backend that are there now";
        r.register("lbex_refusals", help, self.refusals.clone());
    }

    fn register_rest(&mut self, build: &BuildInfo) {
        let r = &mut self.registry;
        let help = "1 while the proxy answers with a configuration that LBEX wrote, else 0";
        r.register("lbex_proxy_healthy", help, self.proxy_healthy.clone());
        let help = "When the last good state was last saved, since the epoch; 0: not by this process";
        r.register_with_unit("lbex_last_good_timestamp", help, Unit::Seconds, self.last_good.clone());
        let help = "Attempts to save, or to read at start, the last good state that failed";
        r.register("lbex_last_good_failures", help, self.last_good_failures.clone());
        let help = "Workers of the proxy that only finish the connections they have";
        r.register("lbex_draining_workers", help, self.draining.clone());
        let help = "Connections that those workers hold, to clients and to endpoints";
        r.register("lbex_draining_connections", help, self.draining_connections.clone());
        let help = "Names that the proxy asks for instead of being reloaded, by whether it has their newest endpoints";
        r.register("lbex_push_names", help, self.push_names.clone());
        let help = "Messages between LBEX and the proxy about endpoints";
        r.register("lbex_push_messages", help, self.push_messages.clone());
        let help = "Log lines about problems of Services that were joined into a summary";
        r.register("lbex_log_lines_suppressed", help, self.suppressed.clone());
        let help = "Connections to the health and metrics ports that made way for newer ones";
        r.register("lbex_admin_connections_dropped", help, self.admin_dropped.clone());
        self.apis.register(r);
        let BuildInfo { version, commit, backend } = build.clone();
        let labels = vec![("version", version), ("commit", commit), ("backend", backend)];
        r.register("lbex_build", "What this LBEX is", Info::new(labels));
        r.register_collector(Box::new(ProcessCollector));
    }

    /// Series that are to be seen before the first of their kind happens.
    fn start_at_zero(&self) {
        for kind in ObjectKind::ALL {
            drop(self.events.get_or_create(&[("kind", kind.as_str())]));
            drop(self.watch_restarts.get_or_create(&[("kind", kind.as_str())]));
            drop(self.removals_held.get_or_create(&[("kind", kind.as_str())]));
        }
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            drop(self.listeners.get_or_create(&[("protocol", protocol.as_str())]));
        }
        for reason in ReloadReason::ALL {
            drop(self.reloads.get_or_create(&[("reason", reason.as_str())]));
        }
        for retry in ["false", "true"] {
            drop(self.apply_failures.get_or_create(&[("retry", retry)]));
        }
    }

    /// The OpenMetrics text of everything. What belongs to one plan, one report or one delta is in it as a whole, or not at all.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let _together = self.together();
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        self.measures.encode(&mut text)?;
        encode_eof(&mut text)?;
        Ok(text)
    }

    /// Nothing is written as long as this is held.
    pub(super) fn together(&self) -> MutexGuard<'_, ()> {
        // There is nothing in it that a panic could leave half done.
        self.together.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source reported `count` changes of objects of a kind.
    pub fn events(&self, kind: ObjectKind, count: u64) {
        self.events.get_or_create(&[("kind", kind.as_str())]).inc_by(count);
    }

    /// A watch began anew.
    pub fn watch_restarted(&self, kind: ObjectKind) {
        self.watch_restarts.get_or_create(&[("kind", kind.as_str())]).inc();
    }

    /// Whether the source answers.
    pub fn set_source_connected(&self, connected: bool) {
        self.source_connected.set(connected.into());
    }

    /// How many removals are held, by kind, and whether another cluster is.
    pub fn held(&self, removals: [(ObjectKind, usize); 3], cluster: bool) {
        for (kind, count) in removals {
            self.removals_held.get_or_create(&[("kind", kind.as_str())]).set(signed(count));
        }
        self.cluster_held.set(cluster.into());
    }

    /// Whether [`held`](Self::held) last said that any of a kind is held, and that a cluster is.
    #[cfg(test)]
    pub(crate) fn says_held(&self) -> ([(ObjectKind, bool); 3], bool) {
        let of = |kind: ObjectKind| self.removals_held.get_or_create(&[("kind", kind.as_str())]).get() > 0;
        (ObjectKind::ALL.map(|kind| (kind, of(kind))), self.cluster_held.get() > 0)
    }

    /// Every watch is in step with the source now.
    pub fn synced(&self) {
        self.last_sync.set(now());
    }

    /// A plan was made: how long it took, and how many Services ask for LBEX.
    pub fn planned(&self, took: Duration, services_asked: usize) {
        self.plan_duration.observe(took.as_secs_f64());
        self.services_asked.set(signed(services_asked));
    }

    /// This generation of the desired state is to be applied.
    pub fn desired(&self, generation: u64) {
        self.desired_generation.set(signed(generation));
    }

    /// The last good state was saved.
    pub fn last_good_saved(&self) {
        self.last_good.set(now());
    }

    /// The last good state could not be saved, or not be read at start.
    pub fn last_good_failed(&self) {
        self.last_good_failures.inc();
    }

    /// The backend applied a desired state. `delta` is what it was given as changed since it last did.
    pub fn applied(&self, delta: &Delta, report: &ApplyReport, took: Duration) {
        let _together = self.together();
        self.apply_duration.get_or_create(&[("action", report.action.as_str())]).observe(took.as_secs_f64());
        for reason in &report.reloads {
            self.reloads.get_or_create(&[("reason", reason.as_str())]).inc();
        }
        self.confirmed(delta, report.generation);
    }

    /// Changes of servers were pushed; `late`: how many Services' the data plane did not take in time.
    pub fn pushed(&self, delta: &Delta, late: usize, took: Duration) {
        let _together = self.together();
        if late == 0 {
            self.push_duration.observe(took.as_secs_f64());
        }
        self.late_pushes.inc_by(late as u64);
        self.confirmed(delta, delta.to);
    }

    /// Whoever calls it holds [`Self::together`].
    fn confirmed(&self, delta: &Delta, generation: u64) {
        self.applied_generation.set(signed(generation).max(self.applied_generation.get()));
        self.last_apply.set(now());
        for change in delta.changes.values() {
            change.before().inspect(|config| self.count(config, -1));
            change.after().inspect(|config| self.count(config, 1));
        }
    }

    /// The backend could apply nothing.
    pub fn apply_failed(&self, error: &BackendError) {
        let retry = match error {
            BackendError::Retry(_) => "true",
            BackendError::Permanent(_) => "false",
        };
        self.apply_failures.get_or_create(&[("retry", retry)]).inc();
    }

    /// What was seen of the proxy; `None`: it could not be looked at.
    pub fn observed(&self, observed: Option<&Observed>) {
        self.proxy_healthy.set(observed.is_some_and(|o| o.healthy).into());
        if let Some(observed) = observed {
            self.draining.set(observed.draining.into());
            if let Some(count) = observed.draining_connections {
                self.draining_connections.set(signed(count));
            }
            observed.push.inspect(|push| self.push_stands(push));
            self.apis.observed(&observed.apis);
        }
    }

    /// What the backend measured when it last looked at the proxy.
    pub(crate) fn measured(&self, measures: &std::collections::BTreeMap<String, f64>) {
        self.measures.set(measures);
    }

    fn push_stands(&self, push: &PushStanding) {
        let set = |state, count: usize| self.push_names.get_or_create(&[("state", state)]).set(signed(count));
        set("current", push.names.saturating_sub(push.behind));
        set("behind", push.behind);
        set("silent", push.silent);
        let counts = [
            ("question", push.questions),
            ("answer", push.answers),
            ("repeated", push.repeated),
            ("ignored", push.ignored),
            ("unsent", push.unsent),
        ];
        for (kind, count) in counts {
            let counter = self.push_messages.get_or_create(&[("kind", kind)]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// A connection to the health or metrics port made way for a newer one.
    pub(crate) fn admin_connection_dropped(&self) {
        self.admin_dropped.inc();
    }

    /// `count` lines of the problem log were joined into a summary.
    pub(super) fn log_suppressed(&self, count: u64) {
        self.suppressed.inc_by(count);
    }

    /// The rejections of one Service changed.
    pub(super) fn rejections_changed(&self, before: &[Rejection], after: &[Rejection]) {
        let labels = |r: &Rejection| [("reason", r.reason.code()), ("effect", r.effect().as_str())];
        let added = after.iter().map(|r| (labels(r), 1));
        shift(&self.rejections, added.chain(before.iter().map(|r| (labels(r), -1))));
    }

    /// The refusals of one Service changed.
    pub(super) fn refusals_changed(&self, before: &[Refusal], after: &[Refusal]) {
        let labels = |r: &Refusal| [("code", r.code)];
        let added = after.iter().map(|r| (labels(r), 1));
        shift(&self.refusals, added.chain(before.iter().map(|r| (labels(r), -1))));
        let left_out = |refusals: &[Refusal]| i64::from(refusals.iter().any(|r| r.instead == Instead::LeftOut));
        self.services_served.inc_by(left_out(before) - left_out(after));
    }

    fn count(&self, config: &ServiceConfig, sign: i64) {
        self.services_served.inc_by(sign);
        for listener in &config.listeners {
            self.listeners.get_or_create(&[("protocol", listener.protocol.as_str())]).inc_by(sign);
            let servers = match &listener.upstream.servers {
                Servers::Addresses(addresses) => signed(addresses.len()),
                Servers::Dns { .. } => 1,
            };
            self.endpoints.inc_by(sign * servers);
        }
    }
}

/// Adds up what changes per label set, then changes the gauges; those that come to zero disappear. For one writer.
fn shift<const N: usize>(gauges: &Gauges<N>, changes: impl Iterator<Item = (Labels<N>, i64)>) {
    let mut sums: BTreeMap<Labels<N>, i64> = BTreeMap::new();
    for (labels, by) in changes {
        *sums.entry(labels).or_default() += by;
    }
    for (labels, by) in sums {
        if by != 0 && gauges.get_or_create(&labels).inc_by(by) + by == 0 {
            gauges.remove(&labels);
        }
    }
}

fn plan_buckets() -> Histogram {
    Histogram::new([0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0])
}

fn push_buckets() -> Histogram {
    Histogram::new([0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0])
}

fn apply_buckets() -> Histogram {
    Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0])
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Counts beyond 2^63 do not occur.
pub(super) fn signed(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

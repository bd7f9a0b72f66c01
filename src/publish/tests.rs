//! Metrics and the problem log, seen from outside.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lbex_core::backend::{
    Action, ApiStanding, ApplyReport, BackendError, Instead, Observed, PushStanding, Refusal, ReloadReason,
};
use lbex_core::desired::{Algorithm, Delta, Listener, Servers, ServiceChange, ServiceConfig, Upstream};
use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;
use lbex_core::rejection::{Reason, Rejection};
use tracing_subscriber::fmt::MakeWriter;

use super::*;

fn metrics() -> Arc<Metrics> {
    let build = BuildInfo { version: "1.2.3".into(), commit: "abc".into(), backend: "NGINX \"x\"".into() };
    Arc::new(Metrics::new(&build))
}

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("default", name).unwrap()
}

/// The value of a series, as written.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.encode().unwrap();
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn config(name: &str, servers: &[&str]) -> Arc<ServiceConfig> {
    let upstream = Upstream {
        algorithm: Algorithm::RoundRobin,
        servers: Servers::Addresses(servers.iter().map(|s| s.parse().unwrap()).collect()),
    };
    let listener = Listener {
        protocol: Protocol::Udp,
        port: 123,
        addresses: Arc::from(["0.0.0.0".parse().unwrap()]),
        allow: Arc::from([]),
        connect_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(60),
        upstream,
    };
    Arc::new(ServiceConfig { service: key(name), created: None, listeners: vec![listener] })
}

fn delta(from: u64, name: &str, change: ServiceChange) -> Delta {
    Delta { from, to: from + 1, changes: BTreeMap::from([(key(name), change)]) }
}

fn report(generation: u64) -> ApplyReport {
    ApplyReport { generation, action: Action::Reloaded, reloads: Vec::new(), refused: BTreeMap::new() }
}

#[test]
fn what_is_served_follows_the_applied_deltas() {
    let metrics = metrics();
    let (one, two) = (config("ntp", &["10.0.0.1:123"]), config("ntp", &["10.0.0.1:123", "10.0.0.2:123"]));
    metrics.applied(&delta(0, "ntp", ServiceChange::Added(one.clone())), &report(1), Duration::from_millis(30));
    assert_eq!(value(&metrics, "lbex_endpoints"), Some(1.0));
    let grown = ServiceChange::Changed { before: one, after: two.clone() };
    metrics.applied(&delta(1, "ntp", grown), &report(2), Duration::from_millis(30));
    assert_eq!(value(&metrics, "lbex_endpoints"), Some(2.0));
    assert_eq!(value(&metrics, "lbex_services_served"), Some(1.0));
    assert_eq!(value(&metrics, "lbex_listeners{protocol=\"udp\"}"), Some(1.0));
    assert_eq!(value(&metrics, "lbex_applied_generation"), Some(2.0));
    assert_eq!(value(&metrics, "lbex_apply_duration_seconds_count{action=\"reloaded\"}"), Some(2.0));
    assert!(value(&metrics, "lbex_last_apply_timestamp_seconds").unwrap() > 1e9);
    metrics.applied(&delta(2, "ntp", ServiceChange::Removed(two)), &report(3), Duration::ZERO);
    for series in ["lbex_endpoints", "lbex_services_served", "lbex_listeners{protocol=\"udp\"}"] {
        assert_eq!(value(&metrics, series), Some(0.0), "{series}");
    }
}

#[test]
fn every_other_method_moves_its_series() {
    let metrics = metrics();
    metrics.events(ObjectKind::Endpoints, 7);
    metrics.watch_restarted(ObjectKind::Node);
    metrics.set_source_connected(true);
    metrics.synced();
    metrics.planned(Duration::from_micros(30), 4);
    metrics.desired(9);
    metrics.last_good_saved();
    metrics.last_good_failed();
    metrics.apply_failed(&BackendError::Retry(String::new()));
    metrics.observed(Some(&Observed {
        healthy: true,
        draining: 3,
        draining_connections: Some(40),
        ..Observed::default()
    }));
    for (series, expected) in [
        ("lbex_events_total{kind=\"endpoints\"}", 7.0),
        ("lbex_events_total{kind=\"service\"}", 0.0),
        ("lbex_watch_restarts_total{kind=\"node\"}", 1.0),
        ("lbex_source_connected", 1.0),
        ("lbex_plan_duration_seconds_count", 1.0),
        ("lbex_desired_generation", 9.0),
        ("lbex_services_asked", 4.0),
        ("lbex_apply_failures_total{retry=\"true\"}", 1.0),
        ("lbex_apply_failures_total{retry=\"false\"}", 0.0),
        ("lbex_proxy_healthy", 1.0),
        ("lbex_draining_workers", 3.0),
        ("lbex_draining_connections", 40.0),
        ("lbex_last_good_failures_total", 1.0),
        ("lbex_build_info{version=\"1.2.3\",commit=\"abc\",backend=\"NGINX \\\"x\\\"\"}", 1.0),
    ] {
        assert_eq!(value(&metrics, series), Some(expected), "{series}");
    }
    for series in ["lbex_last_sync_timestamp_seconds", "lbex_last_good_timestamp_seconds"] {
        assert!(value(&metrics, series).unwrap() > 1e9, "{series}");
    }
    metrics.observed(None);
    assert_eq!(value(&metrics, "lbex_proxy_healthy"), Some(0.0));
}

#[test]
fn every_reload_is_counted_with_its_reason() {
    let metrics = metrics();
    let reloads = vec![ReloadReason::Late, ReloadReason::Listeners, ReloadReason::Late];
    metrics.applied(&Delta::default(), &ApplyReport { reloads, ..report(1) }, Duration::ZERO);
    for reason in ReloadReason::ALL {
        let expected = match reason {
            ReloadReason::Late => 2.0,
            ReloadReason::Listeners => 1.0,
            _ => 0.0,
        };
        let series = format!("lbex_reloads_total{{reason=\"{}\"}}", reason.as_str());
        assert_eq!(value(&metrics, &series), Some(expected), "{series}");
        assert!(
            include_str!("../../README.md").contains(&format!("`{}`", reason.as_str())),
            "README.md lacks {reason:?}"
        );
    }
}

fn api(url: &str, drift: u64) -> ApiStanding {
    let servers = BTreeMap::from([("up", 3), ("down", 0)]);
    ApiStanding { url: url.to_owned(), answers: true, in_step: 2, servers, drift, ..ApiStanding::default() }
}

#[test]
fn apis_are_told_apart_and_what_they_count_only_grows() {
    let metrics = metrics();
    for drift in [1, 3] {
        let dead = ApiStanding { answers: false, ..api("http://b", 0) };
        metrics.observed(Some(&Observed { apis: vec![api("http://a", drift), dead], ..Observed::default() }));
    }
    for (series, expected) in [
        ("lbex_api_up{url=\"http://a\"}", 1.0),
        ("lbex_api_up{url=\"http://b\"}", 0.0),
        ("lbex_api_upstreams{url=\"http://a\",state=\"in_step\"}", 2.0),
        ("lbex_api_servers{url=\"http://a\",state=\"up\"}", 3.0),
        ("lbex_api_servers{url=\"http://a\",state=\"down\"}", 0.0),
        ("lbex_api_drift_total{url=\"http://a\"}", 3.0),
        ("lbex_api_calls_total{url=\"http://a\",result=\"failed\"}", 0.0),
    ] {
        assert_eq!(value(&metrics, series), Some(expected), "{series}");
    }
}

#[test]
fn the_process_is_measured() {
    let metrics = metrics();
    assert!(value(&metrics, "process_resident_memory_bytes").unwrap() > 100_000.0);
    assert!(value(&metrics, "process_open_fds").unwrap() >= 3.0);
    assert!(value(&metrics, "process_max_fds").unwrap() >= 3.0);
    assert!(value(&metrics, "process_cpu_seconds_total").is_some());
    let start = value(&metrics, "process_start_time_seconds").unwrap();
    let age = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64() - start;
    assert!((-2.0..86_400.0).contains(&age), "started {age} s ago");
}

#[test]
fn what_a_plugin_measures_is_there_as_long_as_it_measures_it() {
    let metrics = metrics();
    let family = "lbex_plugin_measure";
    assert!(!metrics.encode().unwrap().contains(family), "nobody measures anything");
    metrics.measured(&BTreeMap::from([("sessions".to_owned(), 3.0), ("errors".to_owned(), 0.5)]));
    let text = metrics.encode().unwrap();
    assert!(text.contains("lbex_plugin_measure{name=\"sessions\"} 3.0\n") && text.ends_with("# EOF\n"), "{text}");
    metrics.measured(&BTreeMap::from([("sessions".to_owned(), 4.0)]));
    assert!(!metrics.encode().unwrap().contains("errors"));
    metrics.measured(&BTreeMap::new());
    assert!(!metrics.encode().unwrap().contains(family));
}

/// Everything that README.md's table names is there, and everything that is there is in the table.
#[test]
fn the_readme_lists_all_metrics() {
    let metrics = metrics();
    metrics.applied(&Delta::default(), &report(1), Duration::ZERO);
    metrics.observed(Some(&Observed {
        push: Some(PushStanding::default()),
        apis: vec![api("http://a", 1)],
        ..Observed::default()
    }));
    let refusal = Refusal { code: "PortInUse", message: String::new(), instead: Instead::LeftOut, retry: true };
    let mut log = ProblemLog::new(metrics.clone());
    log.planned(&changed("a", vec![few_nodes(1)]));
    log.reported(&BTreeMap::from([(key("a"), vec![refusal])]));
    let text = metrics.encode().unwrap();
    let families = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next());
    let readme = include_str!("../../README.md");
    for family in families {
        assert!(readme.contains(&format!("| `{family}")), "README.md's table lacks {family}");
    }
    let listed = readme.lines().filter_map(|l| l.strip_prefix("| `")?.split(['`', '{']).next());
    for name in listed.filter(|name| name.starts_with("lbex_") || name.starts_with("process_")) {
        let family = name.trim_end_matches("_total").trim_end_matches("_info");
        assert!(text.contains(&format!("# TYPE {family} ")), "README.md lists {name}, which does not exist");
    }
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Captured {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// What `work` logs at level info and above, line by line, without times and colours.
fn logged(work: impl FnOnce()) -> Vec<String> {
    // Somebody is always interested: else a line that another thread is just about to log for the first time, to nobody, may
    // count as unwanted by all. Whoever set another one did the same.
    tracing::subscriber::set_global_default(tracing_subscriber::registry()).ok();
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(captured.clone())
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let bytes = captured.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(|l| l.trim().to_owned()).collect()
}

fn changed(name: &str, rejections: Vec<Rejection>) -> BTreeMap<ServiceKey, Arc<[Rejection]>> {
    BTreeMap::from([(key(name), rejections.into())])
}

fn few_nodes(count: usize) -> Rejection {
    Rejection::of_service(Reason::NodeWithoutAddress { count, example: format!("node-{count}"), wanted: "external" })
}

#[test]
fn a_problem_is_logged_when_it_appears_and_when_it_is_gone() {
    let metrics = metrics();
    let mut log = ProblemLog::new(metrics.clone());
    let no_node_port = Rejection::of_port("web", Reason::NoNodePort);
    let lines = logged(|| {
        log.planned(&changed("a", vec![no_node_port.clone(), few_nodes(3)]));
        log.planned(&changed("a", vec![no_node_port.clone(), few_nodes(4)]));
    });
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("WARN not served: port \"web\": it has no nodePort"), "{lines:?}");
    assert!(lines[0].ends_with("service=default/a reason=\"NoNodePort\""), "{lines:?}");
    assert!(lines[1].starts_with("WARN 3 node(s) left out"), "{lines:?}");
    let series = "lbex_rejections{reason=\"NoNodePort\",effect=\"not_served\"}";
    assert_eq!(value(&metrics, series), Some(1.0));

    let lines = logged(|| log.planned(&changed("a", vec![])));
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("INFO no longer: not served: port \"web\""), "{lines:?}");
    assert_eq!(value(&metrics, series), None, "a stale reason disappears");
}

#[test]
fn levels_follow_what_a_problem_means() {
    let mut log = ProblemLog::new(metrics());
    let lines = logged(|| {
        log.planned(&changed("a", vec![Rejection::of_service(Reason::AllTerminating)]));
        let other = Reason::OtherPool { pool: None, instance: "--service-pool=x".into() };
        log.planned(&changed("b", vec![Rejection::of_service(other)]));
        log.planned(&changed("b", vec![]));
    });
    assert_eq!(lines.len(), 1, "another instance's Services are not worth a line: {lines:?}");
    assert!(lines[0].starts_with("INFO all endpoints are terminating"), "{lines:?}");
}

#[test]
fn thousands_of_problems_become_some_lines_and_a_summary() {
    let metrics = metrics();
    let mut log = ProblemLog::new(metrics.clone());
    let all = |rejections: &[Rejection]| -> BTreeMap<ServiceKey, Arc<[Rejection]>> {
        (0..3000).map(|i| (key(&format!("s{i}")), rejections.into())).collect()
    };
    let lines = logged(|| log.planned(&all(&[Rejection::of_service(Reason::NoPorts)])));
    assert!(lines.len() < 60, "{} lines", lines.len());
    let summary = lines.last().unwrap();
    let suppressed = 3000 - (lines.len() - 1);
    assert!(
        summary.contains(&format!("{suppressed} more problems of Services appeared (NoPorts {suppressed})")),
        "{summary}"
    );
    assert_eq!(value(&metrics, "lbex_rejections{reason=\"NoPorts\",effect=\"not_served\"}"), Some(3000.0));
    #[allow(clippy::cast_precision_loss)]
    let expected = suppressed as f64;
    assert_eq!(value(&metrics, "lbex_log_lines_suppressed_total"), Some(expected));
    let lines = logged(|| log.planned(&all(&[])));
    assert!(lines.len() < 10, "the next summary waits: {lines:?}");
}

#[test]
fn refusals_are_told_once_and_counted() {
    let metrics = metrics();
    let mut log = ProblemLog::new(metrics.clone());
    let add = delta(0, "a", ServiceChange::Added(config("a", &[])));
    metrics.applied(&add, &report(1), Duration::ZERO);
    let taken = Refusal {
        code: "PortInUse",
        message: "UDP port 123 is held by another process".into(),
        instead: Instead::LeftOut,
        retry: true,
    };
    let refused = BTreeMap::from([(key("a"), vec![taken])]);
    let lines = logged(|| {
        log.reported(&refused);
        log.reported(&refused);
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("UDP port 123 is held by another process; it is not served"), "{lines:?}");
    assert_eq!(value(&metrics, "lbex_refusals{code=\"PortInUse\"}"), Some(1.0));
    assert_eq!(value(&metrics, "lbex_services_served"), Some(0.0));
    let lines = logged(|| log.reported(&BTreeMap::new()));
    assert!(lines.len() == 1 && lines[0].starts_with("INFO no longer: refused"), "{lines:?}");
    assert_eq!(value(&metrics, "lbex_refusals{code=\"PortInUse\"}"), None);
    assert_eq!(value(&metrics, "lbex_services_served"), Some(1.0));
}

//! The driver's pace and persistence, in virtual time.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lbex_core::backend::{BackendError, Instead, Refusal};
use lbex_core::desired::{Algorithm, Listener, Servers, ServiceChange, ServiceConfig, Upstream};
use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;

use super::*;
use crate::engine::testing::{Call, Scripted, metrics};

fn config(servers: &[&str]) -> Arc<ServiceConfig> {
    let servers: Vec<SocketAddr> = servers.iter().map(|s| s.parse().unwrap()).collect();
    let listener = Listener {
        protocol: Protocol::Tcp,
        port: 80,
        addresses: ["0.0.0.0".parse().unwrap()].into(),
        allow: [].into(),
        connect_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(3),
        upstream: Upstream { algorithm: Algorithm::RoundRobin, servers: Servers::Addresses(servers.into()) },
    };
    Arc::new(ServiceConfig { service: key(), created: None, listeners: vec![listener] })
}

fn key() -> ServiceKey {
    ServiceKey::new("default", "web").unwrap()
}

/// Generation `n` - 1 to `n`: the Service comes, then its one server changes.
fn delta(n: u64) -> Delta {
    let after = config(&[&format!("10.0.0.{n}:80")]);
    let change = match n {
        1 => ServiceChange::Added(after),
        _ => ServiceChange::Changed { before: config(&[&format!("10.0.0.{}:80", n - 1)]), after },
    };
    Delta { from: n - 1, to: n, changes: BTreeMap::from([(key(), change)]) }
}

fn start(backend: &Arc<Scripted>) -> Driver {
    Driver::start(backend.clone(), Pace { reload_interval: Duration::from_secs(1) }, metrics())
}

fn call(after_ms: u64, generation: u64, from: u64) -> Call {
    Call { after: Duration::from_millis(after_ms), generation, from, changed: 1 }
}

async fn applied(driver: &Driver) -> bool {
    matches!(driver.progress().await, Some(Progress::Applied(_)))
}

#[tokio::test(start_paused = true)]
async fn the_first_change_goes_at_once_then_one_reload_per_interval() {
    let backend = Arc::new(Scripted::new());
    let driver = start(&backend);
    driver.submit(delta(1));
    assert!(applied(&driver).await);
    for n in 2..=50 {
        driver.submit(delta(n));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(applied(&driver).await);
    tokio::time::sleep(Duration::from_secs(10)).await;
    driver.submit(delta(51));
    assert!(applied(&driver).await);
    let calls = backend.calls();
    assert_eq!(calls, [call(0, 1, 0), call(1000, 50, 1), call(11_000, 51, 50)], "times tell whether it waited");
    driver.finish().await;
}

async fn pushed(driver: &Driver) -> bool {
    matches!(driver.progress().await, Some(Progress::Pushed(_)))
}

#[tokio::test(start_paused = true)]
async fn servers_are_pushed_as_they_change_whatever_is_being_applied() {
    let takes = Duration::from_secs(5);
    let backend = Arc::new(Scripted { live_servers: true, takes, ..Scripted::new() });
    let driver = start(&backend);
    driver.submit(delta(1));
    for n in 2..=4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        driver.submit(delta(n));
        assert!(matches!(driver.progress().await, Some(Progress::Pushed(pushed)) if pushed.to == n));
    }
    assert!(applied(&driver).await);
    let at = |ms| Duration::from_millis(ms);
    assert_eq!(*backend.pushes.lock().unwrap(), [(at(10), 2), (at(20), 3), (at(30), 4)]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(backend.calls(), [call(0, 1, 0)], "nothing was left to apply");
    driver.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_data_plane_does_not_take_is_applied() {
    let backend = Arc::new(Scripted { live_servers: true, push_takes: Duration::from_secs(2), ..Scripted::new() });
    let driver = start(&backend);
    driver.submit(delta(1));
    assert!(applied(&driver).await);
    *backend.push_is_late.lock().unwrap() = true;
    driver.submit(delta(2));
    assert!(applied(&driver).await);
    let again = Call { changed: 0, ..call(2000, 2, 1) };
    assert_eq!(backend.calls(), [call(0, 1, 0), again], "the backend knows itself which Services it owes");
    driver.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_pushed_while_its_service_waits_for_an_apply_is_applied_from_where_that_begins() {
    let backend = Arc::new(Scripted { live_servers: true, ..Scripted::new() });
    let fail = || Err(BackendError::Retry("no".to_owned()));
    *backend.script.lock().unwrap() = vec![fail()];
    let driver = start(&backend);
    driver.submit(delta(1));
    assert!(!applied(&driver).await);
    driver.submit(delta(2));
    assert!(pushed(&driver).await);
    assert!(applied(&driver).await);
    assert_eq!(backend.calls(), [call(0, 1, 0), call(1000, 2, 0)]);
    driver.submit(delta(3));
    assert!(matches!(driver.progress().await, Some(Progress::Pushed(pushed)) if pushed.to == 3));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(backend.calls().len(), 2);
    driver.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_pushed_during_an_apply_that_fails_is_part_of_the_next() {
    let takes = Duration::from_secs(3);
    let backend = Arc::new(Scripted { live_servers: true, takes, ..Scripted::new() });
    *backend.script.lock().unwrap() = vec![Err(BackendError::Retry("no".to_owned()))];
    let driver = start(&backend);
    driver.submit(delta(1));
    tokio::time::sleep(Duration::from_millis(10)).await;
    driver.submit(delta(2));
    assert!(pushed(&driver).await);
    assert!(!applied(&driver).await);
    assert!(applied(&driver).await);
    // The backend looks whether the delta leads to the newest.
    assert_eq!(backend.calls(), [call(0, 1, 0), call(3500, 2, 0)]);
    driver.finish().await;
}

#[tokio::test(start_paused = true)]
async fn changes_during_an_apply_are_joined() {
    let backend = Arc::new(Scripted { takes: Duration::from_secs(3), ..Scripted::new() });
    let driver = start(&backend);
    for n in 1..=4 {
        driver.submit(delta(n));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(applied(&driver).await && applied(&driver).await);
    assert_eq!(backend.calls(), [call(0, 1, 0), call(3000, 4, 1)]);
    driver.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_with_growing_pauses_and_loses_nothing() {
    let backend = Arc::new(Scripted::new());
    let fail = || Err(BackendError::Retry("no".to_owned()));
    *backend.script.lock().unwrap() = vec![fail(), fail()];
    let driver = start(&backend);
    driver.submit(delta(1));
    assert!(!applied(&driver).await);
    driver.submit(delta(2));
    assert!(!applied(&driver).await);
    assert!(applied(&driver).await);
    let calls = backend.calls();
    assert_eq!(calls, [call(0, 1, 0), call(1000, 2, 0), call(2000, 2, 0)], "attempts are paced as reloads are");
    driver.finish().await;
}

#[tokio::test(start_paused = true)]
async fn many_changes_while_nothing_works_do_not_make_the_pause_long() {
    let backend = Arc::new(Scripted::new());
    *backend.script.lock().unwrap() = (0..9).map(|_| Err(BackendError::Retry("no".to_owned()))).collect();
    let driver = Driver::start(backend.clone(), Pace { reload_interval: Duration::from_millis(100) }, metrics());
    for generation in 1..=8 {
        driver.submit(delta(generation));
        assert!(!applied(&driver).await);
    }
    assert!(!applied(&driver).await);
    assert!(applied(&driver).await);
    let after = backend.calls().last().unwrap().after;
    assert!(after <= Duration::from_secs(4), "{after:?}");
    driver.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_may_pass_is_tried_again() {
    let backend = Arc::new(Scripted::new());
    let refusal = Refusal { code: "PortInUse", message: "taken".to_owned(), instead: Instead::LeftOut, retry: true };
    *backend.script.lock().unwrap() = vec![Ok(BTreeMap::from([(key(), vec![refusal])]))];
    let driver = start(&backend);
    driver.submit(delta(1));
    assert!(applied(&driver).await && applied(&driver).await);
    // The retry waits for the pace as well, and has nothing new.
    let again = Call { changed: 0, ..call(1000, 1, 1) };
    assert_eq!(backend.calls(), [call(0, 1, 0), again]);
    driver.finish().await;
}

#[tokio::test(start_paused = true)]
async fn putting_the_proxy_right_waits_for_no_interval() {
    let backend = Arc::new(Scripted::new());
    let driver = Driver::start(backend.clone(), Pace { reload_interval: Duration::from_secs(600) }, metrics());
    let nudge = driver.nudge();
    nudge.again();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(backend.calls(), [], "nothing is known yet of what it should serve");
    driver.submit(delta(1));
    assert!(applied(&driver).await);
    nudge.again();
    assert!(applied(&driver).await);
    driver.submit(delta(2));
    tokio::time::sleep(Duration::from_secs(1)).await;
    nudge.again();
    assert!(applied(&driver).await);
    assert_eq!(backend.calls(), [call(1000, 1, 0), Call { changed: 0, ..call(1000, 1, 1) }, call(2000, 2, 1)]);
    driver.finish().await;
}

#[tokio::test(start_paused = true)]
async fn ending_waits_for_the_apply_in_progress_within_a_bound() {
    let backend = Arc::new(Scripted { takes: Duration::from_secs(3600), ..Scripted::new() });
    let driver = start(&backend);
    driver.submit(delta(1));
    tokio::time::sleep(Duration::from_millis(1)).await;
    driver.finish().await;
    assert_eq!(backend.begin.elapsed(), FINISH + Duration::from_millis(1));
}

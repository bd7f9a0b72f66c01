//! When it is written.

use tokio::time::sleep;

use super::*;

/// Generation `n` - 1 to `n`.
fn delta(n: u64) -> Delta {
    let config = |n: u64| service("web", vec![listener(Protocol::Tcp, 80, addresses(&[&format!("10.0.0.{n}:80")]))]);
    let change = match n {
        1 => ServiceChange::Added(config(1)),
        _ => ServiceChange::Changed { before: config(n - 1), after: config(n) },
    };
    Delta { from: n - 1, to: n, changes: BTreeMap::from([(key("web"), change)]) }
}

/// The last number of the server's address in the file.
fn server_in(file: &StateFile) -> Option<u64> {
    let saved = file.read().unwrap()?;
    let Servers::Addresses(servers) = &saved.desired.services[&key("web")].listeners[0].upstream.servers else {
        panic!()
    };
    servers[0].ip().to_string().rsplit('.').next()?.parse().ok()
}

fn remembered(endpoints: usize) -> Remembered {
    Remembered { cluster: Some("uid".to_owned()), inventory: Some(Inventory { endpoints, ..inventory() }) }
}

fn start(prefix: &tempfile::TempDir) -> (StateFile, LastGood, Arc<Metrics>) {
    let (file, metrics) = (StateFile::below(prefix.path()), metrics());
    let last_good = LastGood::start(file.clone(), Scope::default(), remembered(0), metrics.clone());
    (file, last_good, metrics)
}

#[tokio::test(start_paused = true)]
async fn the_first_at_once_then_once_a_second_and_the_last_at_the_end() {
    let prefix = tempfile::tempdir().unwrap();
    let (file, last_good, _) = start(&prefix);
    let mut seen = Vec::new();
    for n in 1..=100 {
        last_good.submitted(&delta(n));
        last_good.applied(n);
        sleep(Duration::from_millis(100)).await;
        seen.push(server_in(&file).unwrap());
    }
    assert_eq!(seen[0], 1);
    seen.dedup();
    assert!((5..=12).contains(&seen.len()), "in 10 s: {seen:?}");
    last_good.finish().await;
    assert_eq!(server_in(&file), Some(100));
    assert_eq!(file.read().unwrap().unwrap().cluster.as_deref(), Some("uid"));
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_the_cluster_is_written_when_it_changes_and_not_before_anything_is_confirmed() {
    let prefix = tempfile::tempdir().unwrap();
    let (file, last_good, _) = start(&prefix);
    last_good.remember(remembered(1));
    sleep(Duration::from_secs(10)).await;
    assert!(file.read().unwrap().is_none());
    last_good.submitted(&delta(1));
    last_good.applied(1);
    let endpoints = || file.read().unwrap().unwrap().inventory.unwrap().endpoints;
    for count in [1, 1, 2] {
        last_good.remember(remembered(count));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(endpoints(), count);
    }
    last_good.remember(remembered(3));
    last_good.finish().await;
    assert_eq!(endpoints(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_confirmed_is_not_written() {
    let prefix = tempfile::tempdir().unwrap();
    let (file, last_good, _) = start(&prefix);
    (1..=3).for_each(|n| last_good.submitted(&delta(n)));
    sleep(Duration::from_secs(10)).await;
    assert!(file.read().unwrap().is_none());
    last_good.applied(2);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(server_in(&file), Some(2));
    last_good.finish().await;
    assert_eq!(server_in(&file), Some(2));
}

#[tokio::test(start_paused = true)]
async fn what_the_file_holds_is_not_written_again_and_nothing_to_serve_is_written_once() {
    let prefix = tempfile::tempdir().unwrap();
    let (file, last_good, _) = start(&prefix);
    let mut state = DesiredState::default();
    state.advance(&delta(1));
    last_good.resumed(&state);
    last_good.submitted(&delta(1));
    last_good.applied(1);
    sleep(Duration::from_secs(10)).await;
    last_good.finish().await;
    assert!(!file.path().exists());

    let (file, last_good, _) = start(&prefix);
    last_good.submitted(&Delta::default());
    last_good.applied(0);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(file.read().unwrap().unwrap().desired, DesiredState::default());
    last_good.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_is_counted_and_written_when_it_recovers() {
    let prefix = tempfile::tempdir().unwrap();
    // No folder can be made where a file is.
    std::fs::write(prefix.path().join("state"), "").unwrap();
    let (file, last_good, metrics) = start(&prefix);
    last_good.submitted(&delta(1));
    last_good.applied(1);
    sleep(Duration::from_secs(60)).await;
    let failures = value(&metrics, "lbex_last_good_failures_total");
    assert!((2.0..20.0).contains(&failures), "again, but not all the time: {failures}");
    std::fs::remove_file(prefix.path().join("state")).unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(server_in(&file), Some(1));
    last_good.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_somebody_removes_is_written_again() {
    let prefix = tempfile::tempdir().unwrap();
    let (file, last_good, _) = start(&prefix);
    last_good.submitted(&delta(1));
    last_good.applied(1);
    sleep(Duration::from_secs(60)).await;
    std::fs::remove_dir_all(prefix.path().join("state")).unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(server_in(&file), Some(1));
    last_good.finish().await;
}

/// Whether each delta is confirmed by a push, and what the file holds then, by the server's last number.
#[tokio::test(start_paused = true)]
async fn pushes_count_before_and_beside_an_apply_and_not_where_more_than_servers_waits() {
    let prefix = tempfile::tempdir().unwrap();
    let (file, last_good, _) = start(&prefix);
    last_good.submitted(&delta(1));
    last_good.pushed(&delta(1));
    sleep(Duration::from_secs(10)).await;
    assert!(file.read().unwrap().is_none(), "the Service itself waits for an apply");
    last_good.submitted(&delta(2));
    last_good.pushed(&delta(2));
    sleep(Duration::from_secs(10)).await;
    assert!(file.read().unwrap().is_none(), "its servers too");
    last_good.applied(1);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(server_in(&file), Some(2), "the push counts as soon as what came before it does");
    last_good.submitted(&delta(3));
    last_good.submitted(&delta(4));
    last_good.pushed(&delta(3));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(server_in(&file), Some(3));
    // An apply that began before, and a push that was overtaken.
    last_good.applied(2);
    last_good.pushed(&delta(2));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(server_in(&file), Some(3));
    last_good.pushed(&delta(4));
    last_good.finish().await;
    assert_eq!(server_in(&file), Some(4));
}

/// Ports change while applies fail; the last apply succeeds, and the servers that changed meanwhile were pushed.
#[tokio::test(start_paused = true)]
async fn a_push_after_many_changes_that_waited_counts_without_another_apply() {
    let prefix = tempfile::tempdir().unwrap();
    let (file, last_good, _) = start(&prefix);
    let config = |port: u16, n: u64| {
        service("web", vec![listener(Protocol::Tcp, port, addresses(&[&format!("10.0.0.{n}:80")]))])
    };
    let change = |n: u64, before: Option<Arc<ServiceConfig>>, after: Arc<ServiceConfig>| {
        let change =
            before.map_or(ServiceChange::Added(after.clone()), |before| ServiceChange::Changed { before, after });
        Delta { from: n - 1, to: n, changes: BTreeMap::from([(key("web"), change)]) }
    };
    last_good.submitted(&change(1, None, config(1, 1)));
    for n in 2..=30 {
        let port = u16::try_from(n).unwrap();
        last_good.submitted(&change(n, Some(config(port - 1, 1)), config(port, 1)));
    }
    // The apply of 30 is on its way.
    let pushed = change(31, Some(config(30, 1)), config(30, 2));
    last_good.submitted(&pushed);
    last_good.pushed(&pushed);
    last_good.applied(30);
    sleep(Duration::from_secs(10)).await;
    let saved = file.read().unwrap().unwrap().desired.services[&key("web")].clone();
    assert_eq!((saved.listeners[0].port, server_in(&file)), (30, Some(2)));
    last_good.finish().await;
}

#[tokio::test(start_paused = true)]
async fn changes_that_wait_for_long_are_joined_and_none_is_lost() {
    let prefix = tempfile::tempdir().unwrap();
    let (file, last_good, _) = start(&prefix);
    (1..=200).for_each(|n| last_good.submitted(&delta(n)));
    last_good.applied(100);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(server_in(&file), Some(7), "what is known one by one");
    last_good.applied(200);
    last_good.finish().await;
    assert_eq!(server_in(&file), Some(200));
}

//! Removals that are held, on the clock and at the operator's word; addresses of the host.

use std::net::IpAddr;

use lbex_core::desired::Servers;
use lbex_core::hold::Inventory;

use super::*;

fn all(count: u16) -> SourceEvent {
    let service = |n| match service(&format!("s{n}"), 1000 + n) {
        Change::Service(service) => *service,
        other => panic!("{other:?}"),
    };
    SourceEvent::Changes(vec![Change::AllServices((0..count).map(service).map(Into::into).collect())])
}

fn cluster(uid: &str) -> SourceEvent {
    SourceEvent::Cluster(Some(uid.into()))
}

async fn with_services(count: u16) -> Running {
    let running = Running::start(Scripted::new());
    running.send(cluster("a")).await;
    running.send(all(count)).await;
    running.send(SourceEvent::Changes(vec![Change::AllNodes(Vec::new())])).await;
    running.send(SourceEvent::Synced).await;
    assert_eq!(running.changed(), [usize::from(count)]);
    running
}

impl Running {
    /// How many Services changed with each apply.
    fn changed(&self) -> Vec<usize> {
        self.backend.calls().iter().map(|call| call.changed).collect()
    }

    fn held(&self, name: &str) -> String {
        let text = self.metrics.encode().unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {text}"));
        line.rsplit(' ').next().unwrap().to_owned()
    }
}

const SERVICES: &str = "lbex_removals_held{kind=\"service\"}";

#[tokio::test(start_paused = true)]
async fn an_empty_list_is_held_for_its_time_and_the_host_stays_healthy() {
    let running = with_services(12).await;
    assert_eq!(running.held(SERVICES), "0");
    running.send(all(0)).await;
    tokio::time::sleep(Duration::from_secs(295)).await;
    assert_eq!((running.changed(), running.held(SERVICES)), (vec![12], "12".to_owned()));
    assert!(running.health.ready().ok && running.health.healthy().ok && running.health.live().ok);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((running.changed(), running.held(SERVICES)), (vec![12, 12], "0".to_owned()));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_recovers_ends_it_and_nothing_was_touched() {
    let running = with_services(12).await;
    running.send(all(0)).await;
    running.send(all(12)).await;
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert_eq!((running.changed(), running.held(SERVICES)), (vec![12], "0".to_owned()));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_operator_ends_it_at_once() {
    let running = with_services(12).await;
    running.release.notify_one();
    running.send(all(2)).await;
    assert_eq!(running.changed(), [12], "what was asked for before there was anything to let go has no effect later");
    tokio::time::sleep(Duration::from_secs(5)).await;
    running.release.notify_one();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!((running.changed(), running.held(SERVICES)), (vec![12, 10], "0".to_owned()));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn another_cluster_is_not_taken_in_until_its_time_is_over() {
    let running = with_services(3).await;
    running.send(cluster("b")).await;
    running.send(all(1)).await;
    tokio::time::sleep(Duration::from_secs(295)).await;
    assert_eq!((running.changed(), running.held("lbex_cluster_held")), (vec![3], "1".to_owned()));
    assert!(running.health.ready().ok && running.health.healthy().ok);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((running.changed(), running.held("lbex_cluster_held")), (vec![3, 2], "0".to_owned()));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_becomes_this_host_is_left_out() {
    let running = Running::start(Scripted::new());
    let mut on_nodes = service("web", 80);
    if let Change::Service(service) = &mut on_nodes {
        service.annotations.insert("loadbalancer.lbex/node-set".into(), "all".into());
    }
    running.send(SourceEvent::Changes(vec![on_nodes, node(true), service("other", 30000)])).await;
    running.send(SourceEvent::Synced).await;
    let servers = || match &running.backend.desired().services[&ServiceKey::new("default", "web").unwrap()].listeners[0]
        .upstream
        .servers
    {
        Servers::Addresses(all) => all.len(),
        Servers::Dns { .. } => panic!(),
    };
    assert_eq!(servers(), 1);
    tokio::time::sleep(Duration::from_secs(5)).await;
    running.host.send(["10.0.0.1".parse::<IpAddr>().unwrap()].into_iter().collect()).unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(servers(), 0, "the other Service listens on its node port");
    running.end().await;
}

/// An LBEX that starts again, with a proxy that serves, and knows that there were 12 Services in the cluster `a`.
fn restarted() -> Running {
    let keys = (0..12).map(|n| ServiceKey::new("default", &format!("s{n}")).unwrap());
    let inventory = Inventory { services: keys.collect(), ..Inventory::default() };
    let hold = Hold::new(Some(Duration::from_secs(300)), Some("a".into()), Some(inventory));
    Running::remembering(Scripted::new(), Some(DesiredState::default()), hold)
}

async fn listed(running: &Running, identity: &str, count: u16) {
    running.send(cluster(identity)).await;
    running.send(all(count)).await;
    running.send(SourceEvent::Changes(vec![Change::AllNodes(Vec::new())])).await;
    running.send(SourceEvent::Synced).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_first_lists_that_lack_most_touch_nothing_until_their_time_is_over() {
    let running = restarted();
    listed(&running, "a", 3).await;
    tokio::time::sleep(Duration::from_secs(295)).await;
    assert_eq!((running.changed(), running.held(SERVICES)), (vec![], "9".to_owned()));
    assert!(running.health.healthy().ok && running.health.ready().ok, "{:?}", running.health.ready());
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((running.changed(), running.held(SERVICES)), (vec![3], "0".to_owned()));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_another_cluster_touches_nothing_until_the_operator_says_so() {
    let running = restarted();
    listed(&running, "b", 12).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!((running.changed(), running.held("lbex_cluster_held")), (vec![], "1".to_owned()));
    running.release.notify_one();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!((running.changed(), running.held("lbex_cluster_held")), (vec![12], "0".to_owned()));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_known_is_remembered_unless_it_is_in_doubt() {
    let running = with_services(12).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let remembered =
        || running.file.read().unwrap().map(|saved| (saved.cluster, saved.inventory.unwrap().services.len()));
    assert_eq!(remembered(), Some((Some("a".to_owned()), 12)));
    running.send(all(1)).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(remembered(), Some((Some("a".to_owned()), 12)));
    running.release.notify_one();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(remembered(), Some((Some("a".to_owned()), 1)));
    running.end().await;
}

/// What was held and comes back is remembered as it is planned, not as it was before.
#[tokio::test(start_paused = true)]
async fn what_comes_back_after_a_restart_is_remembered_whole() {
    let running = restarted();
    listed(&running, "a", 0).await;
    running.send(all(12)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let saved = running.file.read().unwrap().expect("it is saved");
    assert_eq!(saved.inventory.map(|inventory| inventory.services.len()), Some(12));
    running.end().await;
}

/// An LBEX may be killed at any time, and the next one finds another cluster, or an empty one.
#[tokio::test(start_paused = true)]
async fn no_state_is_saved_without_what_its_cluster_was() {
    let running = with_services(12).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let saved = running.file.read().unwrap().expect("it is saved");
    assert_eq!(saved.cluster.as_deref(), Some("a"));
    assert_eq!(saved.inventory.map(|inventory| inventory.services.len()), Some(12));
    running.end().await;
}

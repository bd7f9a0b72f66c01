//! API servers whose lists are complete and wrong, and other clusters: with what holds them back, nothing is removed, and all is well
//! again when they are.

use std::time::Duration;

use lbex_core::model::ObjectKind;
use serde_json::{Value, json};

use super::server::{Api, End, Reply};
use super::*;

const IDENTITY: &str = "/api/v1/namespaces/kube-system";

fn services(range: std::ops::Range<u64>) -> Vec<Value> {
    range.map(|n| service("default", &format!("s{n}"), n + 1)).collect()
}

fn identity(uid: &str) -> Reply {
    Reply::json(200, &json!({"metadata": {"name": "kube-system", "uid": uid}}))
}

/// A source that knows 20 Services, at version 100, and its API server.
async fn twenty() -> (Api, Running) {
    let api = Api::start().await;
    api.on("list services", Reply::page(&services(0..20), 100, ""));
    let seen = Running::on(&api).await.synced().await;
    assert_eq!(seen.services().len(), 20);
    (api, seen)
}

#[tokio::test]
async fn an_empty_list_and_a_halved_one_remove_nothing_and_a_good_one_ends_it() {
    let (api, mut seen) = twenty().await;
    api.set("list services", Reply::page(&[], 200, ""));
    api.on("watch services", Reply::json(410, &gone()));
    seen.until("an empty list", |seen| seen.hold.held(ObjectKind::Service) == 20).await;
    api.set("list services", Reply::page(&services(0..9), 210, ""));
    api.on("watch services", Reply::json(410, &gone()));
    seen.until("a halved one", |seen| seen.hold.held(ObjectKind::Service) == 11).await;
    // A watch brings some back, a list the others.
    let lines: Vec<_> = services(9..12).iter().map(|s| event("ADDED", s)).collect();
    api.on("watch services", Reply::watch(&lines, End::Close));
    seen.until("three", |seen| seen.hold.held(ObjectKind::Service) == 8).await;
    api.set("list services", Reply::page(&services(0..20), 220, ""));
    api.on("watch services", Reply::json(410, &gone()));
    seen.until("the good one", |seen| seen.hold.held(ObjectKind::Service) == 0).await;
    assert!(seen.counted.iter().all(|count| *count == 20), "{:?}", seen.counted);
}

#[tokio::test]
async fn lists_of_single_namespaces_are_held_too() {
    let api = Api::start().await;
    api.on(
        "list a/services",
        Reply::page(&(0..12).map(|n| service("a", &format!("s{n}"), 5)).collect::<Vec<_>>(), 10, ""),
    );
    api.on("list b/services", Reply::page(&[service("b", "one", 5)], 12, ""));
    let namespaces = vec!["a".to_owned(), "b".to_owned()];
    let mut seen = Running::start(KubeSettings { namespaces, ..settings(&api) }).await.synced().await;
    for namespace in ["a", "b"] {
        api.set(&format!("list {namespace}/services"), Reply::page(&[], 30, ""));
        api.on(&format!("watch {namespace}/services"), Reply::json(410, &gone()));
    }
    seen.until("the empty lists", |seen| seen.services().len() == 12).await;
    seen.until("twelve are held", |seen| seen.hold.held(ObjectKind::Service) == 12).await;
    assert!(seen.services().iter().all(|s| s.starts_with("a/")), "one is not many: {:?}", seen.services());
}

#[tokio::test]
async fn nodes_and_endpoints_are_held_too() {
    let api = Api::start().await;
    let nodes: Vec<_> = (0..15).map(|n| node(&format!("n{n}"), 5)).collect();
    let slices: Vec<_> = (0..15).map(|n| slice(&format!("a-{n}"), "a", &format!("10.2.0.{n}"), 4)).collect();
    api.on("list nodes", Reply::page(&nodes, 10, ""));
    api.on("list endpointslices", Reply::page(&slices, 10, ""));
    let mut seen = Running::on(&api).await.synced().await;
    for kind in ["nodes", "endpointslices"] {
        api.set(&format!("list {kind}"), Reply::page(&[], 20, ""));
        api.on(&format!("watch {kind}"), Reply::json(410, &gone()));
    }
    seen.until("both", |seen| seen.hold.held(ObjectKind::Node) == 15 && seen.hold.held(ObjectKind::Endpoints) == 15)
        .await;
    assert_eq!((seen.snapshot.nodes().len(), seen.snapshot.endpoint_lists().count()), (15, 15));
}

/// etcd restored from an older backup: versions go backwards, objects are as they were, and those that came since are not there.
#[tokio::test]
async fn an_older_backup_is_listed_anew_and_removes_nothing_at_once() {
    let (api, mut seen) = twenty().await;
    api.set("list services", Reply::page(&services(0..5), 40, ""));
    // The probe after the connection broke; the first was for the permissions.
    api.on("probe services", Reply::page(&[], 40, ""));
    api.on("watch services", Reply::watch(&[bookmark(101)], End::Cut));
    seen.until("the older list", |seen| seen.hold.held(ObjectKind::Service) == 15).await;
    seen.until("a watch from there", |_| {
        api.watches("services").last().unwrap().parameter("resourceVersion") == Some("40")
    })
    .await;
    assert!(seen.counted.iter().all(|count| *count == 20), "{:?}", seen.counted);
}

/// The versions of a restored cluster grow, too: by the time it is back it may be beyond what was seen last.
#[tokio::test]
async fn after_a_long_absence_everything_is_listed_anew() {
    let api = Api::start().await;
    api.on("list services", Reply::page(&services(0..20), 100, ""));
    let timing = Timing { away: Duration::from_millis(500), ..quick() };
    let mut seen = Running::start_with(settings(&api), timing).await.synced().await;
    api.set("list services", Reply::page(&services(0..18), 150, ""));
    for _ in 0..100 {
        api.on("watch services", Reply::json(503, &json!({"message": "starting"})));
    }
    seen.until("the new list", |seen| seen.services().len() == 18).await;
    assert_eq!(seen.lists, 2);
}

/// What an API server says to a watch from a version that it has not reached: as an answer, and as an event.
#[tokio::test]
async fn a_version_that_is_too_large_leads_to_a_list() {
    let status = json!({
        "kind": "Status", "status": "Failure", "reason": "Timeout", "code": 504,
        "message": "Too large resource version: 100, current: 40",
        "details": {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]},
    });
    for reply in [Reply::json(504, &status), Reply::watch(&[event("ERROR", &status)], End::Close)] {
        let (api, mut seen) = twenty().await;
        api.set("list services", Reply::page(&services(0..5), 40, ""));
        api.on("probe services", Reply::page(&[], 40, ""));
        api.on("watch services", Reply::watch(&[bookmark(100)], End::Cut));
        api.on("watch services", reply);
        seen.until("the older list", |seen| seen.hold.held(ObjectKind::Service) == 15).await;
        assert!(seen.counted.iter().all(|count| *count == 20), "{:?}", seen.counted);
    }
}

#[tokio::test]
async fn another_cluster_is_listed_whole_and_not_taken_in() {
    let (api, mut seen) = twenty().await;
    assert_eq!(seen.clusters, [Some("cluster-a".into())]);
    // A few Services only differ: too few for a mass removal.
    api.set("list services", Reply::page(&services(5..20), 7, ""));
    api.on(IDENTITY, identity("cluster-b"));
    seen.until("all lists of the other", |seen| {
        let lists = |resource| api.asked(resource).iter().filter(|a| a.parameter("limit") == Some("500")).count();
        seen.hold.holds_cluster() && ["services", "nodes", "endpointslices"].iter().all(|r| lists(r) >= 2)
    })
    .await;
    assert_eq!(seen.clusters.last(), Some(&Some("cluster-b".into())));
    assert_eq!(seen.services().len(), 20);
    // The known one is back.
    api.set("list services", Reply::page(&services(0..20), 120, ""));
    api.set(IDENTITY, identity("cluster-a"));
    seen.until("the known one", |seen| !seen.hold.holds_cluster()).await;
    assert!(seen.counted.iter().all(|count| *count == 20), "{:?}", seen.counted);
}

#[tokio::test]
async fn an_identity_that_may_not_be_read_is_done_without() {
    let api = Api::start().await;
    api.on(IDENTITY, Reply::json(403, &json!({"kind": "Status", "message": "no", "code": 403})));
    api.on("list services", Reply::page(&services(0..20), 100, ""));
    let seen = Running::on(&api).await.synced().await;
    assert_eq!((seen.services().len(), seen.clusters.len()), (20, 0));
    assert!(seen.troubles.is_empty(), "{:?}", seen.troubles);
}

/// An API server on empty storage has no namespace kube-system for its first seconds.
#[tokio::test]
async fn a_cluster_that_lost_its_identity_is_waited_for() {
    let (api, mut seen) = twenty().await;
    api.set("list services", Reply::page(&[], 3, ""));
    api.on(IDENTITY, Reply::json(404, &json!({"kind": "Status", "message": "not found", "code": 404})));
    api.on("watch services", Reply::watch(&[], End::Cut));
    seen.until("a trouble", |seen| !seen.troubles.is_empty()).await;
    assert!(seen.troubles[0].text.contains("has no namespace kube-system"), "{}", seen.troubles[0]);
    assert_eq!(seen.services().len(), 20);
    api.set("list services", Reply::page(&services(0..20), 100, ""));
    api.set(IDENTITY, identity("cluster-a"));
    seen.until("recovered", |seen| !seen.recovered.is_empty()).await;
    assert_eq!((seen.services().len(), seen.hold.holds_cluster()), (20, false));
}

#[tokio::test]
async fn a_list_during_which_the_cluster_changes_is_no_list() {
    let api = Api::start().await;
    api.on("list services", Reply::page(&services(0..20), 100, ""));
    for uid in ["cluster-a", "cluster-b"] {
        // Both kinds of followers see one at the begin and the other at the end.
        api.on(IDENTITY, identity(uid));
    }
    let seen = Running::on(&api).await.synced().await;
    assert_eq!(seen.services().len(), 20);
    assert!(seen.counts.restarts.load(Ordering::Relaxed) > 0);
    assert_eq!(seen.clusters, [Some("cluster-b".into())]);
}

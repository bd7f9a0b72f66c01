//! Watches through everything that happens to them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use lbex_core::model::EndpointsApi as Api2;
use lbex_core::names::ServiceKey;
use serde_json::json;

use super::server::{Api, End, Reply};
use super::*;

#[tokio::test]
async fn pages_make_one_list_and_changes_follow() {
    let api = Api::start().await;
    api.on("list services", Reply::page(&[service("default", "a", 5), service("default", "b", 6)], 10, "next/+="));
    api.on("list services", Reply::page(&[service("web", "c", 7)], 10, ""));
    api.on("list nodes", Reply::page(&[node("node-1", 3)], 10, ""));
    api.on("list endpointslices", Reply::page(&[slice("a-1", "a", "10.2.0.1", 4)], 10, ""));
    let lines =
        [event("ADDED", &service("default", "d", 11)), event("DELETED", &service("default", "a", 12)), bookmark(20)];
    api.on("watch services", Reply::watch(&lines, End::Close));
    api.on(
        "watch endpointslices",
        Reply::watch(&[event("MODIFIED", &slice("a-1", "a", "10.2.0.9", 15))], End::Silence),
    );
    let mut seen = Running::on(&api).await.synced().await;
    assert_eq!(seen.snapshot.nodes().len(), 1);
    seen.until("changes", |seen| seen.services() == ["default/b", "default/d", "web/c"]).await;
    let of_a = ServiceKey::new("default", "a").unwrap();
    seen.until("the slice", |seen| {
        seen.snapshot
            .endpoints(&of_a)
            .any(|s| s.endpoints[0].address == "10.2.0.9".parse::<std::net::IpAddr>().unwrap())
    })
    .await;
    assert_eq!(seen.lists, 1);
    // The watch began at the list's version, and goes on at the bookmark's.
    seen.until("the next watch", |_| api.watches("services").len() > 1).await;
    let watches = api.watches("services");
    assert_eq!(watches[0].parameter("resourceVersion"), Some("10"));
    assert_eq!(watches[1].parameter("resourceVersion"), Some("20"));
    let lists = api.asked("services");
    let pages: Vec<_> = lists.iter().filter(|a| a.parameter("limit") == Some("500")).collect();
    assert_eq!(pages[1].parameter("continue"), Some("next%2F%2B%3D"));
    assert!(api.asked("endpointslices")[0].query.contains("labelSelector=kubernetes.io%2Fservice-name"));
    assert!(seen.troubles.is_empty(), "{:?}", seen.troubles);
    assert!(seen.counts.synced.load(Ordering::Relaxed) > 0);
    assert_eq!(seen.counts.events.lock().unwrap()["service"], 5);
}

#[tokio::test]
async fn nothing_is_synced_before_every_kind_is_complete() {
    let api = Api::start().await;
    api.on("list services", Reply::page(&[service("default", "a", 5)], 10, ""));
    api.on("list nodes", Reply::json(500, &json!({"message": "etcd is away"})));
    let mut seen = Running::on(&api).await;
    seen.until("troubles", |seen| seen.troubles.len() > 1).await;
    assert!(!seen.synced);
    let text = seen.troubles[0].to_string();
    assert!(
        text.starts_with("cannot follow Nodes:") && text.contains("500") && text.contains("etcd is away"),
        "{text}"
    );
    assert!(text.contains("waiting for them"), "{text}");
    api.set("list nodes", Reply::page(&[node("node-1", 3)], 10, ""));
    seen.until("synced", |seen| seen.synced && !seen.recovered.is_empty()).await;
    assert_eq!(seen.snapshot.nodes().len(), 1);
}

#[tokio::test]
async fn an_expired_version_leads_to_a_new_list_without_a_trouble() {
    for expired in [Reply::watch(&[event("ERROR", &gone())], End::Close), Reply::json(410, &gone())] {
        let api = Api::start().await;
        api.on("list services", Reply::page(&[service("default", "a", 5), service("default", "b", 5)], 10, ""));
        api.on("list services", Reply::page(&[service("default", "b", 5), service("default", "c", 29)], 30, ""));
        api.on("watch services", expired);
        let mut seen = Running::on(&api).await.synced().await;
        seen.until("the new list", |seen| seen.services() == ["default/b", "default/c"]).await;
        assert_eq!((seen.lists, seen.troubles.len()), (2, 0));
        assert!(seen.counted.iter().all(|&count| count == 2), "both lists are taken in one piece: {:?}", seen.counted);
        assert_eq!(seen.counts.restarts.load(Ordering::Relaxed), 1);
    }
}

/// As an API server without a watch cache does whose etcd was compacted while LBEX was away: each watch begins, and ends with the
/// same error.
#[tokio::test]
async fn a_version_that_cannot_be_gone_on_from_leads_to_a_list_whatever_the_error_is() {
    let api = Api::start().await;
    let status = json!({"kind": "Status", "status": "Failure", "code": 500, "message": "etcd event without PrevKv"});
    let failing = Reply::watch(&[event("ERROR", &status)], End::Close);
    api.on("list services", Reply::page(&[service("default", "a", 5)], 10, ""));
    api.on("list services", Reply::page(&[service("default", "b", 20)], 30, ""));
    api.on("list services", Reply::page(&[service("default", "c", 40)], 50, ""));
    for _ in 0..2 {
        api.on("watch services", failing.clone());
    }
    let mut seen = Running::on(&api).await.synced().await;
    seen.until("the lists after the watches", |seen| seen.services() == ["default/c"] || seen.lists == 3).await;
    let watches = api.watches("services");
    let versions: Vec<_> = watches.iter().filter_map(|watch| watch.parameter("resourceVersion")).take(2).collect();
    assert_eq!(versions, ["10", "30"], "none is asked for twice");
}

#[tokio::test]
async fn a_list_that_fails_between_pages_deletes_nothing() {
    let api = Api::start().await;
    let all = [service("default", "a", 5), service("default", "b", 5), service("default", "c", 5)];
    api.on("list services", Reply::page(&all, 10, ""));
    api.on("watch services", Reply::json(410, &gone()));
    // The next list: a page and then one that breaks; one that is cut in its middle; one that expires; then it works.
    api.on("list services", Reply::page(&all[..1], 20, "next"));
    api.on("list services", Reply::json(500, &json!({"message": "no"})));
    api.on("list services", Reply::page(&all, 20, "").slowly(3, Duration::ZERO).ending(End::Cut));
    api.on("list services", Reply::page(&all[..1], 20, "next"));
    api.on("list services", Reply::json(410, &gone()));
    api.on("list services", Reply::page(&[&all[..], &[service("default", "d", 29)]].concat(), 30, ""));
    let mut seen = Running::on(&api).await.synced().await;
    seen.until("the whole list", |seen| seen.services().len() == 4).await;
    assert!(seen.counted.iter().all(|&count| count >= 3), "{:?}", seen.counted);
    assert_eq!(seen.lists, 2);
    // Since a list expired between pages, the next was asked for in one piece.
    let lists: Vec<_> = api.asked("services").into_iter().filter(|a| a.parameter("watch").is_none()).collect();
    assert_eq!(lists.last().unwrap().parameter("limit"), None);
}

#[tokio::test]
async fn a_slow_list_is_waited_for() {
    let api = Api::start().await;
    let all: Vec<_> = (0..50).map(|n| service("default", &format!("s{n}"), 5)).collect();
    // Longer in all than the patience of 2 s, never silent for so long.
    api.on("list services", Reply::page(&all, 10, "").slowly(6, Duration::from_millis(500)));
    let seen = Running::on(&api).await.synced().await;
    assert_eq!((seen.services().len(), seen.counts.restarts.load(Ordering::Relaxed)), (50, 0));
    assert!(seen.troubles.is_empty(), "{:?}", seen.troubles);
}

#[tokio::test]
async fn patience_grows_with_a_list_that_is_silent() {
    let api = Api::start().await;
    // Silent for longer than the patience at first: given up, and waited for longer then.
    let slow = Reply::page(&[service("default", "a", 5)], 10, "").slowly(1, Duration::from_secs(3));
    api.on("list services", slow.clone());
    api.on("list services", slow);
    let seen = Running::on(&api).await.synced().await;
    assert_eq!((seen.services().len(), seen.counts.restarts.load(Ordering::Relaxed)), (1, 1));
    assert!(seen.troubles[0].text.contains("nothing came for 2 s"), "{:?}", seen.troubles);
}

#[tokio::test]
async fn a_dead_connection_is_noticed() {
    let api = Api::start().await;
    api.on("list services", Reply::page(&[service("default", "a", 5)], 10, ""));
    api.on("watch services", Reply::watch(&[bookmark(15)], End::Silence));
    api.on("watch services", Reply::watch(&[event("ADDED", &service("default", "b", 16))], End::Silence));
    let mut seen = Running::on(&api).await.synced().await;
    seen.until("the next watch", |seen| seen.services().len() == 2).await;
    assert_eq!(api.watches("services")[1].parameter("resourceVersion"), Some("15"));
    assert_eq!(seen.lists, 1);
}

#[tokio::test]
async fn broken_connections_and_busy_servers_are_overcome() {
    let api = Api::start().await;
    api.on("list services", Reply::page(&[service("default", "a", 5)], 10, ""));
    api.on("watch services", Reply::watch(&[event("ADDED", &service("default", "b", 11))], End::Cut));
    api.on("watch services", Reply::json(429, &json!({"message": "too many"})).header("retry-after", "1"));
    api.on("watch services", Reply::json(503, &json!({"message": "starting"})));
    api.on("watch services", Reply::watch(&[String::from("this is not JSON\n")], End::Close));
    let mut seen = Running::on(&api).await.synced().await;
    let c = service("default", "c", 15);
    api.set("list services", Reply::page(&[service("default", "a", 5), service("default", "b", 11), c], 15, ""));
    seen.until("the third", |seen| seen.services().len() == 3).await;
    seen.until("recovered", |seen| !seen.recovered.is_empty()).await;
    assert!(seen.counted.iter().all(|&count| count >= 1));
    let watches = api.watches("services");
    assert_eq!(watches[1].parameter("resourceVersion"), Some("11"));
}

#[tokio::test]
async fn a_trouble_is_told_once_then_at_intervals_then_its_end() {
    let api = Api::start().await;
    api.on("list services", Reply::page(&[service("default", "a", 5)], 10, ""));
    for _ in 0..14 {
        api.on("watch services", Reply::json(503, &json!({"message": "starting"})));
    }
    let mut seen = Running::on(&api).await.synced().await;
    seen.until("recovered", |seen| !seen.recovered.is_empty()).await;
    let told = seen.troubles.len();
    // Fourteen failures within a second or so, told every 0.3 s.
    assert!((2..10).contains(&told), "{told}");
    assert!(seen.troubles[0].known && seen.troubles[0].to_string().contains("stays in effect"), "{}", seen.troubles[0]);
    assert_eq!(seen.recovered[0].kind, ObjectKind::Service);
    assert_eq!(seen.services(), ["default/a"]);
}

#[tokio::test]
async fn an_object_that_is_not_valid_is_left_out_alone() {
    let api = Api::start().await;
    let mut wrong_type = service("default", "wrong-type", 6);
    wrong_type["spec"]["ports"] = json!("none");
    let mut wrong_port = service("default", "wrong-port", 6);
    wrong_port["spec"]["ports"][0]["port"] = json!(70_000);
    let all = [service("default", "a", 5), wrong_type.clone(), wrong_port, json!(7), service("default", "b", 6)];
    api.on("list services", Reply::page(&all, 10, ""));
    wrong_type["metadata"]["name"] = json!("b");
    wrong_type["metadata"]["resourceVersion"] = json!("11");
    let lines = [event("MODIFIED", &wrong_type), event("ADDED", &service("default", "c", 12))];
    api.on("watch services", Reply::watch(&lines, End::Silence));
    let mut seen = Running::on(&api).await.synced().await;
    seen.until("the change", |seen| seen.services() == ["default/a", "default/c"]).await;
    assert!(seen.troubles.is_empty());
}

#[tokio::test]
async fn a_list_of_which_nothing_can_be_read_is_a_failed_list() {
    let api = Api::start().await;
    api.on("list services", Reply::page(&[service("default", "a", 5)], 10, ""));
    api.on("watch services", Reply::json(410, &gone()));
    api.on("list services", Reply::page(&[json!({"metadata": {"name": "A!", "namespace": "default"}})], 20, ""));
    let mut seen = Running::on(&api).await.synced().await;
    seen.until("a trouble", |seen| !seen.troubles.is_empty()).await;
    assert_eq!(seen.services(), ["default/a"]);
    assert!(seen.troubles[0].text.contains("none of the 1 objects"), "{}", seen.troubles[0]);
}

#[tokio::test]
async fn a_cluster_that_went_back_in_time_is_listed_anew() {
    let api = Api::start().await;
    api.on("list services", Reply::page(&[service("default", "a", 5), service("default", "b", 90)], 100, ""));
    api.on("watch services", Reply::watch(&[bookmark(101)], End::Cut));
    api.on("list services", Reply::page(&[service("default", "a", 5)], 50, ""));
    // The first is for the permissions, the second for the doubt after the connection broke.
    api.on("probe services", Reply::page(&[], 100, ""));
    api.on("probe services", Reply::page(&[], 50, ""));
    let mut seen = Running::on(&api).await.synced().await;
    seen.until("the older state", |seen| seen.services() == ["default/a"]).await;
    assert_eq!(seen.lists, 2);
    let after = api.watches("services");
    seen.until("a watch from there", |_| api.watches("services").len() >= after.len()).await;
}

#[tokio::test]
async fn namespaces_are_followed_one_by_one() {
    let api = Api::start().await;
    api.on("list a/services", Reply::page(&[service("a", "one", 5), service("a", "two", 5)], 10, ""));
    api.on("list b/services", Reply::page(&[service("b", "one", 5)], 12, ""));
    let three = Reply::watch(&[event("ADDED", &service("a", "three", 11))], End::Cut);
    api.on("watch a/services", three);
    let namespaces = vec!["b".to_owned(), "a".to_owned(), "a".to_owned()];
    let mut seen = Running::start(KubeSettings { namespaces, ..settings(&api) }).await.synced().await;
    seen.until("the change", |seen| seen.services().len() == 4).await;
    api.set("list a/services", Reply::page(&[service("a", "two", 5), service("a", "four", 20)], 30, ""));
    api.on("watch a/services", Reply::json(410, &gone()));
    seen.until("the new list", |seen| seen.services() == ["a/four", "a/two", "b/one"]).await;
    assert_eq!(seen.lists, 0, "a list of one namespace is no list of all Services");
    assert!(api.asked("/api/v1/services").is_empty() && !api.asked("/api/v1/nodes").is_empty());
}

#[tokio::test]
async fn events_that_are_ready_together_come_together() {
    let api = Api::start().await;
    let lines: Vec<_> = (0..2000).map(|n| event("ADDED", &service("default", &format!("s{n}"), 20 + n))).collect();
    api.on("watch services", Reply::watch(&[lines.concat()], End::Silence));
    let mut seen = Running::on(&api).await.synced().await;
    seen.until("all", |seen| seen.services().len() == 2000).await;
    assert!(seen.batches.len() < 200, "{} batches", seen.batches.len());
}

#[tokio::test]
async fn endpoints_are_read_where_there_are_no_slices() {
    let api = Api::start().await;
    api.on("/apis/discovery.k8s.io/v1", Reply::json(404, &json!({"message": "no"})));
    let endpoints = json!({
        "metadata": {"namespace": "default", "name": "a", "resourceVersion": "3"},
        "subsets": [{"addresses": [{"ip": "10.2.0.1"}], "ports": [{"port": 80}]}],
    });
    api.on("list endpoints", Reply::page(&[endpoints], 10, ""));
    let seen = Running::on(&api).await.synced().await;
    assert_eq!(seen.snapshot.endpoints(&ServiceKey::new("default", "a").unwrap()).count(), 1);
    assert!(api.asked("endpointslices").is_empty());
    // A change says which API it is of.
    let key = crate::source::kube::resource::Resource::Endpoints.key(r#"{"metadata":{"name":"a","namespace":"b"}}"#);
    let of = lbex_core::model::EndpointListKey { api: Api2::Endpoints, namespace: "b".into(), name: "a".into() };
    assert_eq!(key, Some(crate::source::kube::resource::Key::Endpoints(of)));
}

#[tokio::test]
async fn everything_ends_when_nobody_listens() {
    let api = Api::start().await;
    let source = KubeSource::connect_with(settings(&api), quick()).await.unwrap();
    let (tx, rx) = mpsc::channel(1);
    let observer: Arc<dyn SourceObserver> = Arc::new(Counts::default());
    let mut handle = source.run(&observer, tx);
    drop(rx);
    for _ in 0..4 {
        tokio::time::timeout(LIMIT, handle.ended()).await.unwrap().unwrap();
    }
}

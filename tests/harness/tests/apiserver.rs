//! The API server starts, takes objects, restarts, pauses, forgets its history, and knows who may do what.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::http;
use lbex_test_harness::objects::{Object, Objects, endpoint, endpoints, node, service, slice};
use lbex_test_harness::wait::{SOON, eventually, eventually_is};
use serde_json::json;
use tokio::time::timeout;

async fn objects(server: &ApiServer) -> Result<Objects> {
    Ok(Objects::new(server.client().await?, server.namespace().await?))
}

async fn client_of(kubeconfig: &std::path::Path) -> Result<Client> {
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &options).await?;
    Ok(Client::try_from(config)?)
}

#[tokio::test]
async fn objects_are_written_changed_and_deleted() -> Result<()> {
    let server = ApiServer::shared().await?;
    let objects = objects(server).await?;
    let web = service("web").ask().tcp("http", 80, 0).udp("dns", 53, 0).listen("http", 8080);
    let made = objects.create(&web).await?;
    ensure!(made["spec"]["ports"][0]["nodePort"].is_u64(), "{made}");
    objects.annotate("Service", "web", "loadbalancer.lbex/algorithm", Some("least_conn")).await?;
    assert_eq!(
        objects.get("Service", "web").await?["metadata"]["annotations"]["loadbalancer.lbex/algorithm"],
        "least_conn"
    );
    objects.put(&web).await?;
    let annotations = objects.get("Service", "web").await?["metadata"]["annotations"].clone();
    assert_eq!(annotations, web.json()["metadata"]["annotations"]);
    objects.put(&slice("web-1", "web").tcp("http", 80).endpoint(endpoint("198.18.0.2").terminating())).await?;
    objects
        .create(&endpoints("web").subset(&[("198.18.0.2", "n")], &[], &json!([{"name": "http", "port": 80}])))
        .await?;
    objects.delete("Service", "web").await?;
    assert_eq!(objects.list("Service").await?, Vec::<serde_json::Value>::new());
    Ok(())
}

#[tokio::test]
async fn nodes_keep_the_status_that_tests_write() -> Result<()> {
    let server = ApiServer::shared().await?;
    let objects = objects(server).await?;
    let name = format!("node-{}", objects.namespace());
    objects.create(&node(&name).internal("127.0.0.2").external("127.0.1.2").label("zone", "a")).await?;
    let ready = |value: &serde_json::Value| value["status"]["conditions"][0]["status"].clone();
    let made = objects.get("Node", &name).await?;
    assert_eq!(ready(&made), "True");
    assert_eq!(made["status"]["addresses"][1]["address"], "127.0.1.2");
    objects
        .put(&node(&name).internal("127.0.0.3").not_ready().taint("ToBeDeletedByClusterAutoscaler", "NoSchedule"))
        .await?;
    let changed = objects.get("Node", &name).await?;
    assert_eq!(ready(&changed), "False");
    assert_eq!(changed["status"]["addresses"], json!([{"type": "InternalIP", "address": "127.0.0.3"}]));
    objects.delete("Node", &name).await
}

#[tokio::test]
async fn each_namespace_is_a_new_one_and_services_may_be_dual_stack() -> Result<()> {
    let server = ApiServer::shared().await?;
    assert_ne!(server.namespace().await?, server.namespace().await?);
    let made = objects(server).await?.create(&service("six").tcp("", 80, 0).families(&["IPv6", "IPv4"])).await?;
    let ips = made["spec"]["clusterIPs"].as_array().context("no clusterIPs")?.len();
    assert_eq!(ips, 2, "{made}");
    Ok(())
}

#[tokio::test]
async fn a_service_account_may_do_what_its_role_says_until_it_is_deleted() -> Result<()> {
    let server = ApiServer::shared().await?;
    let objects = objects(server).await?;
    let role = format!("role-{}", objects.namespace());
    server.cluster_role(&role, &json!([{"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}])).await?;
    let access = server.access(objects.namespace(), "reader", &role).await?;
    let client = client_of(&access.kubeconfig).await?;
    let services: Api<Service> = Api::all(client.clone());
    eventually("the role counts", SOON, || async { services.list(&ListParams::default()).await }).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client, objects.namespace());
    let refused = accounts.list(&ListParams::default()).await.unwrap_err();
    ensure!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused:?}");

    let admin: Api<ServiceAccount> = Api::namespaced(server.client().await?, objects.namespace());
    admin.delete("reader", &DeleteParams::default()).await?;
    eventually("the token is worthless", SOON, || async {
        match services.list(&ListParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 401 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn kubectl_and_its_proxy_work() -> Result<()> {
    let server = ApiServer::shared().await?;
    let namespace = server.namespace().await?;
    let text = service("web").tcp("", 80, 0).namespace(&namespace).json().to_string();
    let said = server.kubectl(&["apply", "-f", "-"], &text).await?;
    assert_eq!(said, "service/web created\n");
    assert!(server.kubectl(&["get", "nonsense"], "").await.is_err());
    let proxy = server.proxy().await?;
    let answer = http::get(proxy.address(), &format!("/api/v1/namespaces/{namespace}/services/web")).await?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    Ok(())
}

#[tokio::test]
async fn a_restart_keeps_port_and_data_and_a_pause_answers_nothing() -> Result<()> {
    let mut server = ApiServer::start().await?;
    let objects = objects(&server).await?;
    objects.create(&service("web").tcp("", 80, 0)).await?;
    let url = server.url();
    server.stop();
    assert!(server.pause().is_err());
    assert!(tokio::net::TcpStream::connect(server.address()).await.is_err());
    server.start_again().await?;
    assert_eq!(server.url(), url);
    objects.get("Service", "web").await?;
    server.pause()?;
    let fresh = Objects::new(server.client().await?, objects.namespace());
    assert!(timeout(Duration::from_millis(500), fresh.get("Service", "web")).await.is_err());
    server.resume()?;
    fresh.get("Service", "web").await?;
    server.check_running()
}

#[tokio::test]
async fn after_compaction_old_versions_are_gone() -> Result<()> {
    let server = ApiServer::builder().without_watch_cache().start().await?;
    let objects = objects(&server).await?;
    let first = objects.create(&service("one").tcp("", 80, 0)).await?;
    let version = first["metadata"]["resourceVersion"].as_str().context("no version")?;
    objects.create(&service("two").tcp("", 80, 0)).await?;
    server.compact().await?;
    let services: Api<Service> = Api::namespaced(server.client().await?, objects.namespace());
    let mut watch = Box::pin(services.watch(&WatchParams::default(), version).await?);
    match timeout(SOON, watch.next()).await? {
        Some(Ok(WatchEvent::Error(status))) => assert_eq!(status.code, 410, "{status:?}"),
        other => anyhow::bail!("no 410 but {other:?}"),
    }
    Ok(())
}

#[tokio::test]
async fn a_deployment_gets_pods_and_slices_of_simulated_nodes() -> Result<()> {
    let server = ApiServer::builder().controller_manager().scheduler().kwok("198.18.0.0/24").start().await?;
    let objects = objects(&server).await?;
    objects.create(&node("simulated").internal("127.0.0.2")).await?;
    objects.create(&service("web").selector("app", "web").tcp("http", 80, 0)).await?;
    objects
        .create(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {
                "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "web", "image": "web"}]},
                },
            },
        }))
        .await?;
    let count = |condition: &'static str| {
        let objects = objects.clone();
        move || {
            let objects = objects.clone();
            async move {
                let slices = objects.list("EndpointSlice").await.unwrap_or_default();
                let endpoints = slices.iter().filter_map(|slice| slice["endpoints"].as_array()).flatten();
                let here = endpoints.filter(|endpoint| endpoint["nodeName"] == "simulated");
                here.filter(|endpoint| endpoint["conditions"][condition] == true).count()
            }
        }
    };
    let all = eventually_is("three ready endpoints", Duration::from_secs(60), 3, count("ready")).await;
    all.with_context(|| {
        format!("kwok: {}\nscheduler: {}", server.log_tail("kwok"), server.log_tail("kube-scheduler"))
    })?;
    objects.patch("Deployment", "web", &json!({"spec": {"replicas": 1}})).await?;
    // Both, but not for long, and one may be gone before the other is seen.
    eventually("some end", Duration::from_secs(60), || async {
        let ending = count("terminating")().await;
        ensure!(ending >= 1, "{ending}");
        Ok(())
    })
    .await?;
    eventually_is("one is left", Duration::from_secs(60), 1, count("serving")).await?;
    assert_eq!(count("ready")().await, 1);
    server.check_running()
}

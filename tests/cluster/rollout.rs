//! A rolling update of a real Deployment, seen from end to end: Kubernetes makes Pods and EndpointSlices, LBEX follows.
//!
//! Pods are simulated (kwok), with addresses at which backends of the test answer with the address as their name. So what answers
//! says which Pod a client would have reached.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::backends::Echo;
use lbex_test_harness::netns::Netns;
use lbex_test_harness::objects::{node, service};
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::eventually;
use serde_json::{Value, json};

use crate::common::{Cluster, Steady, spread_is, tcp_is};

/// How long Kubernetes may take for a rolling update, on a busy machine.
const ROLLED: Duration = Duration::from_secs(90);

fn deployment(replicas: u8, version: &str, node: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": {"app": "web", "version": version}},
                "spec": {
                    "nodeSelector": {"for": node}, "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "web", "image": "web", "ports": [{"name": "http", "containerPort": 8080}],
                    }],
                },
            },
        },
    })
}

/// The addresses of the ready endpoints, by Kubernetes' own account, once there are `count`, none of them in `old`.
async fn ready(cluster: &Cluster, count: usize, old: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    eventually(&format!("{count} new endpoints are ready"), ROLLED, || async {
        let slices = cluster.objects.list("EndpointSlice").await?;
        let of_pods = slices.iter().filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == "pods");
        let endpoints = of_pods.filter_map(|slice| slice["endpoints"].as_array()).flatten();
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        let addresses: BTreeSet<String> =
            ready.filter_map(|endpoint| endpoint["addresses"][0].as_str().map(ToOwned::to_owned)).collect();
        ensure!(addresses.len() == count && addresses.is_disjoint(old), "{addresses:?}");
        Ok(addresses)
    })
    .await
}

async fn reach(port: u16, addresses: &BTreeSet<String>) -> Result<()> {
    spread_is(port, &addresses.iter().map(String::as_str).collect::<Vec<_>>()).await
}

#[tokio::test]
async fn a_rolling_update_is_followed_without_a_client_lost() -> Result<()> {
    let netns = Netns::new()?;
    // Half of the namespace's network is the Pods'.
    let server =
        ApiServer::builder().controller_manager().scheduler().kwok(&format!("{}/27", netns.v4(31))).start().await?;
    let pods: Result<Vec<Echo>> = (31..=60)
        .map(|n| Echo::new(&netns.v4(n).to_string()).ip(netns.v4(n)).port(8080).tcp_only().inside(&netns).start())
        .collect();
    let _pods = pods?;
    let cluster = Cluster::on(&server).await?;
    cluster.objects.delete("Node", cluster.node()).await?;
    let ip = |last| IpAddr::from([127, 0, 8, last]);
    let nodes = Echo::on_one_port([("first", ip(1)), ("second", ip(2))])?;
    for (number, name) in (1..).zip(["first", "second"]) {
        cluster.objects.create(&node(name).internal(ip(number)).label("for", name)).await?;
    }
    let (by_pod, by_node) = (free_port()?, free_port()?);
    let http = |node_port: u16| json!({"name": "http", "port": 80, "targetPort": "http", "nodePort": node_port});
    let web = |name: &str, listen| service(name).ask().selector("app", "web").listen("http", listen);
    cluster.objects.create(&web("nodes", by_node).port(http(nodes[0].port()))).await?;
    cluster.objects.create(&web("pods", by_pod).port(http(free_port()?)).lbex("upstream-type", "pod")).await?;
    cluster.objects.create(&deployment(3, "one", "first")).await?;

    let lbex = cluster.start(&[]).await?;
    let before = ready(&cluster, 3, &BTreeSet::new()).await;
    let before = before.with_context(|| server.log_tail("kwok") + &server.log_tail("kube-scheduler"))?;
    reach(by_pod, &before).await?;
    spread_is(by_node, &["first"]).await?;

    // To other Pods, on another node: every client is answered throughout.
    let is_pod = |seen: &str| seen.parse::<IpAddr>().is_ok();
    let clients = [Steady::start_with(by_pod, is_pod), Steady::start_with(by_node, |seen| !seen.contains(' '))];
    cluster.objects.put(&deployment(3, "two", "second")).await?;
    let after = ready(&cluster, 3, &before).await?;
    reach(by_pod, &after).await?;
    spread_is(by_node, &["second"]).await?;
    for clients in clients {
        clients.finish().await?;
    }
    ensure!(!lbex.log().contains(" ERROR "), "{}", lbex.log());

    // Fewer, none, and back.
    for replicas in [1, 0] {
        cluster.objects.put(&deployment(replicas, "two", "second")).await?;
        match ready(&cluster, replicas.into(), &before).await? {
            none if none.is_empty() => tcp_is(by_pod, "closed").await?,
            some => reach(by_pod, &some).await?,
        }
    }
    tcp_is(by_node, "closed").await?;
    cluster.objects.put(&deployment(2, "two", "second")).await?;
    reach(by_pod, &ready(&cluster, 2, &before).await?).await
}

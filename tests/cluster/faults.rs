//! The API server is away, forgets, stands still, or no longer knows LBEX: nothing is removed meanwhile, traffic goes on, and
//! changes arrive afterwards.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::link::Link;
use lbex_test_harness::objects::Objects;
use lbex_test_harness::wait::{SOON, eventually};
use serde_json::{Value, json};

use crate::common::{Cluster, Served, Steady, tcp_is};

/// How long LBEX may take to follow the cluster again: its pauses between attempts grow meanwhile.
const AGAIN: Duration = Duration::from_secs(40);

/// What is served while something goes wrong.
struct Watched {
    cluster: Cluster,
    lbex: Lbex,
    kept: Served,
    going: Served,
    steady: Steady,
}

impl Watched {
    /// LBEX with this kubeconfig, one Service that stays and one that goes.
    async fn start(cluster: Cluster, kubeconfig: PathBuf) -> Result<Self> {
        let cluster = Cluster { kubeconfig, ..cluster };
        let kept = cluster.serve("kept", |service| service).await?;
        let going = cluster.serve("going", |service| service).await?;
        let lbex = cluster.start(&["--reload-interval=100ms"]).await?;
        tcp_is(kept.port, "kept").await?;
        tcp_is(going.port, "going").await?;
        let steady = Steady::start(kept.port, "kept");
        Ok(Self { cluster, lbex, kept, going, steady })
    }

    /// Nothing has changed: both are served, by an LBEX that is healthy.
    async fn serves_on(&self) -> Result<()> {
        tcp_is(self.kept.port, "kept").await?;
        tcp_is(self.going.port, "going").await?;
        self.lbex.wait_healthy().await?;
        ensure!(self.cluster.configuration(&self.lbex, "going").is_ok());
        Ok(())
    }

    /// Waits until the metric says that LBEX has lost the API server.
    async fn is_lost(&self) -> Result<()> {
        self.is_connected(0.0).await
    }

    async fn is_connected(&self, expected: f64) -> Result<()> {
        eventually("lbex_source_connected", AGAIN, || async {
            let connected = self.lbex.metric("lbex_source_connected", &[]).await?;
            ensure!(connected == Some(expected), "{connected:?}");
            Ok(())
        })
        .await
    }

    /// What was changed meanwhile arrives: `going` is gone, and a new Service is there. The one that stays was served throughout.
    async fn catches_up(self, new: &Served) -> Result<()> {
        eventually("the new Service is served", AGAIN, || async {
            let answer = crate::common::answer(crate::common::local(new.port)).await;
            ensure!(answer == "new", "{answer}; {}", self.lbex.log_tail());
            Ok(())
        })
        .await?;
        tcp_is(self.going.port, "refused").await?;
        self.is_connected(1.0).await?;
        self.steady.finish().await
    }

    async fn change(&self) -> Result<Served> {
        self.cluster.objects.delete("Service", "going").await?;
        self.cluster.serve("new", |service| service).await
    }
}

/// The kubeconfig of an API server, by way of a link.
async fn linked(server: &ApiServer, scratch: &Scratch, user: Option<Value>) -> Result<(Link, PathBuf)> {
    let link = Link::to(server.address()).await?;
    let original = match user {
        Some(user) => server.kubeconfig_with(&user)?,
        None => server.kubeconfig_admin().to_owned(),
    };
    let text = std::fs::read_to_string(original)?.replace(&server.address().to_string(), &link.address().to_string());
    let path = scratch.join("linked.kubeconfig");
    std::fs::write(&path, text)?;
    Ok((link, path))
}

#[tokio::test]
async fn the_api_server_stops_stands_still_and_restarts() -> Result<()> {
    let mut server = ApiServer::start().await?;
    let cluster = Cluster::on(&server).await?;
    let kubeconfig = cluster.kubeconfig.clone();
    let watched = Watched::start(cluster, kubeconfig).await?;
    server.stop();
    watched.is_lost().await?;
    watched.lbex.wait_log("what was last known of them stays in effect", SOON).await?;
    watched.serves_on().await?;
    server.start_again().await?;
    watched.lbex.wait_log("again, after", AGAIN).await?;
    watched.serves_on().await?;

    server.pause()?;
    watched.serves_on().await?;
    server.resume()?;
    // The test's own client may hold a connection that ended with the server.
    let objects = Objects::new(server.client().await?, watched.cluster.namespace());
    objects.delete("Service", "going").await?;
    let cluster = Cluster { objects, ..watched.cluster };
    let new = cluster.serve("new", |service| service).await?;
    Watched { cluster, ..watched }.catches_up(&new).await
}

#[tokio::test]
async fn history_is_gone_when_lbex_comes_back() -> Result<()> {
    let server = ApiServer::builder().without_watch_cache().start().await?;
    let scratch = Scratch::new("linked")?;
    let (link, kubeconfig) = linked(&server, &scratch, None).await?;
    let watched = Watched::start(Cluster::on(&server).await?, kubeconfig).await?;
    link.cut();
    watched.is_lost().await?;
    let new = watched.change().await?;
    // LBEX serves what it last knew, although the cluster has moved on.
    watched.serves_on().await?;
    server.compact().await?;
    let mark = watched.lbex.log_mark();
    link.mend();
    watched.lbex.wait_log_since(mark, "410", AGAIN).await?;
    watched.catches_up(&new).await
}

#[tokio::test]
async fn connections_break_again_and_again() -> Result<()> {
    let server = ApiServer::shared().await?;
    let scratch = Scratch::new("linked")?;
    let (link, kubeconfig) = linked(server, &scratch, None).await?;
    let watched = Watched::start(Cluster::new().await?, kubeconfig).await?;
    for _ in 0..3 {
        let mark = watched.lbex.log_mark();
        link.cut();
        watched.is_lost().await?;
        watched.serves_on().await?;
        link.mend();
        watched.lbex.wait_log_since(mark, "again, after", AGAIN).await?;
        watched.is_connected(1.0).await?;
    }
    let new = watched.change().await?;
    watched.catches_up(&new).await
}

#[tokio::test]
async fn a_token_is_worth_nothing_any_more_until_its_file_is_renewed() -> Result<()> {
    let server = ApiServer::shared().await?;
    let cluster = Cluster::new().await?;
    let scratch = Scratch::new("linked")?;
    let role = cluster.name("reader");
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]);
    server.cluster_role(&role, &everything).await?;
    let access = server.access(cluster.namespace(), "lbex", &role).await?;
    let file = scratch.join("token");
    std::fs::write(&file, &access.token)?;
    let user = format!("--as=system:serviceaccount:{}:lbex", cluster.namespace());
    let can = ["auth", "can-i", "watch", "nodes", &user];
    eventually("the role counts", SOON, || server.kubectl(&can, "")).await?;
    let (link, kubeconfig) = linked(server, &scratch, Some(json!({"tokenFile": file}))).await?;
    let watched = Watched::start(cluster, kubeconfig).await?;

    let objects = &watched.cluster.objects;
    objects.delete("ServiceAccount", "lbex").await?;
    objects.create(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "lbex"}})).await?;
    let client = ["--token", &access.token, "--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "--server"];
    let url = server.url();
    let list = [&client[..], &[&url, "get", "nodes"]].concat();
    eventually("the old token is worth nothing", SOON, || async {
        match server.kubectl(&list, "").await {
            Err(error) if error.to_string().contains("must be logged in") => Ok(()),
            other => Err(anyhow::anyhow!("{other:?}")),
        }
    })
    .await?;
    // Watches that run go on; a new one is refused.
    link.cut();
    watched.is_lost().await?;
    let new = watched.change().await?;
    link.mend();
    watched.lbex.wait_log("401", AGAIN).await?;
    watched.serves_on().await?;
    std::fs::write(&file, server.token_for(watched.cluster.namespace(), "lbex").await?)?;
    watched.catches_up(&new).await
}

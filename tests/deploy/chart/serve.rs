//! LBEX as the rendered Pod runs it: its arguments and settings, its user and capability, its ServiceAccount with exactly the rights of
//! the rendered roles. What stands for the kubelet is here.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::backends::{Echo, tcp_ask};
use lbex_test_harness::lbex::{Builder, Lbex};
use lbex_test_harness::objects::{Objects, node, service, slice};
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually};
use lbex_test_harness::{Scratch, programs};
use serde_json::{Value, json};

use crate::rights;

use super::{NAMESPACE, objects, template};

fn find<'a>(list: &'a [Value], kind: &str) -> Result<&'a Value> {
    list.iter().find(|object| object["kind"] == kind).with_context(|| format!("no {kind}"))
}

fn put(folder: &Path, name: &str, text: &str) -> Result<()> {
    std::fs::write(folder.join(name), text)?;
    Ok(std::fs::set_permissions(folder.join(name), PermissionsExt::from_mode(0o644))?)
}

/// The folder in which a Pod's files are, for its user too.
struct Pod {
    files: Scratch,
}

impl Pod {
    /// Lays out what the kubelet mounts, and starts the container's program as the Pod says.
    async fn start(&self, server: &ApiServer, list: &[Value]) -> Result<Builder> {
        let spec = &list
            .iter()
            .find(|o| o["kind"] == "DaemonSet" || o["kind"] == "Deployment")
            .context("no workload")?["spec"];
        let spec = &spec["template"]["spec"];
        let account = spec["serviceAccountName"].as_str().context("no ServiceAccount")?;
        let token = server.token_for(NAMESPACE, account).await?;
        for folder in ["account", "settings", "state"] {
            std::fs::create_dir(self.files.join(folder))?;
        }
        put(&self.files.join("account"), "token", &token)?;
        put(&self.files.join("account"), "ca.crt", server.ca_pem())?;
        put(
            &self.files.join("settings"),
            "lbex.yaml",
            find(list, "ConfigMap")?["data"]["lbex.yaml"].as_str().context("no settings")?,
        )?;
        // As an emptyDir is with fsGroup.
        let security = &spec["securityContext"];
        let (user, group) =
            (security["runAsUser"].as_u64().context("no user")?, security["fsGroup"].as_u64().context("no group")?);
        std::os::unix::fs::chown(self.files.join("state"), Some(0), Some(u32::try_from(group)?))?;
        std::fs::set_permissions(self.files.join("state"), PermissionsExt::from_mode(0o2777))?;
        let program = self.files.join("program");
        programs::copy(Path::new(env!("CARGO_BIN_EXE_lbex")), &program)?;

        let container = &spec["containers"][0];
        assert_eq!(container["securityContext"]["capabilities"], json!({"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}));
        let folder = self.files.path().display();
        let mounts = format!(
            "mount -t tmpfs tmpfs /run && mkdir -p /var/run/secrets/kubernetes.io/serviceaccount && \
             mount --bind '{folder}/account' /var/run/secrets/kubernetes.io/serviceaccount && exec \"$@\""
        );
        let unshare = programs::find("unshare")?.display().to_string();
        let setpriv = programs::find("setpriv")?.display().to_string();
        let ids = [format!("--reuid={user}"), format!("--regid={user}"), format!("--groups={group}")];
        let rights = [
            "--inh-caps=-all,+net_bind_service",
            "--ambient-caps=-all,+net_bind_service",
            "--bounding-set=-all,+net_bind_service",
        ];
        let under =
            [unshare, "--mount".to_owned(), "/bin/sh".to_owned(), "-c".to_owned(), mounts, "sh".to_owned(), setpriv];
        let under = under.into_iter().chain(ids).chain(rights.map(str::to_owned)).chain(["--no-new-privs".to_owned()]);
        let mut lbex = Lbex::builder(&program).under(under);
        for argument in container["args"].as_array().context("no arguments")? {
            let argument = argument.as_str().context("no text")?;
            // Ports of a host, which has others: the harness gives its own.
            if argument.starts_with("--health-port=") || argument.starts_with("--metrics-address=$(POD_IP):") {
                continue;
            }
            let argument = argument.replace("/etc/lbex", &self.files.join("settings").display().to_string());
            lbex = lbex.arg(argument.replace("/var/lib/lbex", &self.files.join("state").display().to_string()));
        }
        let lbex = lbex.prefix(&self.files.join("state/state"));
        Ok(lbex
            .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            .env("KUBERNETES_SERVICE_PORT", &server.address().port().to_string()))
    }
}

/// Installs the chart for real, runs LBEX as it says, and has it serve a Service of the namespace `default`.
async fn serves(release: &str, arguments: &[&str]) -> Result<()> {
    let server = ApiServer::shared().await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    server.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &namespace.to_string()).await?;
    let rendered = template(release, arguments)?;
    let list = objects(&server.kubectl(&["apply", "-o", "json", "-f", "-"], &rendered).await?)?;

    let client = Objects::new(server.client().await?, "default".to_owned());
    let (backend, port) = (Echo::new(release).start()?, free_port()?);
    client.create(&node(release).internal(std::net::Ipv4Addr::LOCALHOST)).await?;
    client.create(&slice(&format!("{release}-1"), release).tcp("http", 80).ready("198.51.100.1", release)).await?;
    client.create(&service(release).ask().tcp("http", 80, backend.port()).listen("http", port)).await?;

    let pod = Pod { files: Scratch::for_nginx("pod")? };
    let account = find(&list, "ServiceAccount")?["metadata"]["name"].as_str().context("no name")?.to_owned();
    let user = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
    let can_watch = ["auth", "can-i", "watch", "services", "-n", "default", &user];
    eventually("the API server knows the role", SOON, || server.kubectl(&can_watch, "")).await?;
    let lbex = pod.start(server, &list).await?.start().await?;
    lbex.wait_healthy().await?;
    let answer = eventually("the Service answers", SOON, || tcp_ask(([127, 0, 0, 1], port).into())).await?;
    assert_eq!(answer, release);
    // NGINX answers before it is confirmed that all of it does, which is what LBEX waits for.
    eventually("the probes are good", SOON, || async {
        for probe in ["/readyz", "/livez"] {
            let answer = lbex.get(probe).await?;
            ensure!(answer.status == 200, "{probe}: {} {:?}", answer.status, answer.body);
        }
        Ok(())
    })
    .await?;
    ensure!(!lbex.log().contains("needs the verb"), "{}", lbex.log());
    // No more than that.
    for (verb, what) in [
        ("get", "secrets"),
        ("list", "pods"),
        ("patch", "services"),
        ("create", "events"),
        ("get", "namespaces/default"),
    ] {
        let may = server.kubectl(&["auth", "can-i", verb, what, "-n", "default", &user], "").await;
        ensure!(may.is_err(), "{account} may {verb} {what}");
    }
    Ok(())
}

#[tokio::test]
async fn on_edge_nodes_with_the_cluster_role() -> Result<()> {
    serves("edge-lbex", &["--values", &super::chart().join("ci/1-edge-nodes.yaml").display().to_string()]).await?;
    let server = ApiServer::shared().await?;
    assert_eq!(rights::of(server, "edge-lbex").await?, rights::of_the_example(server).await?);
    Ok(())
}

#[tokio::test]
async fn in_some_namespaces_with_roles_there() -> Result<()> {
    let values = super::chart().join("ci/4-some-namespaces.yaml").display().to_string();
    serves("some-lbex", &["--values", &values, "--set", "settings.allowed-ports=1-65535"]).await
}
